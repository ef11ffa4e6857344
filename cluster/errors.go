package cluster

import (
	"errors"
	"fmt"
)

// What a caller branches on.
var (
	// ErrNotLeader: this manager's election key is gone; another one leads.
	ErrNotLeader = errors.New("not the leader")
	// ErrConflict: something that a transaction was decided on has changed.
	ErrConflict = errors.New("conflict")
	// ErrUnknown: the connection was lost while a transaction was under way;
	// it may have committed or may yet commit.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable: etcd cannot be reached or has no leader; nothing changed.
	ErrUnavailable = errors.New("etcd unavailable")
	// ErrNoSpace: etcd's database has reached its quota; it is read-only until
	// somebody makes room. It is ErrUnavailable too.
	ErrNoSpace = fmt.Errorf("%w: its database is full and read-only (alarm NOSPACE): compact and defragment it or raise its quota, then `etcdctl alarm disarm`", ErrUnavailable)
	// ErrDenied: etcd refused the credentials or the key.
	ErrDenied = errors.New("denied by etcd")
	// ErrNotFound: there is no such site, release or node.
	ErrNotFound = errors.New("not found")
)

// Class is the machine-readable name of an error, the same in results, in
// statuses and in `-o json`.
type Class string

// The classes that a guard or a decision gives.
const (
	ClassNotLeader      Class = "E_NOT_LEADER"
	ClassActiveMoved    Class = "E_ACTIVE_MOVED"
	ClassRolloutChanged Class = "E_ROLLOUT_CHANGED"
	ClassNotReady       Class = "E_NOT_READY"
	ClassQuorum         Class = "E_QUORUM"
	ClassRosterChanged  Class = "E_ROSTER_CHANGED"
	ClassPolicyChanged  Class = "E_POLICY_CHANGED"
	ClassFrozen         Class = "E_FROZEN"
	ClassYanked         Class = "E_YANKED"
	ClassReleaseGone    Class = "E_RELEASE_GONE"
	ClassConflict       Class = "E_CONFLICT"
	ClassNotMember      Class = "E_NOT_MEMBER"
	ClassNotLive        Class = "E_NOT_LIVE"
	ClassExists         Class = "E_EXISTS"
	ClassSweeping       Class = "E_SWEEPING"
	ClassUploading      Class = "E_UPLOADING"
	ClassUploadExpired  Class = "E_UPLOAD_EXPIRED"
	ClassDuplicateNode  Class = "E_DUPLICATE_NODE"
	ClassNoRelease      Class = "E_NO_RELEASE"
	ClassAborted        Class = "E_ABORTED"
	ClassSuperseded     Class = "E_SUPERSEDED"
	ClassHook           Class = "E_HOOK"
	ClassReverted       Class = "E_REVERTED"
	ClassSchedule       Class = "E_SCHEDULE"
)

// Refusal says that a transaction changed nothing, and which guard stopped it.
// It is ErrNotLeader or ErrConflict.
type Refusal struct {
	Txn   string // what was tried, "flip www to 000042-…"
	Guard Guard  // the first guard that did not hold
	Found string // what stood there instead, "" for nothing
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: %s: %s", r.Txn, r.Guard.Class, r.Guard.reason(r.Found))
}

// Is makes a Refusal one of the sentinels.
func (r *Refusal) Is(target error) bool {
	if r.Guard.Class == ClassNotLeader {
		return target == ErrNotLeader
	}
	return target == ErrConflict
}

// RefusedBy is the class of the guard that stopped a transaction, "" for any
// other error.
func RefusedBy(err error) Class {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Guard.Class
	}
	return ""
}
