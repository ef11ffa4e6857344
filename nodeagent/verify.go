package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"relman/cluster"
	"relman/release"
)

// A verification reads every file of every release that the node holds, one
// after the other, so that visitors and rollouts notice little of it. It writes
// nothing: a buffer in which it finds something becomes suspect, and the worker
// examines and repairs it as any other suspect one.

// What ends a verification before it has begun.
var (
	// ErrVerifying: there is one at a time.
	ErrVerifying = errors.New("a verification is under way on this node")
	// ErrNoSite: the node has nothing to do with the site.
	ErrNoSite = errors.New("this node does not serve the site")

	errStopped = errors.New("the agent has stopped")
)

// mostDamaged bounds the files that a report names, of each site.
const mostDamaged = 1000

// Verified is what a verification found of one site.
type Verified struct {
	Site     release.Site      `json:"site"`
	Releases []VerifiedRelease `json:"releases"`
	Damaged  []DamagedFile     `json:"damaged"` // the first ones
}

// VerifiedRelease is a release that the node holds.
type VerifiedRelease struct {
	Release  release.ID `json:"release"`
	Files    int        `json:"files"`
	Bytes    int64      `json:"bytes"`
	Damaged  int        `json:"damaged"`       // files, and what does not belong there
	Repaired bool       `json:"repaired"`      // all of that
	Why      string     `json:"why,omitempty"` // it is not
}

// DamagedFile is a file that is not as it was verified when it was written.
type DamagedFile struct {
	Release  release.ID `json:"release"`
	Path     string     `json:"path"`
	What     string     `json:"what"`
	Repaired bool       `json:"repaired"`
}

// VerifyProgress counts what has been read. It is read while it changes.
type VerifyProgress struct{ Files, Bytes, AllBytes atomic.Int64 }

// verification is one that Run is asked for.
type verification struct {
	ctx      context.Context //nolint:containedctx // of the one who waits for it
	site     release.Site    // "": all
	progress *VerifyProgress
	result   []Verified
	err      error
	done     chan struct{}
}

// Verify reads all that the node holds of a site, or of every site without
// one, has repaired what is damaged, and waits until that is done or cannot be
// done now. It works while Run does.
func (a *Agent) Verify(ctx context.Context, site release.Site, progress *VerifyProgress) ([]Verified, error) {
	if !a.verifying.TryLock() {
		return nil, ErrVerifying
	}
	defer a.verifying.Unlock()
	v := &verification{ctx: ctx, site: site, progress: progress, done: make(chan struct{})}
	select {
	case a.wanted <- v:
	case <-a.ended:
		return nil, errStopped
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	<-v.done
	return v.result, v.err
}

// verifications does what Verify asks for until ctx ends: as a part of Run, so
// that nothing is read any more once that has returned.
func (a *Agent) verifications(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-a.wanted:
			v.result, v.err = a.verifyWith(ctx, v)
			close(v.done)
		}
	}
}

// verifyWith ends with ctx, and when nobody waits for it any more.
func (a *Agent) verifyWith(ctx context.Context, v *verification) ([]Verified, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(v.ctx, func() { cancel(context.Cause(v.ctx)) })() //nolint:contextcheck // two contexts end it
	return a.verify(ctx, v)
}

func (a *Agent) verify(ctx context.Context, v *verification) ([]Verified, error) {
	a.mu.Lock()
	sites := slices.Clone(a.sites)
	a.mu.Unlock()
	if v.site != "" {
		sites = slices.DeleteFunc(sites, func(s *site) bool { return s.name != v.site })
		if len(sites) == 0 {
			return nil, fmt.Errorf("%w %s", ErrNoSite, v.site)
		}
	}
	for _, s := range sites {
		for _, h := range s.allHeld() {
			v.progress.AllBytes.Add(h.manifest.Bytes)
		}
	}
	all := []Verified{}
	for _, s := range sites {
		one, err := s.verify(ctx, v.progress)
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", s.name, err)
		}
		all = append(all, *one)
	}
	return all, nil
}

// holdingNow is a buffer with what it held at one moment.
type holdingNow struct {
	buf      *buffer
	open     *Release
	manifest *release.Manifest
}

// allHeld is what the node says that it holds.
func (s *site) allHeld() (all []holdingNow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk == nil {
		return nil
	}
	for _, b := range s.disk.bufs {
		if b.manifest != nil && b.open != nil {
			all = append(all, holdingNow{b, b.open, b.manifest})
		}
	}
	return all
}

// stands reports whether the buffer is what it was. As long as it is, only a
// repair has changed its tree, and that ends with another open release.
func (s *site) stands(h holdingNow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.buf.open == h.open
}

