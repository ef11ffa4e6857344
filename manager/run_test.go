package manager

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestRun_publish: two publishes and a rollback on four nodes. The flip
// follows the last claim within three calls, however often the sites are
// looked at otherwise; the rollback needs no node.
func TestRun_publish(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.latency = time.Millisecond
		w.manager("m1")
		w.nodes(3, 2*time.Second)
		w.node("web-4", 7777*time.Millisecond)
		w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })

		for n := 1; n <= 2; n++ {
			w.ended(w.publish(n), cluster.StateActive, n, release.Epoch(n))
			if q := w.view().Active.Value.Quorum; q.Claims != 4 || q.Members != 4 {
				t.Errorf("quorum: %+v", q)
			}
			claimed, flipped := w.lastTouch(cluster.ReadyPrefix(www)), w.lastTouch(cluster.ActiveKey(www))
			if d := flipped.at.Sub(claimed.at); d > 3*time.Millisecond {
				t.Errorf("the flip came %s after the last claim", d)
			}
		}

		claimed, asked := w.lastTouch(cluster.ReadyPrefix(www)), time.Now()
		w.ended(w.ask(cluster.Desired{Mode: cluster.Rollback, Release: rel(1), Freeze: true}), cluster.StateActive, 1, 3)
		if w.lastTouch(cluster.ReadyPrefix(www)) != claimed {
			t.Error("a node wrote for the rollback")
		}
		if d := w.lastTouch(cluster.ActiveKey(www)).at.Sub(asked); d > 3*time.Millisecond {
			t.Errorf("the rollback took %s", d)
		}
		if z := w.view().Freeze.Value; !z.AllowRollback {
			t.Errorf("freeze: %+v", z)
		}
	})
}

// TestRun_burst: many claims at once are one look at the site, not one each.
func TestRun_burst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.latency = time.Millisecond
		w.manager("m1")
		w.nodes(30, time.Second)
		before := w.looks()
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		if n := w.looks() - before; n > 15 {
			t.Errorf("the site was observed %d times for one rollout to 30 nodes", n)
		}
	})
}

// TestRun_laggard: where rollouts wait, a node that is late fails the rollout at its
// deadline, named; once it is back the next publish succeeds.
func TestRun_laggard(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setPolicy(func(p *cluster.Policy) { p.Stragglers = cluster.StragglersWait })
		w.manager("m1")
		w.nodes(3, time.Second)
		stop := w.node("web-4", time.Second)
		w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		stop()
		began := time.Now()
		e := w.ended(w.publish(2), cluster.StateFailed, 1, 1).Error
		if d := time.Since(began); d < 10*time.Minute || d > 10*time.Minute+time.Second {
			t.Errorf("it failed after %s", d)
		}
		if e.Class != cluster.ClassNotReady || e.Text != "3/4 ready (web-4: no live session)" || !slices.Equal(e.Nodes, []release.NodeID{"web-4"}) {
			t.Errorf("error: %+v", e)
		}
		w.node("web-4", time.Second)
		w.ended(w.publish(3), cluster.StateActive, 3, 2)
	})
}

// TestRun_noNodes: a site without nodes cannot become active.
func TestRun_noNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.register(1)
		r := w.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(1), PrepareSeconds: 20})
		if e := w.ended(r, cluster.StateFailed, 0, 0).Error; e.Class != cluster.ClassQuorum {
			t.Errorf("error: %+v", e)
		}
	})
}

// TestRun_abort: the rollout ends, and the nodes' claims come too late.
func TestRun_abort(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Minute)
		first := w.publish(1)
		w.until("the rollout runs", func(v *cluster.View) bool { return v.Rollout.Exists() })
		abort := w.ask(cluster.Desired{Mode: cluster.Abort})
		w.ended(abort, cluster.StateAborted, 0, 0)
		w.ended(first, cluster.StateAborted, 0, 0)
		time.Sleep(time.Hour)
		if v := w.view(); v.Active.Exists() || v.Rollout.Exists() {
			t.Errorf("active after the abort: %+v", v.Active)
		}
	})
}

