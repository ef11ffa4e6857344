package manager

import (
	"context"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// flapping runs a node that lives for some seconds, is dead for as long, and so
// on; it never gets anything done.
func (w *world) flapping(id release.NodeID, every time.Duration) (stop func()) {
	return w.start(func(ctx context.Context) {
		for ctx.Err() == nil {
			n := &fakeNode{fake: w.fake, self: selfOf(id), site: www, fill: time.Hour}
			life, end := context.WithTimeout(ctx, every)
			n.run(life)
			end()
			pass(ctx, every)
		}
	})
}

// TestRun_dead: a dead node delays a flip by its fence and not more, and the next one
// not at all. When it comes back it catches up, and is in again by itself.
func TestRun_dead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		stop := w.node("web-4", time.Second)
		w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		stop()
		began := time.Now()
		w.ended(w.publish(2), cluster.StateActive, 2, 2)
		if d := time.Since(began); d < 11100*time.Millisecond || d > 11200*time.Millisecond {
			t.Errorf("the flip took %s, the fence wait is 11.1s", d)
		}
		q := w.view().Active.Value.Quorum
		if q.Members != 3 || q.Claims != 3 || q.Need != 2 || len(q.Without) != 1 || q.Without[0] != "web-4" {
			t.Errorf("evidence: %+v", q)
		}
		if why := w.view().Roster.Value.Why; !strings.Contains(why, "out web-4: no live session") {
			t.Errorf("the roster says %q", why)
		}
		began = time.Now()
		w.ended(w.publish(3), cluster.StateActive, 3, 3)
		if d := time.Since(began); d > 1100*time.Millisecond {
			t.Errorf("the next flip took %s", d)
		}
		began = time.Now()
		w.node("web-4", time.Second)
		w.until("web-4 is in again", func(v *cluster.View) bool {
			return v.Members["web-4"].Value == cluster.MemberIn && v.Entered() == 4
		})
		if d := time.Since(began); d > 13*time.Second {
			t.Errorf("it was in again after %s", d)
		}
		w.ended(w.publish(4), cluster.StateActive, 4, 4)
		if q := w.view().Active.Value.Quorum; q.Claims != 4 {
			t.Errorf("evidence: %+v", q)
		}
	})
}

// TestRun_newLeaderWaitsItself: what a leader has seen dies with it; the next
// one waits for the whole fence by its own clock.
func TestRun_newLeaderWaitsItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, stopManager := w.manager("m1")
		w.nodes(3, time.Second)
		stop := w.node("web-4", time.Second)
		w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		stop()
		r := w.publish(1)
		time.Sleep(10 * time.Second)
		stopManager()
		began := time.Now()
		w.manager("m2")
		w.ended(r, cluster.StateActive, 1, 1)
		if d := time.Since(began); d < 11100*time.Millisecond || d > 13*time.Second {
			t.Errorf("the new leader flipped after %s", d)
		}
	})
}

// TestRun_flapping: a node that comes and goes holds up a flip for the grace at
// most, and is not let in again while it does.
func TestRun_flapping(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		stop := w.node("web-4", time.Second)
		w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		stop()
		w.flapping("web-4", 5*time.Second)
		time.Sleep(17 * time.Second)
		began := time.Now()
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		d := time.Since(began)
		if ready := time.Second; d > ready+time.Minute || d < 30*time.Second {
			t.Errorf("the flip took %s, with a grace of 1m0s", d)
		}
		for n := 2; n <= 4; n++ {
			began = time.Now()
			w.ended(w.publish(n), cluster.StateActive, n, release.Epoch(n))
			if d := time.Since(began); d > 1100*time.Millisecond {
				t.Errorf("flip %d took %s", n, d)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestRun_slow: a node that is too slow drains, is put out, and is in again
// once it has what is active.
func TestRun_slow(t *testing.T) {
	for name, deaf := range map[string]bool{"it says that it has drained": false, "it says nothing": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.manager("m1")
				w.nodes(3, time.Second)
				n := &fakeNode{fake: w.fake, self: selfOf("web-4"), site: www, fill: 20 * time.Minute, deaf: deaf}
				w.start(n.run)
				w.until("web-4 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
				began := time.Now()
				r := w.publish(1)
				w.until("web-4 drains", func(v *cluster.View) bool { return v.Members["web-4"].Value == cluster.MemberDrain })
				if d := time.Since(began); d < 11*time.Minute || d > 11*time.Minute+time.Second {
					t.Errorf("it drains after %s, want the deadline and the grace", d)
				}
				w.ended(r, cluster.StateActive, 1, 1)
				w.until("web-4 is in again", func(v *cluster.View) bool { return v.Members["web-4"].Value == cluster.MemberIn && v.Entered() == 4 })
			})
		})
	}
}

