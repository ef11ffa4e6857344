package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"relman/cluster"
	"relman/release"
)

// sweep is the object store, a publisher and those who sweep. There are two
// objects: one that release 1 has, and one that all other releases have.
type sweep struct {
	objects  uint8
	flying   [2]uint8 // deletions on their way, of each sweeper
	pub      publishing
	sweepers [2]sweeping
}

// publishing is a publisher of what release 3 will be.
type publishing struct {
	step, tries int8
	gc          int8 // the revision of the sweep's key that it has read
}

// The steps of a publisher.
const (
	toMark int8 = iota
	toWait
	toLook
	toRegister
	published
)

// sweeping is one who sweeps.
type sweeping struct {
	step      int8
	tookOver  bool  // has tried to end another one's sweep, which he does once
	own, mod  int32 // what he wrote last, and its revision
	condemned uint8
}

// The steps of a sweep.
const (
	toBegin int8 = iota
	toForget
	toHold
	toDelete
	toEnd
	swept
	dead
)

func objectsOf(id release.ID) uint8 {
	if id == rel(1) {
		return 1
	}
	return 2
}

// wrongStore: what is registered has its objects, at every moment.
func (x *explorer) wrongStore(w *verdicts, s *state, v *cluster.View) {
	if !x.w.stores {
		return
	}
	for id := range v.Releases {
		w.must(s.sweep.objects&objectsOf(id) != 0, "I14 a registered release lacks an object")
	}
}

// gcAt reads the sweep's key.
func (x *explorer) gcAt(at int32) (e cluster.Entry[cluster.GC]) {
	return x.view(at).GC
}

// publisherActs emits what the publisher does next.
func (x *explorer) publisherActs(s *state) {
	p := &s.sweep.pub
	if s.flights[publisher].txn != 0 {
		return
	}
	t := *s
	switch p.step {
	case toMark:
		if most := max(x.w.tries, 1); p.tries < most {
			x.sendOne(s, publisher, "MarkUpload", 0, func() cluster.Txn { return cluster.MarkUpload(www, "R3", "host", noon) })
		}
	case toWait:
		if gc := x.gcAt(s.etcd); gc.Value.Phase != cluster.GCSweep {
			t.sweep.pub.step, t.sweep.pub.gc = toLook, int8(gc.Mod)
			x.emit(t, "the publisher sees that nobody sweeps")
		}
	case toLook:
		t.sweep.pub.step = toRegister
		t.sweep.objects |= 2
		x.emit(t, "the publisher finds its object, or puts it")
	case toRegister:
		seq := x.view(s.etcd).Seq
		x.sendOne(s, publisher, "Register", int64(p.gc), func() cluster.Txn {
			gc := cluster.Entry[cluster.GC]{Mod: int64(p.gc)}
			return cluster.Register(www, seq, gc, rel(seq.Value+1), cluster.ReleaseRecord{Created: noon, Request: "R3"})
		})
	}
}

// sendOne puts the one transaction that an actor wants on its way.
func (x *explorer) sendOne(s *state, who actor, kind string, note int64, make func() cluster.Txn) {
	for _, n := range x.remember(madeKey{s.etcd, who, note}, func() []*intent { return []*intent{{kind: kind, txn: make()}} }) {
		x.send(s, who, n)
	}
}

// sweeperActs emits what one who sweeps does next.
func (x *explorer) sweeperActs(s *state, i int) {
	who := sweeper0 + actor(i)
	w := &s.sweep.sweepers[i]
	if s.flights[who].txn != 0 {
		return
	}
	gc := x.gcAt(s.etcd)
	own := cluster.Entry[cluster.GC]{Mod: int64(w.mod), Create: 1}
	if w.own != 0 {
		if err := json.Unmarshal([]byte(x.texts[w.own]), &own.Value); err != nil {
			panic(fmt.Sprintf("model: %v", err)) // cluster has written it
		}
	}
	note := int64(w.own)<<32 | int64(w.mod)<<8 | int64(w.step)
	t := *s
	switch w.step {
	case toBegin:
		if gc.Value.Phase != cluster.GCSweep {
			x.sendOne(s, who, "BeginSweep", note, func() cluster.Txn {
				return cluster.BeginSweep(gc, cluster.GC{ID: who.String(), By: "ops", Since: noon})
			})
			return
		}
		x.takeOver(s, i, gc)
	case toForget:
		v := x.view(s.etcd)
		gone := victims(v)
		t.sweep.sweepers[i].condemned = condemned(s.sweep.objects, v, gone)
		if len(gone) == 0 {
			t.sweep.sweepers[i].step = toHold
			x.emit(t, who.String()+" finds no release that nobody needs")
			return
		}
		x.sendOne(&t, who, "Forget", note, func() cluster.Txn { return cluster.Forget(own, v, gone) })
	case toHold:
		x.sendOne(s, who, "HoldSweep", note, func() cluster.Txn { return cluster.HoldSweep(own) })
	case toDelete:
		t.sweep.flying[i] |= w.condemned & s.sweep.objects
		t.sweep.sweepers[i].step = toEnd
		x.emit(t, who.String()+" deletes what nobody needs")
	case toEnd:
		if s.sweep.flying[i] == 0 {
			x.sendOne(s, who, "EndSweep", note, func() cluster.Txn { return cluster.EndSweep(own, noon) })
		}
	}
}