// TestRun_supersede: each request takes the place of the one before it, also
// of one that the leader never saw.
func TestRun_supersede(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Minute)
		first := w.publish(1)
		w.until("the rollout runs", func(v *cluster.View) bool { return v.Rollout.Exists() })
		second, third := w.publish(2), w.publish(3)
		w.ended(third, cluster.StateActive, 3, 1)
		for _, r := range []cluster.RequestID{first, second} {
			if got := w.end(r); got.State != cluster.StateSuperseded || got.Error.Class != cluster.ClassSuperseded {
				t.Errorf("request %s: %+v", r, got)
			}
		}
	})
}

// TestRun_hold: a held release is prepared, and a flip to it needs no node.
func TestRun_hold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Minute)
		w.register(1)
		w.ended(w.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(1), Hold: true}), cluster.StateReady, 0, 0)
		began := time.Now()
		w.ended(w.ask(cluster.Desired{Mode: cluster.FlipTo, Release: rel(1)}), cluster.StateActive, 1, 1)
		if d := time.Since(began); d > time.Second {
			t.Errorf("the flip took %s", d)
		}
		again := w.ended(w.ask(cluster.Desired{Mode: cluster.FlipTo, Release: rel(1)}), cluster.StateActive, 1, 1)
		if again.Changed || again.Epoch != 1 {
			t.Errorf("flip to what is active: %+v", again)
		}
	})
}

// TestRun_freeze: a freeze that comes during the rollout refuses it.
func TestRun_freeze(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Minute)
		r := w.publish(1)
		w.until("the rollout runs", func(v *cluster.View) bool { return v.Rollout.Exists() })
		if _, err := w.commit(cluster.SetFreeze(www, cluster.Entry[cluster.Freeze]{}, &cluster.Freeze{By: "ops", Reason: "sale"})); err != nil {
			t.Fatal(err)
		}
		if e := w.ended(r, cluster.StateRefused, 0, 0).Error; e.Class != cluster.ClassFrozen {
			t.Errorf("error: %+v", e)
		}
	})
}

// TestRun_newLeader: the next leader goes on with the same rollout, its
// deadline and its flip id.
func TestRun_newLeader(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m1, stop := w.manager("m1")
		synctest.Wait()
		m2, _ := w.manager("m2")
		w.nodes(4, time.Minute)
		r := w.publish(1)
		under := w.until("the rollout runs", func(v *cluster.View) bool { return v.Rollout.Exists() }).Rollout
		if !m1.Leading() || m2.Leading() {
			t.Fatal("m1 does not lead")
		}
		stop()
		synctest.Wait()
		if m1.Leading() || !m2.Leading() || w.leader() != "m2" {
			t.Errorf("after a clean stop of m1, %q leads", w.leader())
		}
		if w.view().Rollout != under {
			t.Error("the rollout was touched")
		}
		w.ended(r, cluster.StateActive, 1, 1)
		if a := w.view().Active.Value; a.Flip != under.Value.Flip {
			t.Errorf("flip id %s, the rollout's is %s", a.Flip, under.Value.Flip)
		}
	})
}

// TestRun_deposed: a leader that does not know that it is none is refused,
// stops to lead and campaigns again. Nothing is lost by it.
func TestRun_deposed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, _ := w.manager("m1")
		w.nodes(4, time.Minute)
		synctest.Wait()
		w.depose()
		time.Sleep(time.Second) // it does not say what time it is in between
		if !m.Leading() || w.leader() != "" {
			t.Fatalf("m1 believes to lead: %v, and %q does", m.Leading(), w.leader())
		}
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		if !m.Leading() || w.leader() != "m1" {
			t.Errorf("m1 believes to lead: %v, and %q does", m.Leading(), w.leader())
		}
	})
}

