package nodeagent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// putOut is T9 as far as this node is concerned.
func (e *fakeEtcd) putOut() {
	e.change(func(rev int64) {
		clear(e.claims)
		e.view.Member = cluster.Entry[cluster.Member]{Value: cluster.MemberOut, Mod: rev, Create: 1}
	})
}

func (n *node) memberMod() int64 {
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	return n.etcd.view.Member.Mod
}

// notReady waits until the node says that it is not ready, and why.
func (n *node) notReady(why string) {
	n.t.Helper()
	n.until("not ready: "+why, func() error {
		if ok, said := n.agent.Ready(); ok || said != "site www: "+why {
			return fmt.Errorf("ready %v: %q", ok, said)
		}
		return nil
	})
}

// acknowledged waits until the node says that it has drained.
func (n *node) acknowledged() {
	n.t.Helper()
	n.until("drained", func() error {
		if got := n.status(); got.Drained != n.memberMod() || got.State != cluster.NodeDraining {
			return fmt.Errorf("drained %d, of %d", got.Drained, n.memberMod())
		}
		return nil
	})
}

// TestOut: a node that drains is not ready, answers on and says so; out, it
// follows what is active over any number of flips, and claims nothing; in again, it enters with
// what is active and what is rolled out.
func TestOut(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	second := n.rollOut(b.with("index.html", "two"))

	n.etcd.setMember(cluster.MemberDrain)
	n.notReady("draining")
	n.acknowledged()
	n.answers(second, "")
	n.etcd.startRollout(n.publish(b.with("index.html", "three")).Manifest.ID())

	n.etcd.putOut()
	n.notReady("put out")
	for i := range 5 {
		s := n.publish(b.with("index.html", fmt.Sprint("more ", i)))
		n.etcd.flipElsewhere(s.Manifest.ID(), (2+i)%cluster.DefaultBuffers)
		n.until("catches up", func() error {
			if got := n.status(); got.Release != s.Manifest.ID() || got.State != cluster.NodeOut || got.Error != nil {
				return fmt.Errorf("status %+v", got)
			}
			return expectTree(n.link("current"), s.Manifest)
		})
		n.answers(s, "")
		n.notReady("put out")
	}
	n.etcd.mu.Lock()
	claims := len(n.etcd.claims)
	n.etcd.mu.Unlock()
	if claims > 0 {
		t.Errorf("%d claims of a node that is out", claims)
	}

	last := n.publish(b.with("index.html", "last"))
	n.etcd.startRollout(last.Manifest.ID())
	n.etcd.setMember(cluster.MemberIn) // that it enters with both is checked there
	n.claimed()
	n.etcd.flip(t)
	n.serves(last)
	if got := n.status().Drained; got != 0 {
		t.Errorf("it still says that it has drained: %d", got)
	}
}

// TestDrain_delay: balancers have their time to notice, before it is said that
// nobody comes any more. A node that has not been in since its start says so at once.
func TestDrain_delay(t *testing.T) {
	t.Parallel()
	const delay = 700 * time.Millisecond
	n := newNode(t)
	n.drainDelay = delay
	n.start()
	n.rollOut(firstBuild())
	n.etcd.setMember(cluster.MemberDrain)
	began := time.Now()
	n.notReady("draining")
	n.acknowledged()
	if d := time.Since(began); d < delay {
		t.Errorf("drained after %s", d)
	}
	n.halt()
	n.drainDelay = time.Hour
	n.start()
	n.acknowledged()

	n.etcd.setMember(cluster.MemberIn)
	n.until("in again", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return errors.New(why)
		}
		return nil
	})
	n.etcd.setMember(cluster.MemberDrain)
	n.notReady("draining")
	n.until("it says that it drains", func() error {
		if st := n.status(); st.State != cluster.NodeDraining || st.Drained != 0 {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
}

// TestOut_startedAnew: a node that starts while it is out does what it does.
func TestOut_startedAnew(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	n.etcd.putOut()
	n.notReady("put out")
	n.halt()
	s := n.publish(b.with("index.html", "meanwhile"))
	n.etcd.flipElsewhere(s.Manifest.ID(), 1)
	n.start()
	n.until("catches up", func() error {
		if got := n.status(); got.Release != s.Manifest.ID() || got.State != cluster.NodeOut {
			return fmt.Errorf("status %+v", got)
		}
		return nil
	})
	n.notReady("put out")
	n.etcd.setMember(cluster.MemberIn)
	n.serves(s)
	n.etcd.mu.Lock()
	got := n.etcd.claims[1]
	n.etcd.mu.Unlock()
	if got != s.Manifest.ID() || got == release.ID("") {
		t.Errorf("it claims %q", got)
	}
}
