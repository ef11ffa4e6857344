package nodeagent

import (
	"context"

	"relman/cluster"
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
	id, _ := s.front.Shown()
	shown := s.holder(id)
	want := map[string]*buffer{"current": shown, "active": shown}
	if p := v.Active.Value.Previous; v.Active.Exists() && p != nil {
		want["previous"] = s.holder(p.Release)
	}
	// What was prepared last stays so when it is flipped to: a server that has
	// found something there opens it a moment later. That the rollout is gone can be
	// heard before the flip that ended it, too.
	want["next"] = s.links["next"]
	if v.Rollout.Exists() {
		want["next"] = s.holder(v.Rollout.Value.Release)
	}
	if err := s.relink(want); err != nil {
		return err
	}
	s.flipped(v, applied)
	return nil
}

// report says how the site is doing. That it cannot be said is no reason to do
// less.
func (s *site) report(ctx context.Context, v cluster.NodeView) {
	st := s.status(v)
	s.sayMu.Lock()
	defer s.sayMu.Unlock()
	s.saying(ctx, st)
}

func (s *site) status(v cluster.NodeView) cluster.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, epoch := s.front.Shown()
	st := cluster.Status{State: cluster.NodeServing, Release: id, Epoch: epoch, Swapped: s.swapped, Error: s.trouble, ClockErrorMS: s.clockError()}
	r := v.Rollout
	switch {
	case s.refusing != nil:
		st.State = cluster.NodeRefusing
	case v.Member.Value == cluster.MemberDrain:
		st.State, st.Drained = cluster.NodeDraining, s.drained(v)
	case v.Member.Value == cluster.MemberOut:
		st.State = cluster.NodeOut
	case v.Member.Value != cluster.MemberIn:
		st.State = cluster.NodeJoining
	case v.Active.Exists() && epoch != v.Active.Value.Epoch && !s.waiting || !s.entered:
		st.State = cluster.NodeSyncing
	case r.Exists() && !s.claimsFor(r.Value):
		st.State = cluster.NodePreparing
	case s.waiting:
		st.State = cluster.NodeWaiting
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
