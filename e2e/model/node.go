package main

import (
	"fmt"
	"slices"

	"relman/cluster"
	"relman/release"
)

// node is what a node has that is not in etcd. Releases are told apart by their
// numbers, and a buffer is a directory here.
type node struct {
	up, cut bool    // runs; cannot reach etcd
	fenced  bool    // knows that it could not for too long
	learnt  bool    // knows that its claims are true
	doubt   bool    // has sent what may yet be carried out
	gaveUp  int8    // how often it has given up on a transaction
	ready   bool    // takes traffic, as far as it is not fenced
	boot    int8    // counts starts
	shows   int8    // the release
	epoch   int8    // of what it shows
	free    int8    // bits of the buffers that it has given up, and may write into
	disk    [3]int8 // 0: nothing, n: release n, verified and durable, -n: a part of it
}

func (n *node) takesTraffic() bool { return n.up && n.ready && !n.fenced && n.shows != 0 }

func (n *node) holds(r int8) bool { return r > 0 && slices.Contains(n.disk[:], r) }

func selfOf(i int, boot int8) cluster.Self {
	return cluster.Self{
		Node: release.NodeID(fmt.Sprintf("n%d", i)), Group: release.DefaultGroup,
		Live: cluster.Live{Boot: fmt.Sprintf("b%d", boot)},
	}
}

func number(id release.ID) int8 {
	if id == "" {
		return 0
	}
	return int8(id.Seq())
}

func claimOf(v *cluster.View, i, buffer int) (r int8, entered bool) {
	for _, c := range v.Claims {
		if c.Node == selfOf(i, 0).Node && c.Buffer == buffer {
			return number(c.Release), true
		}
	}
	return 0, false
}

// nodeActs emits what a node that runs and reaches etcd may do now.
func (x *explorer) nodeActs(s *state, i int) {
	who := node0 + actor(i)
	n := &s.nodes[i]
	self := selfOf(i, n.boot)
	if !n.up || n.cut || s.flights[who].txn != 0 {
		return
	}
	v := x.view(s.etcd)
	if v.Live[self.Node].Boot != self.Live.Boot {
		t := *s
		t.etcd = x.register(s.etcd, self)
		t.nodes[i].learnt = false
		x.emit(t, string(self.Node)+" registers")
		return
	}
	nv := x.nodeView(s.etcd, self)
	claims, entered := x.claims(v, i)
	x.obey(s, i, nv)
	if !n.learnt {
		x.learn(s, i, nv, claims)
		return
	}
	if nv.Member.Value != cluster.MemberIn {
		return
	}
	x.fill(s, i, nv, claims, entered)
	x.makeRoom(s, i, nv, claims)
	a := number(nv.Active.Value.Release)
	if (!entered && x.candidateHeld(n, nv) || entered && lacks(n, nv, claims)) && (a == 0 || n.disk[nv.Active.Value.Buffer] == a) {
		x.sendOwn(s, who, "Enter", func() *intent {
			held := make([]release.ID, 3)
			for k, r := range n.disk {
				if entered && nv.Rollout.Exists() && k == nv.Rollout.Value.Buffer {
					r = claims[k] // its claim stays as it is
				}
				if r > 0 {
					held[k] = rel(uint64(r))
				}
			}
			return &intent{kind: "Enter", txn: cluster.Enter(self, nv, held)}
		})
	}
	if r := nv.Rollout.Value; nv.Rollout.Exists() && entered && claims[r.Buffer] != number(r.Release) {
		switch {
		case n.disk[r.Buffer] == number(r.Release), x.wrong == claimUnverified && n.disk[r.Buffer] == -number(r.Release):
			x.sendOwn(s, who, "ClaimReady", func() *intent {
				return &intent{kind: "ClaimReady", release: r.Release, buffers: []int{r.Buffer}, txn: cluster.ClaimReady(self, nv)}
			})
		case claims[r.Buffer] != 0:
			x.sendOwn(s, who, "Retract", func() *intent {
				return &intent{kind: "Retract", buffers: []int{r.Buffer}, txn: cluster.Retract(self, nv)}
			})
		}
	}
}

func (x *explorer) claims(v *cluster.View, i int) (claims [3]int8, entered bool) {
	for k := range claims {
		r, is := claimOf(v, i, k)
		claims[k], entered = r, entered || is
	}
	return claims, entered
}

func (x *explorer) candidateHeld(n *node, nv *cluster.NodeView) bool {
	r := nv.Rollout.Value
	return !nv.Rollout.Exists() || n.disk[r.Buffer] == number(r.Release)
}

// makeRoom gives up claims that are true, and for neither active nor previous: a
// node that lacks what is active may need their room.
func (x *explorer) makeRoom(s *state, i int, nv *cluster.NodeView, claims [3]int8) {
	n := &s.nodes[i]
	a := nv.Active.Value
	if !x.w.makesRoom || n.holds(number(a.Release)) {
		return
	}
	for k, r := range claims {
		needed := slices.ContainsFunc(a.Needed(), func(h cluster.Held) bool { return h.Buffer == k })
		if r != 0 && !needed {
			x.sendOwn(s, node0+actor(i), "Lower", func() *intent {
				return &intent{kind: "Lower", buffers: []int{k}, txn: cluster.Lower(selfOf(i, n.boot), nv, []int{k})}
			})
		}
	}
}

// lacks: what active or previous rest on is held again, and not claimed.
func lacks(n *node, nv *cluster.NodeView, claims [3]int8) bool {
	a := nv.Active.Value
	if !nv.Active.Exists() {
		return false
	}
	return slices.ContainsFunc(a.Needed(), func(h cluster.Held) bool {
		return claims[h.Buffer] == 0 && n.disk[h.Buffer] == number(h.Release)
	})
}