// takeOver ends the sweep of another one that has rested for so long that what
// he sent has ended, and that he may not delete before he holds the sweep anew.
func (x *explorer) takeOver(s *state, i int, gc cluster.Entry[cluster.GC]) {
	other := &s.sweep.sweepers[1-i]
	busy := s.flights[sweeper0+actor(1-i)].txn != 0 || s.flights[late].txn != 0
	if gc.Value.ID != (sweeper0+actor(1-i)).String() || s.sweep.flying[1-i] != 0 || busy || other.step == toDelete || s.sweep.sweepers[i].tookOver {
		return
	}
	t := *s
	t.sweep.sweepers[i].tookOver = true
	if other.step == toEnd {
		t.sweep.sweepers[1-i].step = toHold
	}
	x.sendOne(&t, sweeper0+actor(i), "EndSweep", -1, func() cluster.Txn { return cluster.EndSweep(gc, noon) })
}

// victims are the releases that nothing refers to.
func victims(v *cluster.View) (gone []release.ID) {
	for id := range v.Releases {
		_, pinned := v.Pins[id]
		needed := slices.ContainsFunc(v.Active.Value.Needed(), func(h cluster.Held) bool { return h.Release == id })
		held := slices.ContainsFunc(v.Claims, func(c cluster.Claim) bool { return c.Release == id })
		if !pinned && !held && !needed && id != v.Desired.Value.Release && id != v.Rollout.Value.Release {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	return gone
}

// condemned are the objects that no release has that stays.
func condemned(objects uint8, v *cluster.View, gone []release.ID) uint8 {
	for id := range v.Releases {
		if !slices.Contains(gone, id) {
			objects &^= objectsOf(id)
		}
	}
	return objects
}

// storeActs emits what the store does: deletions are carried out some time.
func (x *explorer) storeActs(s *state) {
	for i, f := range s.sweep.flying {
		if f != 0 {
			t := *s
			t.sweep.objects &^= f
			t.sweep.flying[i] = 0
			x.emit(t, fmt.Sprintf("the store carries out what sweeper%d deletes", i))
		}
	}
}

// storeAnswered is what publishers and sweepers take from an answer.
func (x *explorer) storeAnswered(s *state, t *intent, ok bool) {
	switch t.who {
	case publisher:
		p := &s.sweep.pub
		switch {
		case ok && t.kind == "MarkUpload":
			p.step = toWait
		case ok:
			p.step = published
		default: // all that is known of the store may be wrong
			p.step, p.tries = toMark, p.tries+1
		}
	case sweeper0, sweeper1:
		x.sweeperAnswered(s, &s.sweep.sweepers[t.who-sweeper0], t, ok)
	}
}

func (x *explorer) sweeperAnswered(s *state, w *sweeping, t *intent, ok bool) {
	if w.step == dead {
		return
	}
	own := t.kind != "EndSweep" || w.step == toEnd
	switch {
	case !own: // another one's sweep has ended, or has not
	case !ok:
		if w.step != toBegin {
			*w = sweeping{step: swept}
		}
	case t.kind == "EndSweep":
		*w = sweeping{step: swept}
	default:
		w.step = map[string]int8{"BeginSweep": toForget, "Forget": toDelete, "HoldSweep": toDelete}[t.kind]
		mark := t.txn.Mark
		w.own, w.mod = x.value(mark.Value), int32(x.pair(s.etcd, mark.Key).Mod)
	}
}

// sweeperDies: what it has sent may be carried out still.
func sweeperDies(i int) event {
	return event{fmt.Sprintf("sweeper%d dies", i), func(x *explorer, s *state) bool {
		w := &s.sweep.sweepers[i]
		if w.step == toBegin || w.step >= swept {
			return false
		}
		who := sweeper0 + actor(i)
		if s.flights[late].txn == 0 {
			s.flights[late] = s.flights[who]
		}
		s.flights[who], *w = flight{}, sweeping{step: dead}
		return true
	}}
}

// markerEnds: the lease of the publisher's marker runs out.
func markerEnds() event {
	return event{"the publisher's marker runs out", func(x *explorer, s *state) bool {
		key := cluster.UploadKey(www, "R3")
		was := x.has(s.etcd, key)
		s.etcd = x.drop(s.etcd, key)
		return was
	}}
}
