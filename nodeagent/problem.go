package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// The classes of what can go wrong on a node, beside those of package cluster.
const (
	ClassNoSpace       cluster.Class = "E_NO_SPACE"
	ClassDisk          cluster.Class = "E_DISK"
	ClassS3Unreachable cluster.Class = "E_S3_UNREACHABLE"
	ClassS3Denied      cluster.Class = "E_S3_DENIED"
	ClassObjectMissing cluster.Class = "E_OBJECT_MISSING"
	ClassHash          cluster.Class = "E_HASH"
	ClassManifest      cluster.Class = "E_MANIFEST"
	ClassEpochReset    cluster.Class = "E_EPOCH_RESET"
	ClassForeign       cluster.Class = "E_OTHER_CLUSTER"
	ClassEtcd          cluster.Class = "E_ETCD_UNAVAILABLE"
	ClassEtcdDenied    cluster.Class = "E_ETCD_DENIED"
	ClassNode          cluster.Class = "E_NODE"
)

const maxProblem = 500 // bytes of text: a status is a small value

// noSpaceError is a disk that is too full for a release.
type noSpaceError struct {
	needs, has int64
	files      bool // inodes, not bytes
}

func (e *noSpaceError) Error() string {
	if e.files {
		return fmt.Sprintf("disk full, needs %d files, has %d", e.needs, e.has)
	}
	return fmt.Sprintf("disk full, needs %s, has %s", size(e.needs, e.needs), size(e.has, e.needs))
}

func (e *noSpaceError) Unwrap() error { return syscall.ENOSPC }

// size is a number of bytes for people, in the unit that suits another number:
// two that are to be compared are said in one unit.
func size(n, like int64) string {
	const step = 1024
	unit, name := int64(step), "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if like < unit*step {
			break
		}
		unit, name = unit*step, next
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), name)
}

// problem says of an error what a status says of it. Only errors that can pass
// by themselves come here: an agent never gives up.
func problem(err error) *cluster.ErrorInfo {
	text := strings.ToValidUTF8(err.Error(), "?")
	if full, ok := errors.AsType[*noSpaceError](err); ok {
		text = full.Error()
	} else if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		text = "disk full: " + text
	}
	if len(text) > maxProblem {
		text = strings.ToValidUTF8(text[:maxProblem], "") + "…"
	}
	return &cluster.ErrorInfo{Class: classOf(err), Text: text}
}

func classOf(err error) cluster.Class {
	for _, c := range []struct {
		is    error
		class cluster.Class
	}{
		{syscall.ENOSPC, ClassNoSpace},
		{syscall.EDQUOT, ClassNoSpace},
		{objectstore.ErrCorrupt, ClassHash},
		{objectstore.ErrNotFound, ClassObjectMissing},
		{objectstore.ErrDenied, ClassS3Denied},
		{objectstore.ErrUnavailable, ClassS3Unreachable},
		{release.ErrInvalid, ClassManifest},
		{errEpochReset, ClassEpochReset},
		{errForeign, ClassForeign},
		{cluster.ErrNotFound, cluster.ClassReleaseGone},
		{cluster.ErrDenied, ClassEtcdDenied},
		{cluster.ErrUnavailable, ClassEtcd},
		{cluster.ErrUnknown, ClassEtcd},
	} {
		if errors.Is(err, c.is) {
			return c.class
		}
	}
	if class := cluster.RefusedBy(err); class != "" {
		return class
	}
	if _, ok := errors.AsType[*hook.Failure](err); ok {
		return cluster.ClassHook
	}
	if isDisk(err) {
		return ClassDisk
	}
	return ClassNode
}

// isDisk reports whether an error came out of a file operation.
func isDisk(err error) bool {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return true
	}
	_, ok := errors.AsType[*os.LinkError](err)
	return ok
}
