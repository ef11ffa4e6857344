package nodeagent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
)

// schedule publishes a build and flips to it, for the nodes to swap at a time.
func (n *node) schedule(b build, at time.Time) *objectstore.Stored {
	n.t.Helper()
	s := n.publish(b)
	n.etcd.startRollout(s.Manifest.ID())
	n.claimed()
	n.etcd.change(func(int64) { n.etcd.activateAt = at })
	n.etcd.flip(n.t)
	return s
}

// waits waits until the node has heard of the flip, is ready, and shows what was
// active before.
func (n *node) waits(s *objectstore.Stored) {
	n.t.Helper()
	n.until("waits", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return errors.New(why)
		}
		if got := n.status(); got.State != cluster.NodeWaiting || got.Release != s.Manifest.ID() {
			return fmt.Errorf("status %+v", got)
		}
		return nil
	})
	n.answers(s, "")
}

// pass lets time pass.
func (n *node) pass(d time.Duration) {
	n.etcd.mu.Lock()
	n.etcd.ahead += d
	n.etcd.mu.Unlock()
	n.ahead.Add(int64(d))
}

// TestSchedule: a node shows a scheduled release when it is time, not before, and
// says when that was.
func TestSchedule(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	at := time.Now().Add(time.Hour)
	r2 := n.schedule(b.with("index.html", "two"), at)
	n.waits(r1)
	n.pass(59 * time.Minute)
	n.waits(r1)
	n.pass(time.Minute)
	n.serves(r2)
	if st := n.status(); st.Epoch != 2 || st.Swapped.Before(at) || st.Swapped.After(at.Add(time.Minute)) {
		t.Errorf("status %+v, it was for %s", st, at)
	}
	n.holds(r1, r2)
}

// TestSchedule_precise: the swap is at the time, and not at the next look at the
// clock.
func TestSchedule_precise(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	n.rollOut(firstBuild())
	at := time.Now().Add(300 * time.Millisecond)
	r2 := n.schedule(firstBuild().with("index.html", "two"), at)
	n.serves(r2)
	if late := n.status().Swapped.Sub(at); late < 0 || late > lookAgain/2 {
		t.Errorf("swapped %v late", late)
	}
}

// TestSchedule_first: before the first release is due, there is nothing to show, and
// that is what the node is ready to do.
func TestSchedule_first(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.publish(firstBuild())
	n.etcd.startRollout(r1.Manifest.ID())
	n.claimed()
	n.etcd.change(func(int64) { n.etcd.activateAt = time.Now().Add(time.Hour) })
	n.etcd.flip(t)
	n.until("waits", func() error {
		if ok, why := n.agent.Ready(); !ok || n.status().State != cluster.NodeWaiting {
			return fmt.Errorf("%s, status %+v", why, n.status())
		}
		return nil
	})
	n.pass(time.Hour)
	n.serves(r1)
}

