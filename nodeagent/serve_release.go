package nodeagent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"relman/release"
)

// Release is one verified release on disk, opened for serving. It is reference
// counted: whoever opened it holds one reference, which Close gives back, and
// every request holds one to its end. So a release that is no longer shown
// stays open for exactly those requests that began on it.
type Release struct {
	id       release.ID
	manifest *release.Manifest // nil of one that is retained
	files    finder
	root     *os.Root
	top      *os.File // the root itself, and its descriptor; nil of one that is retained
	dir      int
	idText   []string // of the header that names it
	has      func(path string) bool
	rules    rules
	ruled    atomic.Bool  // rules have been read
	refs     atomic.Int64 // 0: the root is closed, for good
	closed   atomic.Bool  // the owner's reference is given back
	suspect  atomic.Bool  // something of it was not as it was verified
	public   atomic.Bool  // it is known to have been active, or to be a canary
	told     sync.Map     // paths that could not be served, once in the log each
	variants *variants    // of its files; nil: none
	besides  besides
}

// finder finds the files of a release that are there.
type finder interface {
	Lookup(path string) (release.File, bool)
}

// OpenRelease opens the tree in dir for serving the files that m names. It
// looks at no file: that the tree is what m says has been verified before.
// Paths are looked up in the manifest itself, so that opening costs the same
// for ten files as for a hundred thousand.
func OpenRelease(dir string, m *release.Manifest) (*Release, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open release %s: %w", m.ID(), err)
	}
	top, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open release %s: %w", m.ID(), err), root.Close())
	}
	r := &Release{id: m.ID(), manifest: m, files: m, root: root, top: top, dir: int(top.Fd()), idText: []string{string(m.ID())}}
	r.has = func(path string) bool { _, ok := m.Lookup(path); return ok }
	r.refs.Store(1)
	return r, nil
}

// ID is the release's id.
func (r *Release) ID() release.ID { return r.id }

// Manifest says what the release is.
func (r *Release) Manifest() *release.Manifest { return r.manifest }

// doubt makes the release suspect. It reports whether it was not before.
func (r *Release) doubt() bool { return r.suspect.CompareAndSwap(false, true) }

// Close gives back the reference of OpenRelease: the root closes as soon as
// the last request has ended, which may be now. A second Close does nothing.
func (r *Release) Close() error {
	if r == nil || r.closed.Swap(true) {
		return nil
	}
	return r.release()
}

// acquire takes a reference. It fails when the last one has been given back:
// the root is closed then and never opens again.
func (r *Release) acquire() bool {
	for {
		n := r.refs.Load()
		if n == 0 {
			return false
		}
		if r.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives back one reference.
func (r *Release) release() error {
	if r.refs.Add(-1) > 0 {
		return nil
	}
	err := r.root.Close()
	if r.top != nil {
		err = errors.Join(err, r.top.Close())
	}
	if err != nil {
		return fmt.Errorf("close release %s: %w", r.ID(), err)
	}
	return nil
}

var errNotAsVerified = errors.New("is not the file that was verified")

// fileError is a file of the release that cannot be served.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// readOnly opens for reading, and waits for nobody: a pipe in the place of a
// file has no bytes.
const readOnly = os.O_RDONLY | syscall.O_NONBLOCK

// open opens a file of the release by its path in the manifest. No other name
// ever reaches the file system, and no link leads out of the tree. Its error is
// a *fileError.
func (r *Release) open(f release.File) (*os.File, error) {
	file, err := r.root.OpenFile(f.Path, readOnly, 0)
	if err != nil {
		return nil, &fileError{f.Path, err}
	}
	// A cheap look for what cannot be right. A request that was stalled for long
	// may come to a tree that holds another release by now: content of the same
	// size has another time there.
	info, err := file.Stat()
	if err == nil && !asVerified(info, f) {
		err = &os.PathError{Op: "serve", Path: f.Path, Err: errNotAsVerified}
	}
	if err != nil {
		return nil, &fileError{f.Path, errors.Join(err, file.Close())}
	}
	return file, nil
}
