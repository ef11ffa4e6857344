package cluster

import (
	"context"
	"fmt"

	"relman/release"
)

// A node's claims say what its disk holds. A copy of a transaction that claims, of
// which nothing is known any more, could be carried out when the disk does not hold
// that any more: the claims that it compares are the same when no copy has come yet.
// So a node takes a new turn at its start and after every outcome that it does not
// know, before it reads its claims; and whatever writes claims compares the turn.

// TakeTurn begins a new turn of a node: no transaction of an earlier one commits any
// more. id is never the same twice.
func TakeTurn(s Self, site release.Site, id string) Txn {
	return Txn{
		Name: fmt.Sprintf("take a turn of %s on %s", s.Node, site),
		Ops:  []Op{putBare(TurnKey(s.Node, site), id)},
	}.markLast()
}

// turnGuard: the node has not begun another turn since.
func (s Self) turnGuard(v *NodeView) Guard {
	return unchanged(TurnKey(s.Node, v.Site), v.Turn, ClassConflict)
}

// ownTurn begins a turn, unless everything that the node has sent in this one was
// answered.
func (n *Node) ownTurn(ctx context.Context, site release.Site) error {
	n.mu.Lock()
	turn := n.turns[site]
	n.mu.Unlock()
	if turn != 0 {
		return nil
	}
	rev, err := n.c.Commit(ctx, TakeTurn(n.self, site, NewULID()))
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turns[site] = rev
	return nil
}
