package main

import (
	"fmt"

	"relman/cluster"
)

// exitCode alone tells a CI job whether the live release changed.
type exitCode int

const (
	exitOK           exitCode = 0   // done and converged, or already so
	exitError        exitCode = 1   // another error; live did not change
	exitUsage        exitCode = 2   // usage, bad argument, bad configuration; live did not change
	exitUnreachable  exitCode = 3   // etcd or the store unreachable or denied; live did not change
	exitConflict     exitCode = 4   // a guard failed or another request won; live did not change by this one
	exitFrozen       exitCode = 5   // frozen; live did not change
	exitNotReady     exitCode = 6   // not enough nodes ready in time; live did not change
	exitNotConverged exitCode = 7   // flipped, not converged in time; live changed
	exitReverted     exitCode = 8   // flipped, then reverted by itself; live is what it was before
	exitUnknown      exitCode = 9   // cut off during a commit: not known
	exitCorrupt      exitCode = 10  // verification failed; live did not change
	exitInterrupted  exitCode = 130 // it is said what goes on
)

// Classes of errors that no guard gives; the others are cluster's.
const (
	classError            cluster.Class = "E_ERROR"
	classUsage            cluster.Class = "E_USAGE"
	classConfig           cluster.Class = "E_CONFIG"
	classBuild            cluster.Class = "E_BUILD"
	classBuildChanged     cluster.Class = "E_BUILD_CHANGED"
	classEtcdUnavailable  cluster.Class = "E_ETCD_UNAVAILABLE"
	classEtcdDenied       cluster.Class = "E_ETCD_DENIED"
	classStoreUnavailable cluster.Class = "E_STORE_UNAVAILABLE"
	classStoreDenied      cluster.Class = "E_STORE_DENIED"
	classStoreNotFound    cluster.Class = "E_STORE_NOT_FOUND"
	classCorrupt          cluster.Class = "E_CORRUPT"
	classHistory          cluster.Class = "E_HISTORY"
	classUnwell           cluster.Class = "E_UNWELL"
	classNodeUnreachable  cluster.Class = "E_NODE_UNREACHABLE"
	classNotConverged     cluster.Class = "E_NOT_CONVERGED"
	classTimeout          cluster.Class = "E_TIMEOUT"
	classUnknown          cluster.Class = "E_UNKNOWN"
	classInterrupted      cluster.Class = "E_INTERRUPTED"
)

// failure is how a command ends that did not do what was asked.
type failure struct {
	code  exitCode
	class cluster.Class
	text  string   // what happened, to what; "": err says it
	hint  string   // what to do next; "" for nothing
	err   error    // what it comes from; may be nil
	out   *outcome // what else is known, for -o json; may be nil
}

func (f *failure) Error() string {
	if f.text != "" {
		return f.text
	}
	if f.err == nil {
		return string(f.class)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// usagef is a mistake of the one who gave the command.
func usagef(format string, args ...any) *failure {
	return &failure{code: exitUsage, class: classUsage, text: fmt.Sprintf(format, args...)}
}

// withHint adds what to do next.
func (f *failure) withHint(format string, args ...any) *failure {
	f.hint = fmt.Sprintf(format, args...)
	return f
}
