package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"relman/cluster"
	"relman/release"
)

// obey does what v calls for, move by move, until there is nothing left to do.
func (s *site) obey(ctx context.Context, v cluster.NodeView) error {
	for ctx.Err() == nil {
		m := Next(s.standing(v))
		if m.Entered {
			s.mu.Lock()
			s.entered, s.wasIn = true, true
			s.mu.Unlock()
		}
		if m.Do == Rest {
			return nil
		}
		if err := s.do(ctx, v, m); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

var errUnshown = errors.New("is held and not shown")

func (s *site) do(ctx context.Context, v cluster.NodeView, m Move) error {
	switch m.Do {
	case Learn:
		return s.learn(ctx, v)
	case Lower:
		s.log.Warn("claims are not true on this disk", "buffers", m.Buffers)
		return s.lower(ctx, v, m.Buffers)
	case Fetch:
		return s.fetch(ctx, v, m)
	case Vet:
		return s.vet(ctx, v, m.Release)
	case Enter:
		return s.enter(ctx, v, m.Claims)
	case Claim:
		return s.claim(ctx, v)
	case Show: // that was tried
		id, _ := s.shownOf(v.Active.Value)
		return fmt.Errorf("release %s %w", id, errUnshown)
	case Rest:
	}
	return nil
}

// standing is where the node stands, seen from v. It swaps first, where it can.
func (s *site) standing(v cluster.NodeView) *Standing {
	for len(s.claims) < len(s.disk.bufs) {
		s.claims = append(s.claims, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swap()
	shown, epoch := s.front.Shown()
	st := &Standing{
		View: v, Group: s.cfg.Group, Release: s.applied.Release, Epoch: s.applied.Epoch, Shown: shown,
		Claims: s.claims, Claiming: s.claiming, Known: s.known && s.member == v.Member.Mod, May: s.mayClaim,
	}
	for _, b := range s.disk.bufs {
		var id release.ID
		if b.open != nil && !b.damaged {
			id = b.id()
		}
		st.Trees = append(st.Trees, id)
	}
	st.Unshown = v.Active.Exists() && epoch < v.Active.Value.Epoch && !s.waiting
	return st
}

// learn reads the node's claims: the first act of a boot, and of whenever they may
// not be what they are believed to be.
func (s *site) learn(ctx context.Context, v cluster.NodeView) error {
	claims, claiming, err := s.reg.Claims(ctx, s.name)
	if err != nil {
		return err
	}
	s.claims, s.claiming = slices.Clone(claims), claiming
	if !claiming { // also where etcd was restored to before it entered
		s.mu.Lock()
		s.entered = false
		s.mu.Unlock()
	}
	s.known, s.member = true, v.Member.Mod
	return nil
}

// lower takes claims back that the disk cannot back (T11a).
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

// fetch has the node hold a release.
func (s *site) fetch(ctx context.Context, v cluster.NodeView, m Move) error {
	var before func(context.Context, cluster.NodeView) error
	if m.Retract {
		before = s.retract
	}
	var manifest release.Digest // zero: whatever is registered
	if a := v.Active.Value; m.Release == a.Release {
		manifest = a.Manifest
	} else if c := a.Canary; c != nil && m.Release == c.Release {
		manifest = c.Manifest
	}
	return s.obtain(ctx, v, m.Release, manifest, before)
}

// enter makes the node count, or its claims complete again (T11).
func (s *site) enter(ctx context.Context, v cluster.NodeView, claims []release.ID) error {
	s.known = false // until it is answered
	if err := s.reg.Enter(ctx, v, claims); err != nil {
		return err
	}
	s.claims, s.claiming, s.known = claims, true, true
	return nil
}

// onlyRollout reports whether nothing but the rollout's own claim differs:
// that is made by itself.
func onlyRollout(v cluster.NodeView, a, b []release.ID) bool {
	for k := range a {
		rollouts := v.Rollout.Exists() && k == v.Rollout.Value.Buffer
		if a[k] != b[k] && !rollouts {
			return false
		}
	}
	return true
}

// claim says that the node holds the rollout's release (T5).
func (s *site) claim(ctx context.Context, v cluster.NodeView) error {
	if err := s.cfg.point("node.before-claim"); err != nil {
		return err
	}
	r := v.Rollout.Value
	s.known = false // until it is answered
	if err := s.reg.Claim(ctx, v); err != nil {
		return err
	}
	s.claims[r.Buffer], s.known = r.Release, true
	return s.cfg.point("node.after-claim")
}

// retract says that the rollout's buffer holds nothing (T4), before the tree that
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