func (s *site) verify(ctx context.Context, progress *VerifyProgress) (*Verified, error) {
	r := &Verified{Site: s.name, Releases: []VerifiedRelease{}, Damaged: []DamagedFile{}}
	var damaged []holdingNow
	type holder struct {
		buf *buffer
		id  release.ID
	}
	done := map[holder]bool{}
	known := map[inode]release.Digest{}
	// What is filled or repaired meanwhile is looked at anew.
	left := func() []holdingNow {
		return slices.DeleteFunc(s.allHeld(), func(h holdingNow) bool { return done[holder{h.buf, h.manifest.ID()}] })
	}
	for todo := left(); len(todo) > 0; todo = left() {
		h := todo[0]
		found, bytes, err := s.disk.differences(ctx, h.buf.name, h.manifest, known, progress)
		if err != nil {
			return nil, err
		}
		if !s.stands(h) {
			continue
		}
		id := h.manifest.ID()
		done[holder{h.buf, id}] = true
		r.Releases = append(r.Releases, VerifiedRelease{Release: id, Files: h.manifest.Count, Bytes: bytes, Damaged: len(found)})
		if len(found) == 0 {
			continue
		}
		damaged = append(damaged, h)
		s.metrics.damaged.Add(float64(len(found)))
		s.suspect(h.buf.name, fmt.Errorf("%s: %s", found[0].Path, found[0].What))
		s.poke()
		for _, f := range found[:min(len(found), mostDamaged-len(r.Damaged))] {
			f.Release = id
			r.Damaged = append(r.Damaged, f)
		}
	}
	for _, h := range damaged {
		repaired, why, err := s.repaired(ctx, h)
		if err != nil {
			return nil, err
		}
		for i := range r.Releases {
			if v := &r.Releases[i]; v.Release == h.manifest.ID() && v.Damaged > 0 {
				v.Repaired, v.Why = repaired, why
			}
		}
		for i := range r.Damaged {
			if f := &r.Damaged[i]; f.Release == h.manifest.ID() {
				f.Repaired = repaired
			}
		}
	}
	return r, nil
}

// mostFailures is how many rounds of the worker may fail before a repair is
// said not to be done. The first one may have been about something else.
const mostFailures = 2

// repaired waits until the worker has repaired a buffer, or says why it has
// not. It goes on trying.
func (s *site) repaired(ctx context.Context, h holdingNow) (ok bool, why string, err error) {
	for failures := 0; ; {
		s.mu.Lock()
		ended := s.roundEnded
		same, damaged := h.buf.open == h.open, h.buf.damaged
		known := s.examining != h.buf && !h.open.suspect.Load()
		again := !same && h.buf.manifest == nil || !same && h.buf.id() != h.manifest.ID()
		seen := s.seen
		s.mu.Unlock()
		switch {
		case again:
			return false, "it was given up for another release meanwhile", nil
		case !same, !damaged && known: // whole again, or at the second look
			return true, "", nil
		case !seen:
			return false, "etcd has not been reached yet; it is repaired after that", nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return false, "", context.Cause(ctx)
		}
		s.mu.Lock()
		same, round := h.buf.open == h.open, s.roundErr
		s.mu.Unlock()
		switch {
		case !same, errors.Is(round, errNewView), errors.Is(round, cluster.ErrConflict):
		case round != nil:
			if failures++; failures == mostFailures {
				return false, "it is tried again: " + problem(round).Text, nil
			}
		case damaged: // the round that ended knew, and had no use for it
			return false, "the node does not need it now: it is not held any more", nil
		}
	}
}

// inode tells which names are one file. One that is freed and used again has
// another time.
type inode struct {
	dev, ino uint64
	changed  syscall.Timespec
}

func inodeOf(info fs.FileInfo) (id inode, shared bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{uint64(st.Dev), st.Ino, st.Ctim}, st.Nlink > 1 //nolint:unconvert // differs by platform
}

// differences reads a whole tree and lists what is not as in its manifest.
// Files of several names are read once: known has their digests.
func (d *disk) differences(ctx context.Context, name string, m *release.Manifest, known map[inode]release.Digest, progress *VerifyProgress) (found []DamagedFile, bytes int64, err error) {
	for _, f := range m.Files {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		what, err := d.difference(name, f, known)
		if err != nil {
			return nil, 0, err
		}
		if what != "" {
			found = append(found, DamagedFile{Path: f.Path, What: what})
		}
		bytes += f.Size
		progress.Files.Add(1)
		progress.Bytes.Add(f.Size)
	}
	readable := func(p string, info fs.FileInfo) error {
		if got := info.Mode().Perm(); got != modeDir {
			what := fmt.Sprintf("mode %04o instead of %04o", got, modeDir)
			found = append(found, DamagedFile{Path: cmp.Or(strings.TrimPrefix(strings.TrimPrefix(p, name), "/"), "."), What: what})
		}
		return nil
	}
	err = d.walk(name, readable, func(p string, info fs.FileInfo) error {
		_, ok := m.Lookup(p)
		if info.IsDir() && !ok {
			ok = hasUnder(m.Files, p)
		}
		if !ok {
			found = append(found, DamagedFile{Path: p, What: "is not in the release"})
		}
		return ctx.Err()
	})
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	return found, bytes, err
}

// difference says what is wrong with a file, "" for nothing. Its error speaks of
// the process.
func (d *disk) difference(tree string, want release.File, known map[inode]release.Digest) (string, error) {
	name := tree + "/" + want.Path
	info, err := d.trees.Lstat(name)
	if isScarce(err) {
		return "", err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing", nil
	case err != nil:
		return err.Error(), nil
	case !info.Mode().IsRegular():
		return "is no regular file", nil
	case info.Size() != want.Size:
		return fmt.Sprintf("other bytes: %d instead of %d", info.Size(), want.Size), nil
	case info.Mode() != modeOf(want):
		return fmt.Sprintf("mode %04o instead of %04o", info.Mode().Perm(), modeOf(want)), nil
	case !asVerified(info, want):
		return "other time", nil
	}
	id, shared := inodeOf(info)
	sum, ok := known[id]
	if !ok || !shared {
		if sum, err = d.hash(name); isScarce(err) {
			return "", err
		} else if err != nil {
			return err.Error(), nil
		}
		if shared {
			known[id] = sum
		}
	}
	if sum != want.Digest {
		return "other bytes", nil
	}
	return "", nil
}
