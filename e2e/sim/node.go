package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/nodeagent"
	"relman/release"
)

const (
	nodeTTL   = 15 * time.Second
	fence     = nodeagent.DefaultFence
	trees     = cluster.DefaultBuffers
	rereads   = 2500 * time.Millisecond
	recheck   = time.Minute
	bootTakes = 300 * time.Millisecond
)

// node is a node: its agent, which obeys the newest that it knows of etcd by
// nodeagent.Next, and its disk, which outlives it.
type node struct {
	proc
	self   cluster.Self
	disk   disk
	skew   time.Duration // of its clock
	boots  int
	dead   bool // it does not come back
	outcry map[release.ID]bool

	// Of this start.
	session *session
	alive   bool
	known   map[string]known
	newest  int64 // revision
	seen    bool
	view    cluster.NodeView
	asked   time.Duration // when the last question began that was answered
	lived   time.Duration // when the last question began whose answer had the session in it

	trees   []release.ID // what is open, by tree
	shown   release.ID
	epoch   release.Epoch // that visitors see
	waiting bool          // for a flip that was scheduled
	joining time.Duration // when it swapped last and had not been showing what was active before
	applied struct {
		release release.ID
		epoch   release.Epoch
	}
	entered bool
	drained int64 // the member entry that is acknowledged

	claims   []release.ID
	mods     []int64
	turn     int64 // 0: a new one is to be taken
	turns    int   // that this node has taken, in all of its starts
	claiming bool
	learned  bool
	member   int64 // with which that goes

	job    int // the newest one counts
	busy   bool
	firm   bool // it cannot be interrupted now
	slow   time.Duration
	report string // that stands
	stands int64  // its revision; -1: not known
	told   bool   // a report is under way

	tasting string // the flip whose release it looks at, or has looked at
	tasted  *cluster.BakeReport
}

// known is what a node knows of one key.
type known struct {
	pair *pair
	at   int64
}

func newNode(w *world, i int) *node {
	n := &node{proc: proc{w: w, name: fmt.Sprintf("web-%d", i+1)}, outcry: map[release.ID]bool{}}
	n.self.Node, n.self.Group = release.NodeID(n.name), release.DefaultGroup
	if i == 1 {
		n.self.Group = "beta"
	}
	n.disk.grow(trees)
	if n.skew = w.between(-300*time.Millisecond, 300*time.Millisecond); w.odds(1, 8) {
		n.skew = w.between(-time.Hour, time.Hour)
	}
	return n
}

// boot starts the agent: it shows what it showed last, if that is whole, and is
// not ready.
func (n *node) boot() {
	n.start()
	n.boots++
	n.self.Live = cluster.Live{Boot: fmt.Sprintf("%s.%d", n.name, n.boots), Addr: "http://" + n.name}
	n.session, n.alive, n.known, n.newest, n.seen, n.view = nil, false, map[string]known{}, 0, false, cluster.NodeView{}
	n.asked, n.lived = -1, -fence
	n.entered, n.drained, n.claims, n.mods, n.claiming, n.learned, n.member = false, 0, make([]release.ID, trees), nil, false, false, 0
	n.turn = 0
	n.busy, n.firm, n.report, n.told = false, false, "", false
	n.job++
	n.shown, n.epoch, n.waiting = "", 0, false
	n.tasting, n.tasted = "", nil
	n.applied.release, n.applied.epoch = n.disk.release, n.disk.epoch
	n.trees = make([]release.ID, len(n.disk.trees))
	for i := range n.disk.trees {
		t := n.disk.trees[i]
		switch {
		case t.manifest == "":
		case t.content != t.manifest, t.rotten && n.w.odds(1, 2):
			n.spoil(t.manifest)
			*t = tree{content: torn, synced: torn}
		default:
			n.trees[i] = t.manifest
		}
	}
	if n.holds(n.applied.release) {
		n.shown, n.epoch = n.applied.release, n.applied.epoch
	}
	n.after(bootTakes, func() {
		n.register()
		n.follow()
	})
}

// spoil notes that a fault has taken a release: its claim may be untrue until the
// node can say so.
func (n *node) spoil(id release.ID) {
	if id != "" {
		n.outcry[id] = true
	}
}

func (n *node) holds(id release.ID) bool { return id != "" && slices.Contains(n.trees, id) }

// register makes the node known as alive.
func (n *node) register() {
	n.open(nodeTTL, n.unregistered, func(s *session) {
		if s == nil {
			n.after(n.w.between(100*time.Millisecond, time.Second), n.register)
			return
		}
		n.session = s
		n.enlist(s)
	})
}

func (n *node) unregistered() {
	n.alive = false
	n.after(n.w.between(50*time.Millisecond, 500*time.Millisecond), n.register)
}

