package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"relman/cluster"
	"relman/release"
)

// intent is a transaction that an actor has decided on, and what it saw then.
type intent struct {
	kind string // the function of package cluster that made it
	who  actor
	txn  cluster.Txn
	ids  []guardID // of the guards
	// What it is about, as far as the invariants ask.
	request cluster.RequestID
	release release.ID
	buffers []int
	boot    int8 // of the node
	saw     int32
}

// guardID names a guard: of which transaction, on which kind of key, of which
// form. Guards of one loop, over buffers or nodes, are one.
type guardID string

func (t *intent) name() {
	seen := map[string]int{}
	for _, g := range t.txn.Guards {
		shape := keyKind(g.Key) + " " + form(g)
		seen[shape]++
		if n := seen[shape]; n > 1 && t.kind == "Revert" { // the only one with two of a form that are no loop
			shape = fmt.Sprintf("%s (%d)", shape, n)
		}
		t.ids = append(t.ids, guardID(t.kind+": "+shape))
	}
}

// keyKind is a key without the names in it.
func keyKind(key string) string {
	rest := strings.TrimPrefix(key, cluster.SitePrefix(www))
	if rest == key {
		rest = strings.TrimPrefix(key, cluster.Prefix)
	}
	parts := strings.Split(rest, "/")
	if parts[0] == "nodes" {
		return parts[2]
	}
	if parts[0] == "sites" {
		return parts[2]
	}
	return parts[0]
}

func form(g cluster.Guard) string {
	switch {
	case g.Field == cluster.Value && g.Prefix:
		return "all equal"
	case g.Field == cluster.Value:
		return "equal"
	case g.Field == cluster.Mod:
		return "unchanged"
	case g.Not:
		return "present"
	case g.Rev == 0 && g.Prefix:
		return "all absent"
	case g.Rev == 0:
		return "absent"
	}
	return "the same"
}

// refusing is the guard that refuses a transaction, -1 when it commits.
func (st *store) refusing(at int32, t *intent, without map[guardID]bool) int {
	for i, g := range t.txn.Guards {
		if without[t.ids[i]] {
			continue
		}
		if !g.Holds(st.under(at, g)) {
			return i
		}
	}
	return -1
}

// about reads from a request what it is about.
func (t *intent) about(request *cluster.RequestID, id *release.ID) {
	var d cluster.Desired
	for _, o := range t.txn.Ops {
		if o.Key == cluster.DesiredKey(www) && json.Unmarshal([]byte(o.Value), &d) == nil {
			*request, *id = d.Request, d.Release
		}
	}
}

// madeKey is who decides on the ground of what.
type madeKey struct {
	at   int32
	who  actor
	note int64
}

// made remembers what an actor decides.
func (st *store) remember(k madeKey, decide func() []*intent) []int32 {
	got, ok := st.made[k]
	if ok {
		return got
	}
	got = []int32{}
	for _, t := range decide() {
		t.who = k.who
		if t.saw == 0 {
			t.saw = k.at
		}
		got = append(got, st.add(t))
	}
	st.made[k] = got
	return got
}

// add gives an intent its number. Two that say the same are one: what their
// guards compare is what they saw.
func (st *store) add(t *intent) int32 {
	t.name()
	code := fmt.Sprint(t.kind, t.who, t.boot, t.txn.Guards, t.txn.Ops)
	n, ok := st.intents[code]
	if !ok {
		n = int32(len(st.all))
		st.intents[code], st.all = n, append(st.all, t)
	}
	return n
}
