package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/release"
)

// TestNode_turn: what a node has sent before it reads its claims, and knows no
// outcome of, is not carried out any more, though no claim has changed.
func TestNode_turn(t *testing.T) {
	w := newWorld(t, dial(t))
	ctx := within(t, 20*time.Second)
	before := *w.nodeView()
	late := Enter(w.nodes[0], &before, []release.ID{w.r1, w.r2, ""}) // of an earlier start
	n := w.c.Node(w.nodes[0], w.nodes[0].Live, Join{})
	if _, _, err := n.Claims(ctx, w.site); err != nil {
		t.Fatal(err)
	}
	_ = w.refused(late, ClassConflict)
	turn := w.get(TurnKey(n.self.Node, w.site)).Mod
	if _, _, err := n.Claims(ctx, w.site); err != nil || w.get(TurnKey(n.self.Node, w.site)).Mod != turn {
		t.Errorf("another turn without need, %v", err)
	}

	gone, cancel := context.WithCancel(ctx)
	cancel()
	v := *w.nodeView()
	late = Retract(w.nodes[0], &v)
	if err := n.Retract(gone, v); err == nil {
		t.Fatal("a call whose context has ended succeeds")
	}
	if _, _, err := n.Claims(ctx, w.site); err != nil {
		t.Fatal(err)
	}
	_ = w.refused(late, ClassConflict)
	if err := n.Retract(ctx, *w.nodeView()); err != nil {
		t.Error(err)
	}
}

// TestView_Ready_newBuffer: a node that entered while there were fewer buffers has
// no claim of the new one, and is waited for.
func TestView_Ready_newBuffer(t *testing.T) {
	v := members(3)
	for _, n := range []release.NodeID{"in-0", "in-2"} {
		v.Claims = append(v.Claims, Claim{Node: n, Buffer: 3, Release: id(9)})
	}
	r := v.Ready(3, id(9))
	if !slices.Equal(r.Late, []release.NodeID{"in-1"}) || v.Enough(r) {
		t.Errorf("late %v, enough %v", r.Late, v.Enough(r))
	}
	v.Claims = append(v.Claims, Claim{Node: "in-1", Buffer: 3, Release: id(9)})
	if r := v.Ready(3, id(9)); len(r.Late) > 0 || !v.Enough(r) {
		t.Errorf("late %v", r.Late)
	}
}

// TestNode_statusInItsPlace: a status is written in the place of the one that the
// node knows; where another one stands, that is read first and then replaced.
func TestNode_statusInItsPlace(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.newNode("n", "")
	w.runs(n.Run)
	key := StatusKey(n.self.Node, w.site)
	for epoch := range release.Epoch(3) {
		if err := n.Report(t.Context(), w.site, Status{State: NodeServing, Epoch: epoch + 1}); err != nil {
			t.Fatal(err)
		}
		w.until("the status", key, func(p Pair) bool { return strings.Contains(p.Value, fmt.Sprintf(`"epoch":%d`, epoch+1)) })
		clustertest.Until(t, 15*time.Second, func() error { // its answer comes after the status stands
			n.mu.Lock()
			known := n.reports[w.site].mod
			n.mu.Unlock()
			if at := w.get(key).Mod; known != at {
				return fmt.Errorf("it knows revision %d, %d stands", known, at)
			}
			return nil
		})
		w.put(key, encode(Status{State: NodeSyncing})) // as by a copy that comes late
	}
	if !n.Alive() {
		t.Error("that costs it its session")
	}
}