// enlist puts the live key, when nobody else's stands there who renews it.
func (n *node) enlist(s *session) {
	var live *pair
	var joined, busy bool
	key := cluster.LiveKey(n.self.Node)
	n.call(func() {
		live, joined, busy = n.w.etcd.pairs[key], n.w.etcd.pairs[cluster.JoinKey(n.self.Node)] != nil, false
		if live != nil && value[cluster.Live](live).Boot != n.self.Live.Boot {
			l := n.w.etcd.leases[live.lease]
			busy = l != nil && l.ends-n.w.now >= nodeTTL-nodeTTL/3-2*time.Second
		}
	}, func(answered bool) {
		if !s.alive {
			return
		}
		if !answered || busy {
			n.after(n.w.between(200*time.Millisecond, 2*time.Second), func() {
				if s.alive {
					n.enlist(s)
				}
			})
			return
		}
		n.commit(n.announce(live, joined), s.id, func() bool { return !s.alive }, func(o outcome) {
			switch {
			case !s.alive:
			case o.err != nil || o.refused != nil:
				s.end()
			default:
				n.alive, n.report, n.stands = true, "", -1
				n.look(func() {})
				n.tellStatus()
			}
		})
	})
}

// announce is the transaction by which cluster.Node registers.
func (n *node) announce(live *pair, joined bool) cluster.Txn {
	g := cluster.Guard{Key: cluster.LiveKey(n.self.Node), Class: cluster.ClassDuplicateNode}
	if live != nil {
		g.Rev = live.Mod
	}
	t := cluster.Txn{Name: "register " + n.name, Guards: []cluster.Guard{g}, Ops: []cluster.Op{
		{Key: g.Key, Value: encode(n.self.Live), Leased: true},
		{Key: cluster.LastKey(n.self.Node), Value: encode(cluster.Last{Boot: n.self.Live.Boot, FenceMS: fence.Milliseconds()})},
	}}
	if !joined {
		k := cluster.JoinKey(n.self.Node)
		t.Guards = append(t.Guards, cluster.Guard{Key: k, Field: cluster.Create, Class: cluster.ClassExists})
		t.Ops = append(t.Ops, cluster.Op{Key: k, Value: encode(cluster.Join{Sites: []release.Site{}, Group: n.self.Group})})
	}
	return t
}

func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// watched are the keys that the node obeys.
func (n *node) watched() []string {
	return []string{cluster.ActiveKey(site), cluster.RolloutKey(site), cluster.MemberKey(site, n.self.Node)}
}

// follow watches them, and reads them every now and then.
func (n *node) follow() {
	keys := n.watched()
	n.w.etcd.watch = append(n.w.etcd.watch, &watcher{of: &n.proc, gen: n.gen,
		wants: func(key string) bool { return slices.Contains(keys, key) },
		tell: func(key string, at int64, now *pair) {
			if k := n.known[key]; at > k.at && n.seen {
				n.known[key] = known{now, at}
				n.newest = max(n.newest, at)
				n.see()
			}
		},
	})
	n.read()
}

// read reads all of them at one revision, again and again.
func (n *node) read() {
	n.look(func() {
		if !n.w.bug.deaf || !n.seen {
			n.after(n.w.between(rereads/2, rereads), n.read)
		}
	})
}

// look reads them once.
func (n *node) look(then func()) {
	asked, own := n.w.now, false
	var found map[string]*pair
	var rev int64
	n.call(func() {
		live := n.w.etcd.pairs[cluster.LiveKey(n.self.Node)]
		own = live != nil && live.Value == encode(n.self.Live)
		rev, found = n.w.etcd.rev, map[string]*pair{}
		for _, k := range n.watched() {
			found[k] = n.w.etcd.pairs[k]
		}
	}, func(answered bool) {
		then()
		if !answered {
			return
		}
		n.asked = max(n.asked, asked)
		if own {
			n.lived = max(n.lived, asked)
		}
		restored := rev < n.newest
		changed := !n.seen || restored
		n.seen = true
		for _, k := range n.watched() {
			old := n.known[k]
			if rev > old.at || restored {
				changed = changed || old.pair != found[k]
				n.known[k] = known{found[k], rev}
			}
		}
		n.newest = max(n.newest, rev)
		if restored {
			n.newest, n.entered, n.learned = rev, false, false
		}
		if changed {
			n.see()
		}
	})
}

// see takes what is new: it swaps at once, and then has its worker look.
func (n *node) see() {
	old := n.view
	keys := n.watched()
	n.view = cluster.NodeView{
		Site: site, Revision: n.newest,
		Active:  entry[cluster.Active](n.known[keys[0]].pair),
		Rollout: entry[cluster.Rollout](n.known[keys[1]].pair),
		Member:  memberOf(n.known[keys[2]].pair),
	}
	n.swap()
	n.taste()
	if old.Member.Mod != n.view.Member.Mod {
		n.entered = false
	}
	same := old.Active.Mod == n.view.Active.Mod && old.Rollout.Mod == n.view.Rollout.Mod && old.Member.Mod == n.view.Member.Mod
	if !same && n.busy && !n.firm {
		n.job++ // whatever it is about
		n.busy = false
	}
	n.tellStatus()
	n.work(0)
}

// standing is what the next step rests on.
func (n *node) standing() *nodeagent.Standing {
	v := n.view
	v.ClaimMods, v.Turn = n.mods, n.turn
	return &nodeagent.Standing{
		View: v, Group: n.self.Group, Trees: n.trees, Release: n.applied.release, Epoch: n.applied.epoch, Shown: n.shown,
		Claims: n.claims, Claiming: n.claiming, Known: n.learned && n.member == v.Member.Mod,
	}
}