func (x *explorer) sendOwn(s *state, who actor, kind string, decide func() *intent) {
	if !slices.Contains(x.w.only, kind) && kind != "TakeTurn" {
		return
	}
	t := decide()
	t.who, t.saw, t.boot = who, s.etcd, s.nodes[who-node0].boot
	x.send(s, who, x.add(t))
}

// obey follows what is active, and what the node itself is.
func (x *explorer) obey(s *state, i int, nv *cluster.NodeView) {
	n := &s.nodes[i]
	a := nv.Active.Value
	id, epoch := a.Release, a.Epoch
	now := noon
	if s.due {
		now = muchLater
	}
	if old, before, waits := a.WaitsAt(now, release.Epoch(n.epoch)); waits && old != nil {
		id, epoch = old.Release, before
	}
	if int8(epoch) > n.epoch && n.holds(number(id)) {
		t := *s
		t.nodes[i].epoch, t.nodes[i].shows = int8(epoch), number(id)
		x.emit(t, fmt.Sprintf("n%d shows release %d of epoch %d", i, number(id), epoch))
	}
	_, entered := x.claims(x.view(s.etcd), i)
	in := nv.Member.Value == cluster.MemberIn
	switch {
	case n.ready && !in:
		t := *s
		t.nodes[i].ready = false
		if nv.Member.Value == cluster.MemberDrain {
			t.etcd = x.put(t.etcd, cluster.StatusKey(selfOf(i, 0).Node, www), cluster.Status{State: cluster.NodeDraining, Drained: nv.Member.Mod})
		}
		x.emit(t, fmt.Sprintf("n%d is not ready any more, and says so", i))
	case !n.ready && in && entered && n.learnt && n.epoch == int8(epoch) && n.shows != 0:
		t := *s
		t.nodes[i].ready, t.nodes[i].fenced = true, false
		x.emit(t, fmt.Sprintf("n%d is ready", i))
	}
}

// learn lowers what the disk cannot back, the first act of a start.
func (x *explorer) learn(s *state, i int, nv *cluster.NodeView, claims [3]int8) {
	n := &s.nodes[i]
	in := nv.Member.Value == cluster.MemberIn
	if n.doubt && in && x.wrong != believeDoubtful {
		x.sendOwn(s, node0+actor(i), "TakeTurn", func() *intent {
			id := fmt.Sprintf("T%d-%d", n.boot, n.gaveUp)
			return &intent{kind: "TakeTurn", txn: cluster.TakeTurn(selfOf(i, n.boot), www, id)}
		})
		return
	}
	var untrue []int
	for k, r := range claims {
		if r != 0 && !n.holds(r) {
			untrue = append(untrue, k)
		}
	}
	if len(untrue) == 0 || !in {
		t := *s
		t.nodes[i].learnt = true
		for k, r := range claims {
			if r == 0 {
				t.nodes[i].free |= 1 << k
			}
		}
		x.emit(t, fmt.Sprintf("n%d finds its claims true", i))
		return
	}
	x.sendOwn(s, node0+actor(i), "Lower", func() *intent {
		return &intent{kind: "Lower", buffers: untrue, txn: cluster.Lower(selfOf(i, n.boot), nv, untrue)}
	})
}

// fill writes what is wanted into a buffer for which no claim stands: the
// rollout's release, and what is active.
func (x *explorer) fill(s *state, i int, nv *cluster.NodeView, claims [3]int8, entered bool) {
	n := &s.nodes[i]
	want := map[int]int8{}
	if a := nv.Active.Value; nv.Active.Exists() {
		for _, h := range a.Needed() {
			want[h.Buffer] = number(h.Release)
		}
	}
	if r := nv.Rollout.Value; nv.Rollout.Exists() {
		want[r.Buffer] = number(r.Release)
	}
	for k := range 3 {
		r, wanted := want[k]
		given := claims[k] == 0 && n.free&(1<<k) != 0 || !entered
		if !wanted || n.disk[k] == r || !given && x.wrong != dropFirst {
			continue
		}
		t := *s
		label := "n%d has verified release %d in buffer %d"
		if n.disk[k] == -r {
			t.nodes[i].disk[k] = r
		} else {
			t.nodes[i].disk[k] = -r
			label = "n%d writes release %d into buffer %d"
		}
		x.emit(t, fmt.Sprintf(label, i, r, k))
	}
}

// register is a node's session: it is written by Node.Run, whose only guard is
// that no other process has the name.
func (x *explorer) register(at int32, self cluster.Self) int32 {
	at = x.put(at, cluster.LiveKey(self.Node), self.Live)
	at = x.put(at, cluster.LastKey(self.Node), cluster.Last{Boot: self.Live.Boot})
	if !x.has(at, cluster.JoinKey(self.Node)) {
		at = x.put(at, cluster.JoinKey(self.Node), cluster.Join{Sites: []release.Site{}, Group: self.Group})
	}
	return at
}

// nodeAnswered is what a node takes from an answer.
func nodeAnswered(s *state, t *intent, ok bool) {
	if t.who < node0 || t.who > node1 {
		return
	}
	n := &s.nodes[t.who-node0]
	if t.boot != n.boot || !n.up {
		return
	}
	switch {
	case !ok:
		n.learnt = false // a claim may be another than is known
	case t.kind == "TakeTurn":
		n.doubt = false
	case t.kind == "Retract" || t.kind == "Lower":
		for _, k := range t.buffers {
			n.free |= 1 << k
		}
	case t.kind == "ClaimReady":
		n.free &^= 1 << t.buffers[0]
	case t.kind == "Enter":
		n.free = 0
	}
}
