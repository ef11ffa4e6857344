package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// TestFailureOf: every error that a package gives has its exit code and class,
// also inside of others.
func TestFailureOf(t *testing.T) {
	refused := func(c cluster.Class) error {
		return &cluster.Refusal{Txn: "t", Guard: cluster.Guard{Class: c}}
	}
	for _, c := range []struct {
		err   error
		code  exitCode
		class cluster.Class
	}{
		{errors.New("any"), exitError, classError},
		{usagef("bad"), exitUsage, classUsage},
		{usageError(errors.New("bad")), exitUsage, classUsage},
		{cluster.ErrNotFound, exitUsage, classUsage},
		{release.ErrInvalid, exitUsage, classUsage},
		{objectstore.ErrBuild, exitUsage, classBuild},
		{fmt.Errorf("%w: %w", objectstore.ErrBuild, objectstore.ErrChanged), exitUsage, classBuildChanged},
		{cluster.ErrUnavailable, exitUnreachable, classEtcdUnavailable},
		{cluster.ErrNoSpace, exitUnreachable, classEtcdUnavailable},
		{cluster.ErrDenied, exitUnreachable, classEtcdDenied},
		{objectstore.ErrUnavailable, exitUnreachable, classStoreUnavailable},
		{objectstore.ErrDenied, exitUnreachable, classStoreDenied},
		{objectstore.ErrNotFound, exitUnreachable, classStoreNotFound},
		{refused(cluster.ClassConflict), exitConflict, cluster.ClassConflict},
		{refused(cluster.ClassYanked), exitConflict, cluster.ClassYanked},
		{refused(cluster.ClassFrozen), exitFrozen, cluster.ClassFrozen},
		{fmt.Errorf("%w: %w", cluster.ErrUnknown, cluster.ErrUnavailable), exitUnknown, classUnknown},
		{&objectstore.CorruptError{}, exitCorrupt, classCorrupt},
		{context.Canceled, exitInterrupted, classInterrupted},
		{errors.Join(objectstore.ErrUnavailable, context.Canceled), exitInterrupted, classInterrupted},
	} {
		f := failureOf(fmt.Errorf("publish www: %w", c.err))
		if f.code != c.code || f.class != c.class {
			t.Errorf("%v: exit %d %s, want %d %s", c.err, f.code, f.class, c.code, c.class)
		}
	}
}

func TestResultFailure(t *testing.T) {
	for _, c := range []struct {
		state cluster.State
		class cluster.Class
		code  exitCode
	}{
		{cluster.StateFailed, cluster.ClassNotReady, exitNotReady},
		{cluster.StateFailed, cluster.ClassQuorum, exitNotReady},
		{cluster.StateRefused, cluster.ClassFrozen, exitFrozen},
		{cluster.StateRefused, cluster.ClassYanked, exitConflict},
		{cluster.StateSuperseded, cluster.ClassSuperseded, exitConflict},
		{cluster.StateAborted, cluster.ClassAborted, exitConflict},
	} {
		f := resultFailure(cluster.Result{State: c.state, Error: &cluster.ErrorInfo{Class: c.class, Text: "why"}})
		if f.code != c.code || f.class != c.class || f.Error() != "why" {
			t.Errorf("%s %s: exit %d %s %q, want %d", c.state, c.class, f.code, f.class, f, c.code)
		}
	}
}
