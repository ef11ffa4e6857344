package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"relman/objectstore"
)

var errCrash = errors.New("crashed here")

// crashAt makes the node die at the nth time that it comes by a point: what
// its disk has then is copied, and the next process starts on the copy.
func (n *node) crashAt(name string, nth int32) (crashed chan string) {
	crashed = make(chan string, 1)
	left := &atomic.Int32{}
	left.Store(nth)
	stop := n.stop
	n.setPoint(func(at string) error {
		if at != name || left.Add(-1) > 0 {
			return nil
		}
		if left.Load() == 0 {
			copied := filepath.Join(n.scratch, "crashed")
			if out, err := exec.Command("cp", "-a", n.dir, copied).CombinedOutput(); err != nil {
				n.t.Errorf("%v: %s", err, out)
			}
			stop()
			crashed <- copied
		}
		return errCrash
	})
	return crashed
}

// TestNode_crashes: a node that dies at any step, and starts again on the same
// disk, serves on, claims nothing that it does not have, and ends where it
// would have ended; what was served and the release before it are not touched.
func TestNode_crashes(t *testing.T) {
	for _, c := range []struct {
		point string
		nth   int32
		flip  bool // the step comes after the flip
	}{
		{point: "node.after-retract", nth: 1},
		{point: "node.mid-fetch", nth: 1},
		{point: "node.mid-place", nth: 1},
		{point: "node.mid-place", nth: 3},
		{point: "node.after-fill", nth: 1},
		{point: "node.before-claim", nth: 1},
		{point: "node.after-claim", nth: 1},
		{point: "node.after-symlink", nth: 1},
		{point: "node.before-swap", nth: 1, flip: true},
		{point: "node.after-symlink", nth: 2},
		{point: "node.after-symlink", nth: 3, flip: true},
	} {
		t.Run(fmt.Sprint(c.point, " ", c.nth), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			b := firstBuild()
			n.rollOut(b)
			n.rollOut(b.with("index.html", "before"))
			r1 := n.rollOut(b.with("d0/e0/f0", "one").without("d1/e1/f1"))
			r2 := n.rollOut(b.with("index.html", "two").with("x/y", "z"))
			r3 := n.publish(b.with("index.html", "three").with("x", "a file now").with("more/1", "1").with("more/2", "2"))
			died := n.crashAt(c.point, c.nth)
			n.etcd.startRollout(r3.Manifest.ID())
			if c.flip {
				n.claimed()
				n.etcd.flip(t)
			}
			copied := <-died
			n.halt()
			n.setPoint(nil)
			n.dir = copied
			if c.flip {
				n.start()
				n.serves(r3)
				return
			}
			front, previous := n.link("current"), n.link("previous")
			was := []map[string]string{inodes(t, front), inodes(t, previous)}
			n.start()
			n.until("serves what it served", func() error { return n.asks(r2) })
			n.claimed()
			if !maps.Equal(was[0], inodes(t, front)) || !maps.Equal(was[1], inodes(t, previous)) {
				t.Error("the front or the previous buffer changed")
			}
			n.holds(r1, r2, r3)
			n.etcd.flip(t)
			n.serves(r3)
			n.etcd.rollback(t)
			n.serves(r2)
		})
	}
}

// asks finds out whether the node serves a release, confirmed or not.
func (n *node) asks(s *objectstore.Stored) error {
	if s := n.agent.server.routes.Load(); len(s.fronts) == 0 {
		return errors.New("no site yet")
	}
	if id, _ := n.agent.server.routes.Load().fronts[0].Shown(); id != s.Manifest.ID() {
		return fmt.Errorf("shows %q", id)
	}
	return nil
}

// TestNode_errors: an error at any step is got over without a restart.
func TestNode_errors(t *testing.T) {
	for _, point := range []string{
		"node.after-retract", "node.mid-fetch", "node.mid-place", "node.after-fill",
		"node.before-claim", "node.after-claim", "node.before-swap", "node.after-symlink",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			b := firstBuild()
			n.rollOut(b)
			var left atomic.Int32
			left.Store(2)
			n.setPoint(func(at string) error {
				if at == point && left.Add(-1) >= 0 {
					return errCrash
				}
				return nil
			})
			for i := range 3 {
				n.rollOut(b.with("index.html", fmt.Sprint("release ", i)).with(fmt.Sprint("new", i), "x"))
			}
			if left.Load() > 0 {
				t.Error("the step was never taken")
			}
		})
	}
}

// TestNode_lostAnswers: a transaction that was done although its answer was
// lost is found out, not repeated blindly.
func TestNode_lostAnswers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.lost = map[string]int{"enter": 1, "retract": 2, "claim": 2}
	n.start()
	b := firstBuild()
	for i := range 5 {
		n.rollOut(b.with("index.html", fmt.Sprint("release ", i)))
	}
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	for name, left := range n.etcd.lost {
		if left > 0 {
			t.Errorf("no answer of %s was lost", name)
		}
	}
}

// TestNode_restarts stops the node at random moments of a long history.
func TestNode_restarts(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	b := firstBuild()
	n.start()
	n.rollOut(b)
	for i := range 12 {
		r := n.publish(b.with("index.html", fmt.Sprint("release ", i)).with(fmt.Sprint("n", i%4), "x"))
		ctx, cancel := context.WithCancel(t.Context())
		var steps atomic.Int32
		n.setPoint(func(string) error {
			if steps.Add(1) == int32(1+i%6) { // a rollout comes by at least seven
				cancel()
			}
			return nil
		})
		n.etcd.startRollout(r.Manifest.ID())
		if i%3 > 0 {
			<-ctx.Done()
			n.halt()
			n.start()
		}
		cancel()
		n.claimed()
		n.etcd.flip(t)
		if i%2 == 0 {
			n.halt()
			n.start()
		}
		n.serves(r)
	}
}
