package main

import (
	"fmt"

	"relman/cluster"
	"relman/release"
)

// What operators may want.

func ask(who actor, d cluster.Desired) wish {
	d.By, d.At = "ops", noon
	// What is taken back needs no release that is fit to be shown.
	back := d.Mode == cluster.Abort || d.Mode == cluster.EndCanary
	return wish{kind: "Request", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if v.Judged(d) != "" && !d.Overrides(cluster.OverrideVerdict) && !back || v.Frozen(d) && !d.Overrides(cluster.OverrideFreeze) {
			return nil
		}
		if _, kept := v.Releases[d.Release]; !kept && !back {
			return nil
		}
		t := cluster.Request(v, d)
		return &t
	}}
}

func publish(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.Publish, Release: rel(r)})
}

func rollback(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.Rollback, Release: rel(r)})
}

func overriding(w actor, id cluster.RequestID, r uint64, o cluster.Override) wish {
	return ask(w, cluster.Desired{Request: id, Mode: cluster.Publish, Release: rel(r), Override: []cluster.Override{o}})
}

func abort(who actor, id cluster.RequestID) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.Abort})
}

func freeze(who actor, z *cluster.Freeze) wish {
	return wish{kind: "SetFreeze", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if z == nil && !v.Freeze.Exists() {
			return nil
		}
		t := cluster.SetFreeze(www, v.Freeze, z)
		return &t
	}}
}

func setPolicy(who actor, p cluster.Policy) wish {
	return wish{kind: "SetPolicy", who: who, decide: func(v *cluster.View) *cluster.Txn {
		t := cluster.SetPolicy(www, v.Policy, p)
		return &t
	}}
}

func judgeRelease(who actor, id release.ID, verdict cluster.Verdict, why string) wish {
	return wish{kind: "SetVerdict", who: who, release: id, decide: func(v *cluster.View) *cluster.Txn {
		_, kept := v.Releases[id]
		if _, judged := v.Verdicts[id]; !kept || verdict == "" && !judged {
			return nil
		}
		t := cluster.SetVerdict(v, id, verdict, why)
		return &t
	}}
}

func pin(who actor, id release.ID, why string) wish {
	return wish{kind: "SetPin", who: who, decide: func(v *cluster.View) *cluster.Txn {
		_, kept := v.Releases[id]
		if _, pinned := v.Pins[id]; !kept || why == "" && !pinned {
			return nil
		}
		t := cluster.SetPin(v, id, why)
		return &t
	}}
}

func confirm(who actor) wish {
	return wish{kind: "Confirm", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if !v.OnTrial() {
			return nil
		}
		t := cluster.Confirm(v)
		return &t
	}}
}

func cordon(who actor, n release.NodeID, c *cluster.Cordon) wish {
	return wish{kind: "SetCordon", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if c == nil && !v.Cordons[n].Exists() {
			return nil
		}
		t := cluster.SetCordon(v, n, c)
		return &t
	}}
}

func approve(who actor, n release.NodeID) wish {
	return wish{kind: "Approve", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if v.Members[n].Exists() {
			return nil
		}
		t := cluster.Approve(www, n, cluster.Approval{By: "ops", At: noon})
		return &t
	}}
}

// removeNode forgets a node that is out and not live, as the program wants it.
func removeNode(who actor, n release.NodeID) wish {
	return wish{kind: "RemoveNode", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if has(v.Live, n) || v.Members[n].Exists() && v.Members[n].Value != cluster.MemberOut {
			return nil
		}
		return &cluster.RemoveNode(n, []*cluster.View{v})[0]
	}}
}

// What may happen by itself.

// election: m0 is deposed, and m1 leads.
func election() event {
	return event{"m0 is deposed, m1 is elected", func(x *explorer, s *state) bool {
		s.etcd = x.drop(s.etcd, electionKey(manager0))
		s.etcd = x.put(s.etcd, electionKey(manager1), "m")
		return true
	}}
}

func crash(i int) event {
	return event{fmt.Sprintf("n%d dies", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		if !n.up {
			return false
		}
		n.up, n.ready, n.cut, n.learnt, n.doubt, n.fenced, n.free = false, false, false, false, false, false, 0
		who := node0 + actor(i)
		if s.flights[late].txn == 0 {
			s.flights[late] = s.flights[who]
		}
		s.flights[who] = flight{}
		return true
	}}
}

func start(i int) event {
	return event{fmt.Sprintf("n%d starts", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		if n.up {
			return false
		}
		n.up, n.boot, n.doubt = true, n.boot+1, true
		for k := range n.disk {
			n.disk[k] = max(n.disk[k], 0)
		}
		if !n.holds(n.shows) {
			n.shows, n.epoch = 0, 0
		}
		return true
	}}
}

// loseDisk empties the disk of a node that is down.
func loseDisk(i int) event {
	return event{fmt.Sprintf("n%d's disk is lost", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		if n.up {
			return false
		}
		n.disk, n.shows, n.epoch = [3]int8{}, 0, 0
		return true
	}}
}

// damage: a buffer turns out not to be as it was verified.
func damage(i, buffer int) event {
	return event{fmt.Sprintf("n%d finds buffer %d damaged", i, buffer), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		if !n.up || n.disk[buffer] <= 0 {
			return false
		}
		if n.shows == n.disk[buffer] {
			n.shows, n.epoch, n.ready = 0, 0, false
		}
		n.disk[buffer], n.learnt, n.free = 0, false, n.free&^(1<<buffer)
		return true
	}}
}

// silence: the session of a node that is down or cut off runs out.
func silence(i int) event {
	return event{fmt.Sprintf("the session of n%d runs out", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		id := selfOf(i, 0).Node
		if n.up && !n.cut || !x.has(s.etcd, cluster.LiveKey(id)) {
			return false
		}
		s.etcd = x.drop(s.etcd, cluster.LiveKey(id), cluster.StatusKey(id, www))
		return true
	}}
}

func cut(i int) event {
	return event{fmt.Sprintf("n%d is cut off from etcd", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		ok := n.up && !n.cut
		n.cut = true
		return ok
	}}
}

func fence(i int) event {
	return event{fmt.Sprintf("n%d fences itself", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		ok := n.up && n.cut && !n.fenced
		n.fenced = true
		return ok
	}}
}

func heal(i int) event {
	return event{fmt.Sprintf("n%d reaches etcd again", i), func(x *explorer, s *state) bool {
		n := &s.nodes[i]
		if !n.up || !n.cut {
			return false
		}
		n.cut, n.ready, n.learnt = false, false, false
		return true
	}}
}

// forget is a hand that removes a release from etcd, with no guard at all.
func forget(r uint64) event {
	return event{fmt.Sprintf("a hand removes release %d", r), func(x *explorer, s *state) bool {
		s.etcd = x.drop(s.etcd, cluster.ReleaseKey(www, rel(r)), cluster.VerdictKey(www, rel(r)))
		return true
	}}
}
