package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(int(newApp(os.Stdout, os.Stderr).execute(ctx, os.Args[1:])))
}

// failureOf says how a command that returned err ends: the one place where
// errors become exit codes. Order matters: an error can be several of these.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	f := &failure{code: exitError, class: classError, err: err}
	switch {
	case errors.Is(err, cluster.ErrUnknown):
		f.code, f.class, f.hint = exitUnknown, classUnknown, "whether it happened is not known: `relman status` tells"
	case errors.Is(err, context.Canceled):
		f.code, f.class, f.text = exitInterrupted, classInterrupted, "interrupted"
	case cluster.RefusedBy(err) == cluster.ClassFrozen:
		f.code, f.class = exitFrozen, cluster.ClassFrozen
	case errors.Is(err, cluster.ErrConflict), errors.Is(err, cluster.ErrNotLeader):
		f.code, f.class = exitConflict, cluster.RefusedBy(err)
	case errors.Is(err, cluster.ErrDenied):
		f.code, f.class = exitUnreachable, classEtcdDenied
	case errors.Is(err, cluster.ErrUnavailable):
		f.code, f.class = exitUnreachable, classEtcdUnavailable
	case errors.Is(err, objectstore.ErrDenied):
		f.code, f.class = exitUnreachable, classStoreDenied
	case errors.Is(err, objectstore.ErrUnavailable):
		f.code, f.class = exitUnreachable, classStoreUnavailable
	case errors.Is(err, objectstore.ErrChanged):
		f.code, f.class = exitUsage, classBuildChanged
	case errors.Is(err, objectstore.ErrBuild):
		f.code, f.class = exitUsage, classBuild
	case errors.Is(err, objectstore.ErrCorrupt):
		f.code, f.class = exitCorrupt, classCorrupt
	case errors.Is(err, objectstore.ErrNotFound):
		f.code, f.class = exitUnreachable, classStoreNotFound
		f.hint = "is it the right store? `relman config show` tells which one was asked"
	case errors.Is(err, cluster.ErrNotFound), errors.Is(err, release.ErrInvalid):
		f.code, f.class = exitUsage, classUsage
	}
	return f
}
