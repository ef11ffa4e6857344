package main

import (
	"strings"

	"relman/cluster"
	"relman/nodeagent"
)

// bug is a planted mistake: in an actor of the simulation, or a guard that is left
// out when etcd evaluates a transaction. The program itself has none of them.
type bug struct {
	name string
	rare bool   // it takes more than some hundred runs to find
	from uint64 // the seed that the hunt begins at, for what takes tens of thousands
	// drops says which guards are left out.
	drops func(t cluster.Txn, g cluster.Guard) bool
	// sees changes what a leader sees, changes the transaction that it makes of it.
	sees    func(v *cluster.View) *cluster.View
	changes func(v *cluster.View, t cluster.Txn) cluster.Txn
	// moves changes what a node does next.
	moves func(n *node, m nodeagent.Move) nodeagent.Move

	twice        bool // a flip is two transactions
	hasty        bool // a node claims before it syncs
	keeps        bool // a node fills a tree without taking its claim back
	serves       bool // a node shows what it is still filling
	obeys        bool // a node obeys an epoch that went back
	unfenced     bool // a node that is cut off stays ready
	deaf         bool // a node never reads again what it watches
	lateGC       bool // a publisher reads the sweep's state just before T1
	hurries      bool // a sweep is taken over at once
	holdless     bool // who sweeps does not hold the sweep
	objectsFirst bool // objects go before the records
}

func (b *bug) without(t cluster.Txn, g cluster.Guard) bool { return b.drops != nil && b.drops(t, g) }

// split is what a transaction writes, and what is written after it without guards.
func (b *bug) split(t cluster.Txn) (first, then []cluster.Op) {
	if !b.twice || !strings.HasPrefix(t.Name, "flip ") {
		return t.Ops, nil
	}
	for _, o := range t.Ops {
		if o.Key == cluster.ActiveKey(site) {
			then = append(then, o)
		} else {
			first = append(first, o)
		}
	}
	return first, then
}
