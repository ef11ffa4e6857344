package cluster

import (
	"fmt"

	"relman/release"
)

// Self is a node in its own transactions.
type Self struct {
	Node  release.NodeID
	Group release.Group
	Live  Live // of this boot, as it stands in etcd
}

// liveGuard: the session of this very boot lives. Another process with the
// same node id, or a request of an earlier boot that was long under way, does
// not speak for this disk.
func (s Self) liveGuard() Guard { return valueIs(LiveKey(s.Node), encode(s.Live), ClassNotLive) }

// inGuard: the node is a member, and has been since v was read. One that was
// put out meanwhile and let in again has to enter again.
func (s Self) inGuard(v *NodeView) Guard {
	rev := v.Member.Mod
	if v.Member.Value != MemberIn {
		rev = -1 // never so
	}
	return unchanged(MemberKey(v.Site, s.Node), rev, ClassNotMember)
}

// claimGuard: the claim is the one that the node knows. A copy of a
// transaction that was long under way says what was true of the disk when it was
// made. What the node has written since about the same buffer stands.
func (s Self) claimGuard(v *NodeView, buffer int) Guard {
	return unchanged(ClaimKey(v.Site, buffer, s.Group, s.Node), v.claimMod(buffer), ClassConflict)
}

// nothingMoved: the node is who it was when v was read, and what its claims are
// needed for is what it was.
func (s Self) nothingMoved(v *NodeView) []Guard {
	return []Guard{
		unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
		unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
		s.inGuard(v),
		s.liveGuard(),
		s.turnGuard(v),
	}
}

func (s Self) claim(site release.Site, buffer int, id release.ID) Op {
	value := string(id)
	if id == "" {
		value = NoClaim
	}
	return putBare(ClaimKey(site, buffer, s.Group, s.Node), value)
}

// Retract is T4: the node gives up what the rollout's buffer holds, before it
// touches a byte of it.
func Retract(s Self, v *NodeView) Txn {
	r := v.Rollout.Value
	return Txn{
		Name: fmt.Sprintf("retract buffer %d of %s on %s", r.Buffer, v.Site, s.Node),
		Guards: []Guard{
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
			s.inGuard(v),
			s.liveGuard(),
			s.turnGuard(v),
			s.claimGuard(v, r.Buffer),
		},
		Ops: []Op{s.claim(v.Site, r.Buffer, "")},
	}
}

// ClaimReady is T5: the rollout's buffer holds its release, verified and durable, and
// will until it is retracted.
func ClaimReady(s Self, v *NodeView) Txn {
	r := v.Rollout.Value
	return Txn{
		Name: fmt.Sprintf("claim %s for buffer %d of %s on %s", r.Release, r.Buffer, v.Site, s.Node),
		Guards: []Guard{
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
			s.inGuard(v),
			s.liveGuard(),
			s.turnGuard(v),
			s.claimGuard(v, r.Buffer),
		},
		Ops: []Op{s.claim(v.Site, r.Buffer, r.Release)},
	}
}

// Enter is T11: all claims of the node, as its disk has them, while nothing
// moved since v was read. held has one release per buffer, "" for none; of all that
// there can be after them it says that they hold nothing: a flip to any of them that
// was made before sees it. A node enters only when it holds the active release in its
// buffer.
func Enter(s Self, v *NodeView, held []release.ID) Txn {
	t := Txn{
		Name:   fmt.Sprintf("enter %s as %s", v.Site, s.Node),
		Guards: s.nothingMoved(v),
	}
	for k := range MaxBuffers {
		var id release.ID
		if k < len(held) {
			id = held[k]
		}
		t.Guards = append(t.Guards, s.claimGuard(v, k))
		t.Ops = append(t.Ops, s.claim(v.Site, k, id))
	}
	return t
}

// Lower is T11a, the first act of a start and after a failed check of the
// disk: claims that the disk cannot back are retracted, wherever they stand. A
// node that lacks the active release also makes room by it. So nothing may have
// moved since v was read: a claim that was not needed then may be needed now.
// Only claims that exist are touched, so that a node that never entered does
// not enter by it. The transaction says so of itself (Lowered): no other one may
// take back what active or previous rest on.
func Lower(s Self, v *NodeView, buffers []int) Txn {
	t := Txn{
		Name:   fmt.Sprintf("lower the claims of %s on %s", s.Node, v.Site),
		Guards: s.nothingMoved(v),
	}
	for _, k := range buffers {
		g := s.claimGuard(v, k)
		if g.Rev == 0 {
			g.Rev = -1 // never so
		}
		t.Guards = append(t.Guards, g)
		t.Ops = append(t.Ops, s.claim(v.Site, k, ""))
	}
	t.Ops = append(t.Ops, put(LoweredKey(s.Node, v.Site), Lowered{Buffers: buffers, Boot: s.Live.Boot}))
	return t
}
