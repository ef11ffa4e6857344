// Package hook runs programs of the operator: one that a release has to pass on
// a node, and those that are told of a flip. Which programs these are is said
// by a daemon's own configuration and never by etcd: whoever can write there
// must not be able to run anything.
//
// A program gets a clean environment, no input, and a time limit; its output
// goes to the log. When a run has ended, nothing of its process group is left.
package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"relman/release"
)

// Kind says when a hook runs.
type Kind string

// The kinds of hooks.
const (
	Verify       Kind = "verify"        // on a node, before it claims a release
	PostFlip     Kind = "post-flip"     // on a node, after a swap
	PostConverge Kind = "post-converge" // on the leader, when all nodes have swapped
)

// Defaults of Hook.
const (
	DefaultLimit   = 60 * time.Second
	DefaultRetries = 5
)

// killAfter is how long a run that is stopped has to end by itself.
const killAfter = 5 * time.Second

// Hook is a program as the operator named it.
type Hook struct {
	Kind     Kind
	Path     string        // absolute
	Limit    time.Duration // of one run
	Retries  int           // after a failed run, see Insist
	Insecure bool          // its file may be writable by others

	grace time.Duration // killAfter, but for tests
	pause time.Duration // leastPause, but for tests
}

// New makes a hook. The file is not looked at before each run: a daemon that
// serves or leads is worth more than its hook, and a file can be mended.
func New(h Hook) (*Hook, error) {
	switch {
	case !filepath.IsAbs(h.Path):
		return nil, fmt.Errorf("%s hook %q: give an absolute path", h.Kind, h.Path)
	case h.Limit <= 0:
		return nil, fmt.Errorf("%s hook: a time limit of %v leaves it no time", h.Kind, h.Limit)
	case h.Retries < 0:
		return nil, fmt.Errorf("%s hook: %d retries, give 0 or more", h.Kind, h.Retries)
	}
	h.Path = filepath.Clean(h.Path)
	h.grace, h.pause = killAfter, leastPause
	return &h, nil
}

// Stamp tells one version of a hook's file from another.
type Stamp struct {
	path  string
	inode uint64
	size  int64
	mtime int64
}

// Check looks whether the file can be run as it is: a regular, executable file
// that, unless the hook is Insecure, only root or the daemon's own user can change,
// or put another in the place of.
func (h *Hook) Check() (Stamp, error) {
	info, err := os.Stat(h.Path)
	switch {
	case err != nil:
		return Stamp{}, h.fails(err.Error())
	case !info.Mode().IsRegular():
		return Stamp{}, h.fails(h.Path + " is no regular file")
	case info.Mode()&0o111 == 0:
		return Stamp{}, h.fails(h.Path + " is not executable")
	}
	if !h.Insecure {
		if err := h.safe(); err != nil {
			return Stamp{}, h.fails(err.Error())
		}
	}
	st := Stamp{path: h.Path, size: info.Size(), mtime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		st.inode = sys.Ino
	}
	return st, nil
}

// safe goes from the file up to the root, by the path as it was given and by
// the one that its links lead to.
func (h *Hook) safe() error {
	real, err := filepath.EvalSymlinks(h.Path)
	if err != nil {
		return err
	}
	for _, path := range []string{real, h.Path} {
		for ; ; path = filepath.Dir(path) {
			if err := ownersOnly(path); err != nil {
				return err
			}
			if path == filepath.Dir(path) {
				break
			}
		}
	}
	return nil
}

// ownersOnly: nobody but root and the own user can change a file, or what is in a
// directory. In a sticky one, such as /tmp, nobody can touch the files of
// others.
func ownersOnly(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%s can be written by others than its owner (%v): chmod go-w, or allow it with --hooks-insecure", path, info.Mode())
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: give it to root, or allow it with --hooks-insecure", path, sys.Uid)
	}
	return nil
}

// About is what a run is told.
type About struct {
	Site     release.Site
	Release  release.ID
	Epoch    release.Epoch
	Previous release.ID     // "" for none
	Tree     string         // the directory that holds the release; "" where there is none
	Node     release.NodeID // "" on a manager
	More     []string       // NAME=value
}

// environment is all that a run gets: nothing of the daemon's own, which may
// be secret, but where programs are and how they speak.
func (h *Hook) environment(a About) []string {
	env := []string{
		"PATH=" + inherited("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
		"HOME=" + inherited("HOME", "/"),
		"LANG=" + inherited("LANG", "C.UTF-8"),
		"RELMAN_HOOK=" + string(h.Kind),
		"RELMAN_SITE=" + string(a.Site),
		"RELMAN_RELEASE=" + string(a.Release),
		fmt.Sprintf("RELMAN_EPOCH=%d", a.Epoch),
		"RELMAN_PREVIOUS=" + string(a.Previous),
		"RELMAN_TREE=" + a.Tree,
		"RELMAN_NODE=" + string(a.Node),
	}
	return append(env, a.More...)
}

func inherited(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Failure is a run that did not go well, or none at all.
type Failure struct {
	Kind Kind
	Code int    // of the program's exit; -1 when it did not exit by itself
	Why  string // "exit code 3"
	Tail string // the last lines of its output, in one line
}

func (f *Failure) Error() string {
	text := fmt.Sprintf("%s hook: %s", f.Kind, f.Why)
	if f.Tail != "" {
		text += ": " + f.Tail
	}
	return text
}

func (h *Hook) fails(why string) *Failure { return &Failure{Kind: h.Kind, Code: -1, Why: why} }
