package main

import (
	"slices"
	"sort"
	"strings"
	"time"

	"relman/cluster"
)

// etcd is etcd as far as relman uses it: revisions, guarded transactions, leases,
// watches. It evaluates the program's own guards.
type etcd struct {
	w      *world
	rev    int64
	keys   []string // sorted
	pairs  map[string]*pair
	leases map[int64]*lease
	last   int64 // lease id
	down   bool  // it has no majority
	copies []backup
	watch  []*watcher
	view   *cluster.View // at rev, nil: not made yet
	reborn int           // how often it was restored
}

// pair is a key with its value, which never changes.
type pair struct {
	cluster.Pair
	lease int64
	value any // as it was read, once
}

type lease struct {
	ttl, ends time.Duration
}

// backup is a copy of all that there was.
type backup struct {
	rev    int64
	keys   []string
	pairs  map[string]*pair
	leases []int64
}

// watcher is told of changes, after a while, and not always.
type watcher struct {
	of    *proc
	gen   int
	wants func(key string) bool
	tell  func(key string, at int64, now *pair)
}

func newEtcd(w *world) *etcd {
	return &etcd{w: w, rev: 1, pairs: map[string]*pair{}, leases: map[int64]*lease{}}
}

// under are the keys with a prefix, sorted.
func (e *etcd) under(prefix string) []string {
	i := sort.SearchStrings(e.keys, prefix)
	j := i
	for j < len(e.keys) && strings.HasPrefix(e.keys[j], prefix) {
		j++
	}
	return e.keys[i:j]
}

// holds evaluates a guard.
func (e *etcd) holds(g cluster.Guard) bool {
	if !g.Prefix {
		if p := e.pairs[g.Key]; p != nil {
			return g.Holds([]cluster.Pair{p.Pair})
		}
		return g.Holds(nil)
	}
	var pairs []cluster.Pair
	for _, k := range e.under(g.Key) {
		pairs = append(pairs, e.pairs[k].Pair)
	}
	return g.Holds(pairs)
}

// answer is what etcd answers to a transaction.
type answer struct {
	rev      int64          // at which it committed; 0: it did not
	refused  *cluster.Guard // that did not hold
	orphaned bool           // its lease is gone
}

// txn carries a transaction out, or not.
func (e *etcd) txn(by *proc, t cluster.Txn, under int64) answer {
	for i := range t.Guards {
		if e.w.bug.without(t, t.Guards[i]) || e.holds(t.Guards[i]) {
			continue
		}
		if t.Mark != nil {
			if p := e.pairs[t.Mark.Key]; p != nil && p.Value == t.Mark.Value {
				e.w.sum.Recognised++
				return answer{rev: p.Mod} // an earlier copy committed
			}
		}
		e.w.sum.Refused++
		e.w.say("%s: %s is refused: %s (%s)", by.name, t.Name, t.Guards[i].Class, strings.TrimPrefix(t.Guards[i].Key, cluster.Prefix))
		return answer{refused: &t.Guards[i]}
	}
	for _, o := range t.Ops {
		if o.Leased && e.leases[under] == nil {
			return answer{orphaned: true}
		}
	}
	e.w.check.fenced(t)
	first, then := e.w.bug.split(t)
	e.apply(by, t.Name, first, under)
	if len(then) > 0 {
		e.w.after(e.w.between(time.Millisecond, time.Second), func() { e.apply(by, t.Name+", second step", then, under) })
	}
	return answer{rev: e.rev}
}

// apply makes one revision of changes.
func (e *etcd) apply(by *proc, name string, ops []cluster.Op, under int64) {
	e.rev++
	e.view = nil
	r := cluster.Revision{Number: e.rev}
	before := map[string]*pair{}
	for _, o := range ops {
		old := e.pairs[o.Key]
		before[o.Key] = old
		if o.Delete {
			if old != nil {
				e.drop(o.Key)
				r.Changes = append(r.Changes, cluster.Change{Key: o.Key, Deleted: true})
			}
			continue
		}
		p := &pair{Pair: cluster.Pair{Key: o.Key, Value: o.Value, Mod: e.rev, Create: e.rev}}
		if o.Leased {
			p.lease = under
		}
		if old != nil {
			p.Create = old.Create
		} else {
			i := sort.SearchStrings(e.keys, o.Key)
			e.keys = slices.Insert(e.keys, i, o.Key)
		}
		e.pairs[o.Key] = p
		r.Changes = append(r.Changes, cluster.Change{Key: o.Key, Value: o.Value, Create: p.Create, Mod: p.Mod, Lease: p.lease})
	}
	if len(r.Changes) == 0 { // nothing was there to be deleted: etcd counts no revision
		e.rev--
		return
	}
	e.w.sum.Commits++
	e.w.say("%s: %s at revision %d", by.name, name, e.rev)
	e.w.check.commit(by, r, before)
	e.notify(r)
}

