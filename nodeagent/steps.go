package nodeagent

import (
	"context"
	"fmt"

	"relman/cluster"
	"relman/release"
)

// learn reads the node's claims when they may not be what they are believed to
// be, and lowers those that are not true (T11a): the first act of a boot.
func (s *site) learn(ctx context.Context, v cluster.NodeView) error {
	if s.known && s.member == v.Member.Mod {
		return nil
	}
	claims, claiming, err := s.reg.Claims(ctx, s.name)
	if err != nil {
		return err
	}
	s.claims, s.claiming = make([]release.ID, max(len(claims), len(s.disk.bufs))), claiming
	copy(s.claims, claims)
	if !claiming { // also where etcd was restored to before it entered
		s.mu.Lock()
		s.entered = false
		s.mu.Unlock()
	}
	// Those of a node that drains go with it; until then what they stand for stays.
	in := v.Member.Value == cluster.MemberIn
	if lower := untrue(s.claims, s.holds); in && len(lower) > 0 {
		s.log.Warn("claims are not true on this disk", "buffers", lower)
		if err := s.lower(ctx, v, lower); err != nil {
			return err
		}
	}
	s.known, s.member = true, v.Member.Mod
	return nil
}

// lower takes claims back.
func (s *site) lower(ctx context.Context, v cluster.NodeView, buffers []int) error {
	s.known = false // until it is answered
	if err := s.reg.Lower(ctx, v, buffers); err != nil {
		return err
	}
	for _, k := range buffers {
		s.claims[k] = ""
	}
	s.known = true
	return nil
}

// catchUp fetches the active release where the node does not hold it, and
// shows it. One that is shown and damaged is repaired.
func (s *site) catchUp(ctx context.Context, v cluster.NodeView) error {
	a := v.Active.Value
	if !v.Active.Exists() {
		return nil
	}
	if id, _ := s.shownOf(a); id != a.Release {
		if err := s.catchUpCanary(ctx, v); err != nil {
			return err
		}
	}
	if s.showsOrWaits(a) && s.damagedHolder(a.Release, a.Manifest) == nil {
		return nil
	}
	if !s.holds(a.Release) {
		if err := s.obtain(ctx, v, a.Release, a.Manifest, nil); err != nil {
			return err
		}
	}
	if !s.showsOrWaits(a) {
		return fmt.Errorf("release %s is held and not shown", a.Release)
	}
	return nil
}

// catchUpCanary fetches a canary where the node does not hold it: who sees it may
// come to any node. A node that does not show the canary of its group fetches
// that first.
func (s *site) catchUpCanary(ctx context.Context, v cluster.NodeView) error {
	c := v.Active.Value.Canary
	if !v.Active.Exists() || c == nil || s.holds(c.Release) {
		return nil
	}
	return s.obtain(ctx, v, c.Release, c.Manifest, nil)
}

// showsOrWaits reports whether the site shows what is active, or something later,
// trying to; or holds it, and waits until it is time.
func (s *site) showsOrWaits(a cluster.Active) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swap()
	_, shown := s.front.Shown()
	return shown >= a.Epoch || s.waiting && s.holding(a.Release, a.Manifest) != nil
}

// enter makes the node count (T11), or makes its claims complete again. A node
// that does not count yet first fetches what a rollout is about, so that it
// never holds the rollout up. What has not passed the operator's program is not
// claimed here either; what is active, or was just before, does not have to.
func (s *site) enter(ctx context.Context, v cluster.NodeView) error {
	if r := v.Rollout; r.Exists() && !s.claiming {
		if !s.holds(r.Value.Release) {
			if err := s.obtain(ctx, v, r.Value.Release, release.Digest{}, nil); err != nil {
				return err
			}
		}
		if err := s.vet(ctx, v, r.Value.Release); err != nil {
			return err
		}
	}
	for len(s.claims) < len(s.disk.bufs) {
		s.claims = append(s.claims, "")
	}
	if claims, differ := entering(v, s.claims, s.claiming, s.holds, s.mayClaim); differ {
		s.known = false // until it is answered
		if err := s.reg.Enter(ctx, v, claims); err != nil {
			return err
		}
		s.claims, s.claiming, s.known = claims, true, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entered, s.wasIn = true, true
	return nil
}

// onlyRollout reports whether nothing but the rollout's own claim differs:
// that is for prepare.
func onlyRollout(v cluster.NodeView, a, b []release.ID) bool {
	for k := range a {
		rollouts := v.Rollout.Exists() && k == v.Rollout.Value.Buffer
		if a[k] != b[k] && !rollouts {
			return false
		}
	}
	return true
}

// prepare gets the node ready for a rollout: it retracts what it claims for
// the buffer (T4), fills a tree, has the operator's program look at it, and
// claims (T5). A release that the node holds anyway needs no fill.
func (s *site) prepare(ctx context.Context, v cluster.NodeView) error {
	r := v.Rollout.Value
	if !unclaimed(v, s.claims) {
		return nil
	}
	if !s.holds(r.Release) {
		if err := s.obtain(ctx, v, r.Release, release.Digest{}, s.retract); err != nil {
			return err
		}
	}
	if err := s.vet(ctx, v, r.Release); err != nil {
		return err
	}
	if err := s.cfg.point("node.before-claim"); err != nil {
		return err
	}
	s.known = false // until it is answered
	if err := s.reg.Claim(ctx, v); err != nil {
		return err
	}
	s.claims[r.Buffer], s.known = r.Release, true
	return s.cfg.point("node.after-claim")
}

// retract says that the rollout's buffer holds nothing, before the tree that
// it stood for is touched. When that is said already it is not said again.
func (s *site) retract(ctx context.Context, v cluster.NodeView) error {
	if k := v.Rollout.Value.Buffer; s.claims[k] != "" {
		s.known = false // until it is answered
		if err := s.reg.Retract(ctx, v); err != nil {
			return err
		}
		s.claims[k], s.known = "", true
	}
	return s.cfg.point("node.after-retract")
}

// restore gets the previous release back where the node lacks it, so that a
// rollback needs no preparation, and claims it.
func (s *site) restore(ctx context.Context, v cluster.NodeView) error {
	p := v.Active.Value.Previous
	if !v.Active.Exists() || p == nil || s.holds(p.Release) {
		return nil
	}
	if err := s.obtain(ctx, v, p.Release, release.Digest{}, nil); err != nil {
		return err
	}
	return s.enter(ctx, v)
}
