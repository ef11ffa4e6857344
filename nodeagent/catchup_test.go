package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// TestNode_missedFlips: a node that was away for many flips serves what it had
// until the active release is whole on its disk, whatever buffer that is in,
// and never writes into what it serves.
func TestNode_missedFlips(t *testing.T) {
	for buffer := range 3 {
		for _, out := range []bool{false, true} {
			t.Run(fmt.Sprint("active in ", buffer, ", removed ", out), func(t *testing.T) {
				t.Parallel()
				n := newNode(t)
				n.start()
				b := firstBuild()
				n.rollOut(b)
				r2 := n.rollOut(b.with("index.html", "two"))
				n.rollOutOnly(b.with("index.html", "claimed and never active"))
				n.halt()
				if out { // T9: the leader took its claims
					n.etcd.change(func(int64) { clear(n.etcd.claims) })
				}
				r4 := n.publish(b.with("index.html", "four"))
				r5 := n.publish(b.with("index.html", "five").with("more", "more"))
				n.etcd.flipElsewhere(r4.Manifest.ID(), (buffer+1)%3)
				n.etcd.flipElsewhere(r5.Manifest.ID(), buffer)
				front := n.link("current")
				was := inodes(t, front)
				untouched := make(chan error, 1)
				n.setPoint(func(at string) error {
					if at == "node.before-swap" && len(untouched) == 0 {
						var err error
						if now := inodes(t, front); !maps.Equal(was, now) {
							err = fmt.Errorf("the front was touched: %v", now)
						}
						untouched <- errors.Join(err, n.asks(r2))
					}
					return nil
				})
				n.start()
				n.serves(r5)
				if err := <-untouched; err != nil {
					t.Error(err)
				}
				n.holds(r4, r5)
				n.until("can roll back", func() error { return n.claims(r5, r4) })
				n.etcd.rollback(t)
				n.serves(r4)
			})
		}
	}
}

// rollOutOnly publishes a build and prepares it; the rollout is then aborted.
func (n *node) rollOutOnly(b build) {
	n.t.Helper()
	r := n.publish(b)
	n.etcd.startRollout(r.Manifest.ID())
	n.claimed()
	n.etcd.abort()
}

// claims reports whether the node claims these releases, somewhere.
func (n *node) claims(want ...*objectstore.Stored) error {
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	claimed := map[release.ID]bool{}
	for _, id := range n.etcd.claims {
		claimed[id] = true
	}
	for _, s := range want {
		if !claimed[s.Manifest.ID()] {
			return fmt.Errorf("claims are %v, not %s", n.etcd.claims, s.Manifest.ID())
		}
	}
	return nil
}

// TestNode_joinsDuringRollout: a joiner holds the active release and the
// rollout's before it counts, and then gets the previous one too.
func TestNode_joinsDuringRollout(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	b := firstBuild()
	r1, r2 := n.publish(b), n.publish(b.with("index.html", "two"))
	n.etcd.flipElsewhere(r1.Manifest.ID(), 0)
	n.etcd.flipElsewhere(r2.Manifest.ID(), 1)
	r3 := n.publish(b.with("index.html", "three"))
	n.etcd.startRollout(r3.Manifest.ID())
	n.start() // the fake etcd checks what it enters with
	n.serves(r2)
	n.until("holds all three", func() error { return n.claims(r1, r2, r3) })
	n.etcd.flip(t)
	n.serves(r3)
}

// TestNode_joinsBeforeFirst: the first rollout of a site, with nothing active.
func TestNode_joinsBeforeFirst(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	r1 := n.publish(firstBuild())
	n.etcd.startRollout(r1.Manifest.ID())
	n.start()
	n.claimed()
	n.etcd.flip(t)
	n.serves(r1)
}

// TestNode_catchesUpBeforeItIsIn: what is active is fetched and served before
// the leader lets the node in; it is not ready, and claims nothing.
func TestNode_catchesUpBeforeItIsIn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.setMember("")
	r1 := n.publish(firstBuild())
	n.etcd.flipElsewhere(r1.Manifest.ID(), 0)
	n.start()
	n.until("shows it", func() error { return n.asks(r1) })
	if ok, why := n.agent.Ready(); ok || n.claims() != nil || len(n.etcd.txns) > 0 {
		t.Errorf("ready %v %q, transactions %v", ok, why, n.etcd.txns)
	}
	n.etcd.setMember(cluster.MemberIn)
	n.serves(r1)
}

