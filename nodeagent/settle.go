package nodeagent

import (
	"context"
	"fmt"

	"relman/cluster"
	"relman/release"
)

// settle writes down what is shown: first the epoch, so that a crash between
// the two leaves the links behind what is remembered, never ahead of it; a
// start follows what is remembered. Then the links for other web servers. Both
// come after the swap itself: visitors do not wait for a disk.
func (s *site) settle(v cluster.NodeView) error {
	s.mu.Lock()
	applied := s.applied
	s.mu.Unlock()
	if applied != s.stored {
		if err := applied.write(s.disk.root); err != nil {
			return err
		}
		s.stored = applied
	}
	if err := s.remember(v); err != nil {
		return err
	}
	want := map[string]*buffer{"current": s.holder(applied.Release)}
	if p := v.Active.Value.Previous; v.Active.Exists() && p != nil {
		want["previous"] = s.holder(p.Release)
	}
	if v.Rollout.Exists() {
		want["next"] = s.holder(v.Rollout.Value.Release)
	}
	if err := s.relink(want); err != nil {
		return err
	}
	s.flipped(v, applied)
	return nil
}

// holder is the buffer that holds a release, nil when none does.
func (s *site) holder(id release.ID) *buffer {
	for _, b := range s.disk.bufs {
		if b.open != nil && b.id() == id {
			return b
		}
	}
	return nil
}

// relink points the links at buffers.
func (s *site) relink(want map[string]*buffer) error {
	changed := false
	for _, name := range []string{"current", "previous", "next"} {
		if b := want[name]; b != s.links[name] {
			if err := s.disk.link(name, b); err != nil {
				return fmt.Errorf("link %s: %w", name, err)
			}
			s.links[name], changed = b, true
		}
	}
	if !changed {
		return nil
	}
	if err := s.cfg.point("node.after-symlink"); err != nil {
		return err
	}
	return syncDir(s.disk.root, ".")
}

// unlink removes the links to a buffer that is given up.
func (s *site) unlink(b *buffer) error {
	want := map[string]*buffer{}
	for name, to := range s.links {
		if to != b {
			want[name] = to
		}
	}
	return s.relink(want)
}

// report says how the site is doing. That it cannot be said is no reason to do
// less.
func (s *site) report(ctx context.Context, v cluster.NodeView) {
	if err := s.reg.Report(ctx, s.name, s.status(v)); err != nil && ctx.Err() == nil {
		s.log.Debug("status not reported", "error", err)
	}
}

func (s *site) status(v cluster.NodeView) cluster.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, epoch := s.front.Shown()
	st := cluster.Status{State: cluster.NodeServing, Release: id, Epoch: epoch, Swapped: s.swapped, Error: s.trouble}
	r := v.Rollout
	switch {
	case s.refusing:
		st.State = cluster.NodeRefusing
	case v.Member.Value != cluster.MemberIn:
		st.State = cluster.NodeJoining
	case v.Active.Exists() && epoch != v.Active.Value.Epoch || !s.entered:
		st.State = cluster.NodeSyncing
	case r.Exists() && !s.claimsFor(r.Value):
		st.State = cluster.NodePreparing
	}
	if f := s.filling; f != nil {
		st.Preparing = &cluster.Progress{Release: f.want.Manifest.ID(), Done: f.done.Load(), Total: f.total.Load()}
	} else if s.vetting != nil {
		st.Preparing = s.vetting
	}
	return st
}

// claimsFor reports whether the node claims what a rollout is about. Its buffer
// may be one that there cannot be.
func (s *site) claimsFor(r cluster.Rollout) bool {
	return r.Buffer >= 0 && r.Buffer < len(s.claims) && s.claims[r.Buffer] == r.Release
}