// TestRun_twoLeaders: two that both believe to lead are harmless (the fake
// polices each commit).
func TestRun_twoLeaders(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m1, _ := w.manager("m1")
		synctest.Wait()
		m2, _ := w.manager("m2")
		w.nodes(4, time.Minute)
		w.depose()
		synctest.Wait()
		if !m1.Leading() || !m2.Leading() {
			t.Fatal("they do not both believe to lead")
		}
		for n := 1; n <= 5; n++ {
			w.ended(w.publish(n), cluster.StateActive, n, release.Epoch(n))
		}
	})
}

// TestRun_leaseEnds: with the end of its lease known, a leader stops though
// there is nothing to do that would be refused, and campaigns again.
func TestRun_leaseEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m1, _ := w.manager("m1")
		synctest.Wait()
		m2, _ := w.manager("m2")
		synctest.Wait()
		lease := w.held()
		w.depose()
		close(lease.done)
		time.Sleep(time.Minute)
		if m1.Leading() || !m2.Leading() {
			t.Errorf("m1 leads: %v, m2 leads: %v", m1.Leading(), m2.Leading())
		}
	})
}

// TestRun_lastWord: a request that comes between the decision and the commit
// of the flip wins.
func TestRun_lastWord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Minute)
		r := w.publish(1)
		var abort cluster.RequestID
		w.setFault(func(txn cluster.Txn) error {
			if strings.HasPrefix(txn.Name, "flip") && abort == "" {
				abort = w.ask(cluster.Desired{Mode: cluster.Abort})
			}
			return nil
		})
		w.ended(r, cluster.StateAborted, 0, 0)
	})
}

// TestRun_outage: no answer of etcd ends a manager; when etcd is back it goes
// on, soon, and without having asked too often.
func TestRun_outage(t *testing.T) {
	for _, outage := range []error{cluster.ErrUnavailable, cluster.ErrDenied} {
		t.Run(outage.Error(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				m, _ := w.manager("m1")
				w.nodes(4, time.Second)
				w.setOutage(outage)
				r := w.publish(1)
				time.Sleep(30 * time.Minute)
				if !m.Leading() {
					t.Error("an outage ended the leadership")
				}
				w.setOutage(nil)
				began := time.Now()
				w.ended(r, cluster.StateActive, 1, 1)
				if d := time.Since(began); d > 15*time.Second {
					t.Errorf("it took %s after the outage", d)
				}
			})
		})
	}
}

// TestRun_outageAtStart: a manager that starts before etcd does waits for it.
func TestRun_outageAtStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setOutage(cluster.ErrUnavailable)
		m, _ := w.manager("m1")
		time.Sleep(time.Hour)
		if m.Leading() {
			t.Error("it leads without etcd")
		}
		w.setOutage(nil)
		w.nodes(1, time.Second)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
	})
}

// TestRun_deaf: without a single event the site is looked at every few seconds.
func TestRun_deaf(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m := New(deaf{w.fake}, Config{ID: "m1"})
		w.start(func(ctx context.Context) { _ = m.Run(ctx) })
		w.nodes(4, time.Second)
		began := time.Now()
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		if d := time.Since(began); d > 3*DefaultResync {
			t.Errorf("it took %s", d)
		}
	})
}

// TestRun_newSite: a site that is made later is led too, beside the first.
func TestRun_newSite(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(1, time.Second)
		w.mu.Lock()
		catalog := read[cluster.Catalog](w.fake, cluster.CatalogKey)
		w.mu.Unlock()
		if _, err := w.commit(cluster.CreateSite("mkt", cluster.DefaultPolicy(), catalog)); err != nil {
			t.Fatal(err)
		}
		n := &fakeNode{fake: w.fake, self: selfOf("mkt-1"), site: "mkt", fill: time.Second}
		w.start(n.run)
		mkt := publisher{fake: w.fake, site: "mkt"}
		mkt.publish(7)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if a := read[cluster.Active](w.fake, cluster.ActiveKey("mkt")).Value; a.Release != rel(7) {
			t.Errorf("mkt shows %+v", a)
		}
	})
}
