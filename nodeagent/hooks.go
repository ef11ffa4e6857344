package nodeagent

import (
	"context"
	"fmt"
	"path/filepath"

	"relman/cluster"
	"relman/release"
	"relman/release/hook"
)

// passed is a release that a program let pass: what was verified, by content,
// and the very version of the program's file.
type passed struct {
	manifest release.Digest
	by       hook.Stamp
}

// vet has the operator's program look at a release that the node holds, before
// the node claims it. Nothing changes the tree meanwhile: only the worker does,
// and it is here. A release that has passed once is not looked at again.
func (s *site) vet(ctx context.Context, v cluster.NodeView, id release.ID) error {
	h := s.cfg.Verify
	if h == nil {
		return nil
	}
	b := s.sound(id)
	if b == nil {
		return fmt.Errorf("%s hook: release %s is not held", h.Kind, id)
	}
	stamp, err := h.Check()
	if err == nil {
		if s.vetted[passed{b.manifest.Digest(), stamp}] {
			return nil
		}
		a := hook.About{Site: s.name, Release: id, Tree: s.tree(b), Node: s.cfg.Node}
		if v.Active.Exists() {
			a.Epoch, a.Previous = v.Active.Value.Epoch, v.Active.Value.Release
		}
		all := b.manifest.Bytes
		s.setVetting(&cluster.Progress{Release: id, Done: all, Total: all, Hook: string(h.Kind)})
		s.report(ctx, v)
		err = h.Run(ctx, a, s.log)
		s.setVetting(nil)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.metrics.ran(h, err)
		}
		return err
	}
	s.metrics.ran(h, nil)
	s.forget()
	s.vetted[passed{b.manifest.Digest(), stamp}] = true
	return nil
}

func (s *site) setVetting(p *cluster.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vetting = p
}

// mayClaim reports whether nothing keeps the node from claiming a release that it
// holds.
func (s *site) mayClaim(id release.ID) bool {
	h, b := s.cfg.Verify, s.sound(id)
	if h == nil || b == nil {
		return true
	}
	stamp, err := h.Check()
	return err == nil && s.vetted[passed{b.manifest.Digest(), stamp}]
}

// forget drops what passed and is not held any more.
func (s *site) forget() {
	held := map[release.Digest]bool{}
	for _, b := range s.disk.bufs {
		if b.manifest != nil {
			held[b.manifest.Digest()] = true
		}
	}
	for p := range s.vetted {
		if !held[p.manifest] {
			delete(s.vetted, p)
		}
	}
}

// sound is the buffer that holds a release undamaged, nil when none does.
func (s *site) sound(id release.ID) *buffer {
	for _, b := range s.disk.bufs {
		if b.open != nil && !b.damaged && b.id() == id {
			return b
		}
	}
	return nil
}

// tree is the directory of a buffer, for a program that runs elsewhere.
func (s *site) tree(b *buffer) string {
	dir := filepath.Join(s.disk.dir, "buffers", b.name)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// flipped hands the epoch that is shown, and written down, to whoever tells
// the operator's program of it. It does not wait: one that nobody has taken
// yet is replaced. What was told is not remembered over a restart, so that the
// program hears once more of the epoch that is shown then.
func (s *site) flipped(v cluster.NodeView, applied state) {
	id, _ := s.front.Shown() // of some nodes, a canary
	a, b := v.Active, s.holder(id)
	if s.cfg.PostFlip == nil || b == nil || !a.Exists() || s.told == applied.Epoch ||
		a.Value.Epoch != applied.Epoch || a.Value.Release != applied.Release {
		return
	}
	s.told = applied.Epoch
	about := hook.About{Site: s.name, Release: id, Epoch: applied.Epoch, Tree: s.tree(b), Node: s.cfg.Node}
	if p := a.Value.Previous; p != nil {
		about.Previous = p.Release
	}
	select {
	case old := <-s.flips:
		s.skipped(old.Epoch)
	default:
	}
	s.flips <- about // has room: only the worker puts anything there
}

func (s *site) skipped(e release.Epoch) {
	s.log.Warn("hook skipped: a newer epoch came first", "hook", string(hook.PostFlip), "epoch", uint64(e))
	s.metrics.hooks.WithLabelValues(string(hook.PostFlip), hookSkipped).Inc()
}

// tellFlips tells the operator's program of one epoch after the other until
// ctx ends. Swaps and the worker never wait for it.
func (s *site) tellFlips(ctx context.Context) {
	h := s.cfg.PostFlip
	if h == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.flips:
			err := h.Insist(ctx, a, s.log, func(err error) {
				s.metrics.ran(h, err)
				s.log.Warn("hook failed", "hook", string(h.Kind), "release", string(a.Release), "epoch", uint64(a.Epoch), "error", err)
			}, func() bool { return len(s.flips) > 0 })
			if err == nil {
				s.metrics.ran(h, nil)
			}
		}
	}
}
