package nodeagent

import (
	"context"
	"errors"
	"syscall"
	"time"

	"relman/cluster"
	"relman/release"
)

// A tree is believed from its verification on, until something of it turns out
// not to be as it was verified: a file to be linked from it, or to be served. It
// is suspect then, and is read in full before the next round does anything
// else. That nobody stumbled proves nothing: the next start looks again.
//
// What the examination finds damaged is not held: its claims are lowered, it
// is not shown anew, nothing is linked from it. If the node needs it, it is
// repaired in place, by what differs; what visitors are reading stays where it
// is meanwhile, but for the files that are damaged.

// suspect marks a buffer that a fill stumbled in. A file that could not be
// served marks its release by itself (Front.broken).
func (s *site) suspect(name string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.disk.bufs {
		if b.name == name && b.open != nil && b.open.doubt() {
			s.log.Warn("buffer is suspect", "buffer", name, "release", b.id(), "error", why)
			s.poke()
		}
	}
}

// examine reads every byte of the buffers that are suspect.
func (s *site) examine(ctx context.Context, _ cluster.NodeView) error {
	defer s.setExamining(nil)
	for b := s.nextSuspect(); b != nil; b = s.nextSuspect() {
		s.setExamining(b)
		// First, so that a doubt that comes up meanwhile is not lost.
		b.open.suspect.Store(false)
		err := s.disk.check(ctx, b.name, b.manifest, 100)
		switch {
		case ctx.Err() != nil:
			b.open.suspect.Store(true)
			return context.Cause(ctx)
		case isScarce(err):
			b.open.suspect.Store(true)
			return err
		case err != nil:
			s.distrust(b, err)
		default:
			b.checked = time.Now()
			s.log.Info("suspect buffer is as it was verified", "buffer", b.name, "release", b.id())
		}
	}
	return nil
}

// setExamining says which buffer is neither suspect nor found good or damaged yet.
func (s *site) setExamining(b *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.examining = b
}

// A look at the names, sizes and times of a large tree takes longer than
// filling it by what differs. So it is taken when there is nothing else to do,
// and a fill takes it only where that did not happen.
const (
	glanceEvery = 10 * time.Minute
	believed    = time.Hour
)

// patrol looks at the buffer that has not been looked at for longest. What does
// not look as it was verified is suspect.
func (s *site) patrol(ctx context.Context, _ cluster.NodeView) error {
	s.prune()
	var oldest *buffer
	for _, b := range s.disk.bufs {
		if b.manifest != nil && !b.damaged && (oldest == nil || b.checked.Before(oldest.checked)) {
			oldest = b
		}
	}
	if oldest == nil || time.Since(oldest.checked) < s.cfg.idle {
		return nil
	}
	err := s.disk.glance(ctx, oldest)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isScarce(err):
		return err
	case err != nil:
		s.suspect(oldest.name, err)
	}
	return nil
}

func (s *site) nextSuspect() *buffer {
	for _, b := range s.disk.bufs {
		if b.open != nil && !b.damaged && b.open.suspect.Load() {
			return b
		}
	}
	return nil
}

// distrust notes that a buffer is damaged.
func (s *site) distrust(b *buffer, why error) {
	s.log.Error("release on disk is not as it was verified", "buffer", b.name, "release", b.id(), "error", why)
	if err := removeDurably(s.disk.trees, b.manifestFile()); err != nil {
		s.log.Error("manifest not removed", "buffer", b.name, "error", err)
	}
	s.mu.Lock()
	b.damaged = true
	s.hold()
	if shown, _ := s.front.Shown(); shown == b.id() {
		s.entered = false // not ready until it is whole and claimed again
	}
	s.mu.Unlock()
	s.dropRetained()
	s.known = false // the claims are to be compared with the disk
	// Trees share inodes: what spoiled this one may have spoiled others. For
	// itself it stays marked: nobody needs to tell of it again.
	for _, o := range s.disk.bufs {
		if o.open != nil {
			o.open.suspect.Store(true)
		}
	}
}

// damagedHolder is the buffer that would hold a release if it were not damaged,
// nil for none.
func (s *site) damagedHolder(id release.ID, manifest release.Digest) *buffer {
	for _, b := range s.disk.bufs {
		if b.damaged && b.id() == id && b.manifest.Digest() == manifest {
			return b
		}
	}
	return nil
}

// isScarce reports whether an error speaks of the process, not of the file.
func isScarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}