// TestSchedule_clock: a node whose clock is wrong does not wait, and says so, whether
// it was told or sees it by the flip itself.
func TestSchedule_clock(t *testing.T) {
	for name, wrong := range map[string]func(n *node){
		"ahead":     func(n *node) { n.etcd.change(func(int64) { n.etcd.clockError = 10 * time.Minute }) },
		"behind":    func(n *node) { n.etcd.change(func(int64) { n.etcd.clockError = -10 * time.Minute }) },
		"hour":      func(n *node) { n.ahead.Add(int64(time.Hour)) },
		"hour back": func(n *node) { n.ahead.Add(-int64(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			n.rollOut(firstBuild())
			wrong(n)
			r2 := n.schedule(firstBuild().with("index.html", "two"), time.Now().Add(30*time.Minute))
			n.serves(r2)
			want := n.etcd.ClockError().Milliseconds()
			n.until("says so", func() error {
				if got := n.status().ClockErrorMS; got != want {
					return fmt.Errorf("%d ms, want %d", got, want)
				}
				return nil
			})
		})
	}
}

// TestSchedule_clockFoundWrong: that the clock is wrong may turn out while the node
// waits.
func TestSchedule_clockFoundWrong(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	r2 := n.schedule(firstBuild().with("index.html", "two"), time.Now().Add(time.Hour))
	n.waits(r1)
	n.etcd.change(func(int64) { n.etcd.clockError = -time.Hour })
	n.serves(r2)
	if st := n.status(); st.ClockErrorMS != -3600_000 {
		t.Errorf("status %+v", st)
	}
	n.etcd.change(func(int64) { n.etcd.clockError = 0 })
	n.until("takes it back", func() error {
		if st := n.status(); st.ClockErrorMS != 0 || st.Epoch != 2 {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
	n.answers(r2, "")
}

// TestSchedule_restart: a node that is started again while a flip is pending waits
// on; one that comes back after it swaps at once.
func TestSchedule_restart(t *testing.T) {
	for _, onStart := range []OnStart{ServeLast, Wait} {
		t.Run(string(onStart), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.onStart = onStart
			n.start()
			r1 := n.rollOut(firstBuild())
			r2 := n.schedule(firstBuild().with("index.html", "two"), time.Now().Add(time.Hour))
			n.waits(r1)
			n.halt()
			n.start()
			n.waits(r1)
			n.halt()
			n.pass(time.Hour)
			n.start()
			n.serves(r2)
		})
	}
}

// TestSchedule_late: a node that was away, or that is new, gets both releases while a
// flip is pending, and shows the one that all others show.
func TestSchedule_late(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		t.Run(fmt.Sprint("new: ", fresh), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			if !fresh {
				n.start()
				n.rollOut(firstBuild())
				n.halt()
			}
			r1, r2 := n.publish(firstBuild().with("index.html", "one")), n.publish(firstBuild().with("index.html", "two"))
			n.etcd.flipElsewhere(r1.Manifest.ID(), 1)
			n.etcd.change(func(int64) { n.etcd.activateAt = time.Now().Add(time.Hour) })
			n.etcd.flipElsewhere(r2.Manifest.ID(), 2)
			n.start()
			n.waits(r1)
			n.until("can swap", func() error { return n.claims(r1, r2) })
			n.pass(time.Hour)
			n.serves(r2)
		})
	}
}

// TestSchedule_superseded: what comes before the time takes the place of what is
// pending: a rollback, which no visitor notices; another release, at once or
// scheduled in its turn. What was pending is never shown.
func TestSchedule_superseded(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	n.schedule(b.with("index.html", "two"), n.now().Add(time.Hour))
	n.waits(r1)

	n.etcd.rollback(t)
	n.serves(r1)
	if st := n.status(); st.Epoch != 3 {
		t.Errorf("status %+v", st)
	}

	n.schedule(b.with("index.html", "three"), n.now().Add(30*time.Minute))
	n.waits(r1)
	r4 := n.schedule(b.with("index.html", "four"), n.now().Add(time.Hour))
	n.waits(r1)
	n.pass(40 * time.Minute) // the third would be due
	n.waits(r1)
	n.pass(20 * time.Minute)
	n.serves(r4)
	n.until("can roll back", func() error { return n.claims(r1, r4) })

	r5 := n.schedule(b.with("index.html", "five"), n.now().Add(time.Hour))
	n.waits(r4)
	r6 := n.rollOut(b.with("index.html", "six"))
	if p := n.etcd.view.Active.Value.Previous.Release; p != r4.Manifest.ID() {
		t.Errorf("previous is %s, %s was shown and not %s", p, r4.Manifest.ID(), r5.Manifest.ID())
	}
	n.serves(r6)
}

// TestSchedule_ahead: a node that has shown what is pending for others goes on to the
// next one: it never goes back.
func TestSchedule_ahead(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	n.ahead.Add(int64(30 * time.Minute))
	r2 := n.schedule(b.with("index.html", "two"), time.Now().Add(20*time.Minute))
	n.serves(r2)
	r3 := n.schedule(b.with("index.html", "three"), time.Now().Add(50*time.Minute))
	n.serves(r3)
	if st := n.status(); st.Epoch != 3 {
		t.Errorf("status %+v", st)
	}
}

// TestSchedule_pin: a visitor who has seen the new release on a node that is ahead
// gets it from one that still waits; nobody else does, and etcd is not asked for it.
func TestSchedule_pin(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.change(func(rev int64) {
		n.etcd.view.Serving = cluster.Entry[cluster.Serving]{Value: cluster.DefaultServing(), Mod: rev, Create: rev}
		n.etcd.view.Secret = testSecret
	})
	n.start()
	r1 := n.rollOut(firstBuild())
	r2 := n.schedule(firstBuild().with("index.html", "two"), time.Now().Add(time.Hour))
	n.waits(r1)
	n.etcd.mu.Lock()
	asked := n.etcd.asked
	n.etcd.mu.Unlock()
	pin := newPins(www, cluster.DefaultServing(), testSecret).value(2, r2.Manifest.ID())
	for range 10 {
		w := ask(n.agent.Server(), "GET", "/index.html", cookie(pin)...)
		if w.Code != 200 || w.Body.String() != "two" || w.Header().Get("Relman-Release") != string(r2.Manifest.ID()) {
			t.Fatalf("%d %q of %s", w.Code, w.Body, w.Header().Get("Relman-Release"))
		}
	}
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	if n.etcd.asked != asked {
		t.Errorf("etcd was asked %d times", n.etcd.asked-asked)
	}
}

// TestSchedule_cutOff: a node that has heard of a flip swaps in time also when etcd
// is away by then.
func TestSchedule_cutOff(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	r2 := n.schedule(firstBuild().with("index.html", "two"), time.Now().Add(time.Hour))
	n.waits(r1)
	n.etcd.change(func(int64) { n.etcd.down = true })
	n.answers(r1, "")
	n.pass(time.Hour)
	n.until("swaps", func() error {
		if id, epoch := n.agent.sites[0].front.Shown(); id != r2.Manifest.ID() || epoch != 2 {
			return fmt.Errorf("shows %s, epoch %d", id, epoch)
		}
		return nil
	})
	n.answers(r2, "")
}