func (n *node) obeys() bool { return n.w.bug.obeys || n.standing().Obeys() }

// swap shows what is active, if the node holds it.
func (n *node) swap() {
	a := n.view.Active
	if !n.seen || !n.obeys() || !a.Exists() {
		return
	}
	now := n.w.clock().Add(n.skew)
	id, of, epoch, waits := n.standing().Due(now, n.clockError())
	if n.waiting = waits; waits {
		n.w.sum.Waits++
		left := min(a.Value.ActivateAt.Sub(now), time.Second)
		n.after(left, func() {
			if n.waiting {
				n.swap()
			}
		})
	}
	if n.shown == id && n.epoch == epoch || !n.holds(id) {
		return
	}
	n.w.say("%s: shows %s, epoch %d", n.name, id, epoch)
	if p := a.Value.Previous; !n.entered || p != nil && p.Release != n.shown {
		n.joining = n.w.now
	}
	n.shown, n.epoch = id, epoch
	n.w.check.swapped(n, n.applied.epoch)
	n.applied.release, n.applied.epoch = of, epoch
	n.w.sum.Swaps++
	n.tellStatus()
	n.taste()
}

// clockError is by how much the node's clock is known to differ from the leader's.
func (n *node) clockError() time.Duration {
	for _, m := range n.w.leading() {
		if off := n.skew - m.skew; off.Abs() > cluster.MaxClockError {
			return off
		}
	}
	return 0
}

// wants is the epoch that the node is to show now.
func (n *node) wants() release.Epoch {
	if a := n.view.Active.Value; n.waiting {
		return a.Before
	}
	return n.view.Active.Value.Epoch
}

// ready says whether a balancer sends visitors here.
func (n *node) ready() bool {
	if !n.up || !n.seen || !n.obeys() {
		return false
	}
	if !n.w.bug.unfenced && n.w.now-n.asked > fence {
		return false
	}
	if n.w.bug.unfenced {
		n.lived = n.w.now
	}
	if n.w.now-n.lived > fence {
		return false
	}
	a := n.view.Active.Value
	if c := a.Canary; c != nil && (!n.holds(c.Release) || !n.holds(a.Release)) {
		return false
	}
	if p := a.Previous; p != nil && n.w.now-n.joining < fence+nodeagent.PageTime && !n.holds(p.Release) {
		return false
	}
	return n.view.Member.Value == cluster.MemberIn && n.epoch == n.wants() && n.entered
}

// status is what the node says of itself.
func (n *node) status() cluster.Status {
	st := cluster.Status{State: cluster.NodeServing, Release: n.shown, Epoch: n.epoch}
	if n.tasted != nil && n.tasted.Epoch == n.epoch {
		st.Bake = n.tasted
	}
	switch m := n.view.Member; {
	case !n.obeys():
		st.State = cluster.NodeRefusing
	case m.Value == cluster.MemberDrain:
		st.State, st.Drained = cluster.NodeDraining, m.Mod
	case m.Value == cluster.MemberOut:
		st.State = cluster.NodeOut
	case m.Value != cluster.MemberIn:
		st.State = cluster.NodeJoining
	}
	return st
}

// tellStatus writes the status when it is another one than stands, as cluster.Node
// does: a copy that comes late is not to put an older one in its place.
func (n *node) tellStatus() {
	if !n.alive || n.told || !n.seen || encode(n.status()) == n.report {
		return
	}
	n.told = true
	s, key := n.session, cluster.StatusKey(n.self.Node, site)
	again := func() {
		n.after(n.w.between(20*time.Millisecond, time.Second), func() {
			n.told = false
			n.tellStatus()
		})
	}
	if n.stands < 0 {
		var p *pair
		n.call(func() { p = n.w.etcd.pairs[key] }, func(answered bool) {
			if answered {
				n.stands = 0
				if p != nil {
					n.stands = p.Mod
				}
			}
			again()
		})
		return
	}
	text := encode(n.status())
	t := cluster.Txn{
		Name: "write the status of " + n.name,
		Guards: []cluster.Guard{
			{Key: cluster.LiveKey(n.self.Node), Field: cluster.Value, Value: encode(n.self.Live), Class: cluster.ClassDuplicateNode},
			{Key: key, Rev: n.stands, Class: cluster.ClassConflict},
		},
		Ops: []cluster.Op{{Key: key, Value: text, Leased: true}},
	}
	n.after(20*time.Millisecond, func() {
		n.commit(t, s.id, func() bool { return !s.alive }, func(o outcome) {
			switch {
			case !s.alive:
				n.told = false
			case o.class() == cluster.ClassConflict:
				n.stands = -1
				again()
			case o.err != nil || o.refused != nil:
				n.told = false
				s.end()
			default:
				n.report, n.stands, n.told = text, o.rev, false
				n.tellStatus()
			}
		})
	})
}

// short is a key without what all keys have.
func short(key string) string { return strings.TrimPrefix(key, cluster.Prefix) }