// TestRun_tooManyDead: more dead nodes than may be lost fail a rollout after the
// grace, all of them named, unless it is told otherwise. They come back by themselves.
func TestRun_tooManyDead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(1, time.Second)
		var stops []func()
		for _, id := range []release.NodeID{"web-2", "web-3", "web-4"} {
			stops = append(stops, w.node(id, time.Second))
		}
		w.until("all have entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		for _, stop := range stops {
			stop()
		}
		began := time.Now()
		e := w.ended(w.publish(2), cluster.StateFailed, 1, 1).Error
		if d := time.Since(began); d < time.Minute || d > 62*time.Second {
			t.Errorf("it failed after %s, want the grace", d)
		}
		if e.Class != cluster.ClassQuorum || len(e.Nodes) != 3 {
			t.Errorf("error: %+v", e)
		}
		if v := w.view(); len(v.OutNodes()) > 0 {
			t.Errorf("put out for nothing: %v", v.OutNodes())
		}
		w.ended(w.ask(cluster.Desired{Mode: cluster.FlipTo, Release: rel(2), Override: []cluster.Override{cluster.OverrideRequire}}), cluster.StateActive, 2, 2)
		if a := w.view().Active.Value; len(a.Override) != 1 || a.Quorum.Claims != 1 || len(a.Quorum.Without) != 3 {
			t.Errorf("active: %+v", a)
		}
		for _, id := range []release.NodeID{"web-2", "web-3", "web-4"} {
			w.node(id, time.Second)
		}
		w.until("all are in again", func(v *cluster.View) bool { return v.Entered() == 4 && len(v.OutNodes()) == 0 })
	})
}

// TestRun_cordon: a node that an operator cordons drains, is out, follows what
// is active, and is in again when he lets it.
func TestRun_cordon(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		w.put(cluster.CordonKey(www, "web-3"), cluster.Cordon{By: "ops", Reason: "new disk"})
		v := w.until("web-3 is out", func(v *cluster.View) bool { return v.Members["web-3"].Value == cluster.MemberOut })
		if v.Entered() != 2 || v.Roster.Value.Why != "out web-3: cordoned by ops: new disk" {
			t.Errorf("%d count, the roster says %q", v.Entered(), v.Roster.Value.Why)
		}
		w.ended(w.publish(2), cluster.StateActive, 2, 2)
		time.Sleep(time.Hour)
		if m := w.view().Members["web-3"].Value; m != cluster.MemberOut {
			t.Errorf("the cordoned node is %s", m)
		}
		w.drop(cluster.CordonKey(www, "web-3"))
		w.until("web-3 counts again", func(v *cluster.View) bool { return v.Entered() == 3 })
	})
}

// TestRun_freezeEnds: a freeze with an end is ended by the leader, soon after.
func TestRun_freezeEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		began := time.Now()
		z := cluster.Freeze{By: "ops", Reason: "sale", Until: began.Add(50 * time.Minute).UTC()}
		if _, err := w.commit(cluster.SetFreeze(www, cluster.Entry[cluster.Freeze]{}, &z)); err != nil {
			t.Fatal(err)
		}
		w.register(1)
		over := w.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(1), Override: []cluster.Override{cluster.OverrideFreeze}})
		w.ended(over, cluster.StateActive, 1, 1)
		w.until("the freeze is over", func(v *cluster.View) bool { return !v.Freeze.Exists() })
		if d := time.Since(began); d < 50*time.Minute || d > 50*time.Minute+time.Second {
			t.Errorf("it ended after %s", d)
		}
		w.ended(w.publish(2), cluster.StateActive, 2, 2)
	})
}