// TestNode_heldAlready: a rollout of what another buffer holds needs no fetch
// and no fill.
func TestNode_heldAlready(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	n.rollOut(b.with("index.html", "two"))
	n.etcd.startRollout(r1.Manifest.ID())
	n.claimed()
	n.etcd.flip(t)
	n.serves(r1)
	if got := n.link("previous"); got == n.link("current") {
		t.Errorf("one tree for two releases: %s", got)
	}
	for i := range 3 {
		n.rollOut(b.with("index.html", fmt.Sprint("more ", i)))
	}
}

// TestNode_lowerEpoch: etcd that has forgotten is not obeyed, over a restart
// too, until it is ahead again.
func TestNode_lowerEpoch(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	forget := func(epoch release.Epoch, id release.ID) {
		n.etcd.change(func(rev int64) {
			n.etcd.view.Active.Value.Epoch, n.etcd.view.Active.Value.Release = epoch, id
			n.etcd.view.Active.Mod = rev
		})
	}
	refuses := func() error {
		st := n.status()
		ok, _ := n.agent.Ready()
		if st.State != cluster.NodeRefusing || st.Error == nil || st.Error.Class != ClassEpochReset || st.Release != r2.Manifest.ID() || ok {
			return fmt.Errorf("%+v, ready %v", st, ok)
		}
		return nil
	}
	forget(1, r1.Manifest.ID())
	n.until("refuses an old epoch", refuses)
	n.answers(r2, "unconfirmed")
	forget(2, r1.Manifest.ID())
	n.until("refuses another release of the same epoch", refuses)
	n.halt()
	n.start()
	n.until("refuses after a restart", refuses)
	n.answers(r2, "unconfirmed")
	n.etcd.change(func(rev int64) { n.etcd.view.Active = cluster.Entry[cluster.Active]{} })
	n.until("refuses that nothing is active", refuses)
	n.etcd.change(func(rev int64) {
		n.etcd.view.Active = cluster.Entry[cluster.Active]{Mod: rev, Create: rev, Value: cluster.Active{
			Release: r1.Manifest.ID(), Epoch: 3, Buffer: 0, Manifest: r1.Manifest.Digest(),
		}}
	})
	n.serves(r1)
}

// TestNode_withoutEtcd: a restart while etcd is down serves what was served,
// says that it is not sure, and is not ready.
func TestNode_withoutEtcd(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	n.halt()
	n.etcd.change(func(int64) { n.etcd.down = true })
	n.start()
	n.until("serves", func() error { return n.asks(r1) })
	n.answers(r1, "unconfirmed")
	if ok, why := n.agent.Ready(); ok || why == "" {
		t.Errorf("ready %v %q", ok, why)
	}
	n.etcd.change(func(int64) { n.etcd.down = false })
	n.serves(r1)
}

// TestNode_moreBuffers: a site's policy may want more buffers than the node
// started with.
func TestNode_moreBuffers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.change(func(rev int64) {
		n.etcd.view.Rollout = cluster.Entry[cluster.Rollout]{Mod: rev, Create: rev,
			Value: cluster.Rollout{Release: r2.Manifest.ID(), Buffer: 5}}
	})
	n.claimed()
	n.etcd.flip(t)
	n.serves(r2)
	n.halt()
	n.start()
	n.serves(r2)
	n.holds(r1, r2)
}

// TestAgent_alone: two agents on one directory would be two writers.
func TestAgent_alone(t *testing.T) {
	n := newNode(t)
	n.start()
	n.rollOut(firstBuild())
	second, err := New(Config{Dir: n.dir}, newFakeEtcd(), n.store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := second.Run(ctx); err == nil {
		t.Error("it ran")
	}
}

// TestAgent_firstSite: which site answers for unknown hosts does not depend on
// whether etcd can be reached.
func TestAgent_firstSite(t *testing.T) {
	n := newNode(t)
	n.etcd.sites = []release.Site{www, "docs", "a-site"}
	n.start()
	n.until("all sites", func() error {
		if got := len(n.agent.server.routes.Load().fronts); got != 3 {
			return fmt.Errorf("%d sites", got)
		}
		_, err := os.Stat(filepath.Join(n.dir, sitesFile))
		return err
	})
	n.halt()
	n.etcd.change(func(int64) { n.etcd.down = true })
	n.start()
	n.until("all sites", func() error {
		if got := len(n.agent.server.routes.Load().fronts); got != 3 {
			return fmt.Errorf("%d sites", got)
		}
		return nil
	})
	for i, f := range n.agent.server.routes.Load().fronts {
		if f.Site() != n.etcd.sites[i] {
			t.Errorf("site %d is %s", i, f.Site())
		}
	}
}