func (e *etcd) drop(key string) {
	delete(e.pairs, key)
	i := sort.SearchStrings(e.keys, key)
	e.keys = slices.Delete(e.keys, i, i+1)
}

// notify tells the watchers: late, at times much later, and now and then not.
func (e *etcd) notify(r cluster.Revision) {
	for _, w := range e.watch {
		if !w.of.up || w.of.gen != w.gen || w.of.cut {
			continue
		}
		for _, ch := range r.Changes {
			if !w.wants(ch.Key) {
				continue
			}
			if e.w.fault(1, 40) {
				e.w.sum.LostEvents++
				continue
			}
			late := e.w.between(time.Millisecond, 40*time.Millisecond)
			if e.w.fault(1, 15) {
				e.w.sum.LateEvents++
				late = e.w.between(time.Second, 20*time.Second)
			}
			key, at, now := ch.Key, r.Number, e.pairs[ch.Key]
			born := e.reborn
			w.of.after(late, func() {
				if e.reborn == born && !w.of.cut {
					w.tell(key, at, now)
				}
			})
		}
	}
	if len(e.watch) > 40 {
		e.watch = slices.DeleteFunc(e.watch, func(w *watcher) bool { return w.of.gen != w.gen })
	}
}

// grant makes a lease.
func (e *etcd) grant(ttl time.Duration) int64 {
	e.last++
	id := e.last
	e.leases[id] = &lease{ttl, e.w.now + ttl}
	e.w.after(ttl, func() { e.expire(id) })
	return id
}

// renew keeps a lease; it reports whether there is one.
func (e *etcd) renew(id int64) bool {
	l := e.leases[id]
	if l == nil {
		return false
	}
	l.ends = e.w.now + l.ttl
	return true
}

func (e *etcd) expire(id int64) {
	l := e.leases[id]
	switch {
	case l == nil:
	case e.down:
		// A lease runs on only while there is a leader; a new one gives it all of
		// its time again.
		l.ends = e.w.now + l.ttl
		e.w.after(l.ttl, func() { e.expire(id) })
	case l.ends > e.w.now:
		e.w.after(l.ends-e.w.now, func() { e.expire(id) })
	default:
		e.w.sum.Expired++
		e.revoke(id, "a lease runs out")
	}
}

func (e *etcd) revoke(id int64, why string) {
	if e.leases[id] == nil {
		return
	}
	delete(e.leases, id)
	var ops []cluster.Op
	for _, k := range e.keys {
		if e.pairs[k].lease == id {
			ops = append(ops, cluster.Op{Key: k, Delete: true})
		}
	}
	if len(ops) > 0 {
		e.apply(&proc{w: e.w, name: "etcd"}, why, ops, 0)
	}
}

// keep makes a copy that it can be restored from.
func (e *etcd) keep() {
	b := backup{rev: e.rev, keys: slices.Clone(e.keys), pairs: make(map[string]*pair, len(e.pairs))}
	for k, p := range e.pairs {
		b.pairs[k] = p
	}
	for id := int64(1); id <= e.last; id++ {
		if e.leases[id] != nil {
			b.leases = append(b.leases, id)
		}
	}
	e.copies = append(e.copies, b)
}

// restore goes back to a copy. Its leases run anew.
func (e *etcd) restore(b backup) {
	e.rev, e.keys, e.pairs, e.view = b.rev, slices.Clone(b.keys), make(map[string]*pair, len(b.pairs)), nil
	for k, p := range b.pairs {
		e.pairs[k] = p
	}
	e.leases = map[int64]*lease{}
	for _, id := range b.leases {
		// What had to do with a lease that is younger has none to renew.
		id := id
		ttl := 15 * time.Second
		e.leases[id] = &lease{ttl, e.w.now + ttl}
		e.w.after(ttl, func() { e.expire(id) })
	}
	e.reborn++
}
