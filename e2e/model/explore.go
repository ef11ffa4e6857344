package main

import (
	"fmt"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

// actor is who may have a transaction on its way, one at a time.
type actor int8

// The actors. What late holds nobody waits for any more: its sender has died
// or given up, and it may be carried out all the same.
const (
	manager0 actor = iota
	manager1
	node0
	node1
	operator0
	operator1
	publisher
	sweeper0
	sweeper1
	late
	actors
)

// operates: it is an operator. Of his transactions no copies come late: what he puts
// up and somebody takes down again, a freeze say, leaves no trace by which a copy of
// it could be refused. docs/design.md says so.
func (a actor) operates() bool { return a == operator0 || a == operator1 }

func (a actor) String() string {
	return [...]string{"m0", "m1", "n0", "n1", "op0", "op1", "publisher", "sweeper0", "sweeper1", "late"}[a]
}

// flight is a transaction on its way.
type flight struct {
	txn    int32 // 0: none
	landed bool  // a copy has committed, and its answer was lost
}

// state is one state of a world.
type state struct {
	etcd    int32
	flights [actors]flight
	done    uint64 // what happens once and has happened
	due     bool   // the time of what was scheduled has come
	nodes   [2]node
	sweep   sweep
}

// world is a small cluster with what can happen in it.
type world struct {
	name  string
	nodes int
	begin func(st *store) state
	// wishes are what operators may decide on, each once, and events what may
	// happen, each once.
	wishes []wish
	events []event
	// only are the transactions that leaders and nodes decide on.
	only []string
	// giveUp lets transactions be carried out after their sender has given up,
	// lose lets answers be lost.
	giveUp, lose bool
	// mostGivenUp is how often a node gives up, at least once: it writes anew
	// what it did not know, and there would be no end of states.
	mostGivenUp int8
	// copies lets a copy of a transaction be under way still when another one has
	// been answered.
	copies    bool
	makesRoom bool // nodes give up claims to make room for what is active
	tries     int8 // of a publisher; 0: one
	hand      bool // somebody removes releases by hand
	large     bool // only in the larger setting
	// stores have an object store, a publisher and so many who sweep.
	stores, publishes bool
	sweepers          int
}

// wish is a transaction that somebody decides on once.
type wish struct {
	kind    string
	who     actor
	release release.ID // that it is about, if it is no request
	// decide makes the transaction from what stands; nil: not now.
	decide func(v *cluster.View) *cluster.Txn
}

// event is what happens once, and is no transaction of the protocol.
type event struct {
	name string
	do   func(x *explorer, s *state) bool // false: not now
}

// step emits what can happen next, but for transactions on their way.
func (x *explorer) step(s *state) {
	x.leader(s, manager0)
	x.leader(s, manager1)
	for i := range x.w.nodes {
		x.nodeActs(s, i)
	}
	for i, w := range x.w.wishes {
		if s.done&(1<<i) != 0 || s.flights[w.who].txn != 0 {
			continue
		}
		txns := x.remember(madeKey{s.etcd, w.who, int64(i)}, func() []*intent {
			v := x.view(s.etcd)
			txn := w.decide(v)
			if txn == nil {
				return nil
			}
			t := &intent{kind: w.kind, release: w.release, txn: *txn}
			if w.kind == "Request" {
				t.about(&t.request, &t.release)
			}
			return []*intent{t}
		})
		for _, n := range txns {
			t := *s
			t.done |= 1 << i
			x.send(&t, w.who, n)
		}
	}
	for i, e := range x.w.events {
		bit := uint64(1) << (32 + i)
		if t := *s; s.done&bit == 0 && e.do(x, &t) {
			t.done |= bit
			x.emit(t, e.name)
		}
	}
	if x.w.stores {
		x.storeActs(s)
		if x.w.publishes {
			x.publisherActs(s)
		}
		for i := range x.w.sweepers {
			x.sweeperActs(s, i)
		}
	}
}

// explorer explores one world breadth first.
type explorer struct {
	*store
	w        *world
	without  map[guardID]bool
	wrong    misdeed
	all      bool // go on after a violation
	limit    int
	number   map[state]int32
	queue    []state
	parent   []int32
	labels   []string
	landings map[[2]int32]int32
	met      map[guardID]bool
	kinds    map[string]bool // of transactions

	at          int32 // the state whose successors are emitted
	transitions int
	depth       int
	broken      map[string]int32 // violations, each with the first state that shows it
	first       string
}

// result is what an exploration found.
type result struct {
	world               string
	states, transitions int
	depth               int
	complete            bool
	broken              []string
	trace               []string // to the first violation
	kinds               map[string]bool
}

func explore(w *world, st *store, without map[guardID]bool, wrong misdeed, all bool, limit int) (result, map[guardID]bool) {
	x := &explorer{
		store: st, w: w, without: without, wrong: wrong, all: all, limit: limit,
		number: map[state]int32{}, landings: map[[2]int32]int32{}, met: map[guardID]bool{}, broken: map[string]int32{}, kinds: map[string]bool{},
	}
	x.at = -1
	x.emit(w.begin(st), "in the beginning")
	next := 0
	for ends := len(x.queue); next < len(x.queue) && len(x.queue) < limit; next++ {
		if next == ends { // the first state of the next depth
			x.depth++
			ends = len(x.queue)
		}
		x.at = int32(next)
		x.successors(x.queue[next])
		if len(x.broken) > 0 && !all {
			break
		}
	}
	r := result{kinds: x.kinds, world: w.name, states: len(x.queue), transitions: x.transitions, depth: x.depth, complete: next == len(x.queue)}
	for name := range x.broken {
		r.broken = append(r.broken, name)
	}
	slices.Sort(r.broken)
	if x.first != "" {
		r.trace = x.trace(x.broken[x.first])
	}
	return r, x.met
}

// emit is a step to s.
func (x *explorer) emit(s state, label string) { x.emitBroken(s, label, nil) }

// emitBroken is a step that itself was wrong in some ways.
func (x *explorer) emitBroken(s state, label string, bad []string) {
	x.transitions++
	n, known := x.number[s]
	if !known {
		n = int32(len(x.queue))
		x.number[s] = n
		x.queue, x.parent, x.labels = append(x.queue, s), append(x.parent, x.at), append(x.labels, label)
		bad = append(bad, x.wrongState(&s)...)
	} else if len(bad) > 0 { // its way is another one than that of the state: show this one
		n = int32(len(x.queue))
		if x.all {
			n = x.number[s]
		} else {
			x.queue, x.parent, x.labels = append(x.queue, s), append(x.parent, x.at), append(x.labels, label)
		}
	}
	for _, b := range bad {
		if _, was := x.broken[b]; !was {
			x.broken[b] = n
		}
		if x.first == "" {
			x.first = b
		}
	}
}

func (x *explorer) trace(n int32) (steps []string) {
	for ; n >= 0; n = x.parent[n] {
		steps = append(steps, x.labels[n])
	}
	slices.Reverse(steps)
	return steps
}

// send puts a transaction on its way if its actor waits for no other one.
func (x *explorer) send(s *state, who actor, txn int32) {
	if s.flights[who].txn != 0 {
		return
	}
	t := *s
	t.flights[who] = flight{txn: txn}
	x.emit(t, who.String()+" decides: "+x.store.all[txn].txn.Name)
}

func (x *explorer) successors(s state) {
	x.step(&s)
	for who := range actors {
		if s.flights[who].txn != 0 {
			x.land(s, who)
		}
	}
}

// land is what can become of a transaction on its way.
func (x *explorer) land(s state, who actor) {
	f := s.flights[who]
	t := x.store.all[f.txn]
	x.kinds[t.kind] = true
	for _, id := range t.ids {
		x.met[id] = true
	}
	next, refused := x.carryOut(s.etcd, f.txn)
	ok := refused < 0
	gone := s
	gone.flights[who] = flight{}
	if ok {
		bad := x.judge(&s, t, next, f.landed)
		after := gone
		after.etcd = next
		x.answer(after, who, t, true, t.txn.Name+" commits", bad)
		if x.w.copies && !who.operates() && who != late && gone.flights[late].txn == 0 {
			after = gone
			after.etcd, after.flights[late] = next, flight{txn: f.txn, landed: true}
			x.answer(after, who, t, true, t.txn.Name+" commits, and an earlier copy is under way still", bad)
		}
		if x.w.lose && !f.landed && who != late {
			after = s
			after.etcd, after.flights[who].landed = next, true
			x.emitBroken(after, t.txn.Name+" commits, and its answer is lost", bad)
		}
	} else {
		why := fmt.Sprintf("%s is refused: %s", t.txn.Name, t.txn.Guards[refused].Class)
		// A copy finds the mark of the one that committed.
		if f.landed && t.txn.Mark != nil && x.get(s.etcd, t.txn.Mark.Key) == t.txn.Mark.Value {
			x.answer(gone, who, t, true, "the copy of "+t.txn.Name+" finds that an earlier one has committed", nil)
		} else {
			x.answer(gone, who, t, false, why, nil)
		}
	}
	if x.w.giveUp && (!f.landed || !who.operates()) && who != late && s.flights[late].txn == 0 {
		after := gone
		after.flights[late] = f
		if who == node0 || who == node1 {
			n := &after.nodes[who-node0]
			if n.gaveUp >= max(x.w.mostGivenUp, 1) {
				return
			}
			n.doubt, n.gaveUp = true, n.gaveUp+1
		}
		x.answer(after, who, t, false, who.String()+" gives up on "+t.txn.Name, nil)
	}
}

func (x *explorer) answer(s state, who actor, t *intent, ok bool, label string, bad []string) {
	if who != late {
		nodeAnswered(&s, t, ok)
		x.storeAnswered(&s, t, ok)
	}
	x.emitBroken(s, label, bad)
}

// carryOut is etcd's part.
func (x *explorer) carryOut(at, txn int32) (next int32, refused int) {
	k := [2]int32{at, txn}
	got, ok := x.landings[k]
	if !ok {
		t := x.store.all[txn]
		if i := x.refusing(at, t, x.without); i >= 0 {
			got = int32(-1 - i)
		} else {
			got = x.apply(at, t.txn.Ops)
		}
		x.landings[k] = got
	}
	if got < 0 {
		return at, int(-1 - got)
	}
	return got, -1
}

func (r result) line() string {
	how := "complete"
	if !r.complete {
		how = "bounded"
	}
	return fmt.Sprintf("%-34s %8d states %9d transitions  depth %2d  %-8s  %d violations", r.world, r.states, r.transitions, r.depth, how, len(r.broken))
}

func (r result) words() string {
	return strings.Join(r.broken, "; ") + "\n      " + strings.Join(r.trace, "\n      ")
}
