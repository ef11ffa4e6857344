package manager

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"relman/cluster"
	"relman/release"
)

// later asks for the release of the tests to be shown later.
func later(ms int64) change { return asked(func(d *cluster.Desired) { d.SwapInMS = ms }) }

// readyFor3 is a site whose nodes hold release 3.
func readyFor3(more ...change) *cluster.View {
	return siteView(append([]change{rollout(rel(3), "req-3"), holds(2, rel(3), "web-1", "web-2", "web-3")}, more...)...)
}

// TestDecide_schedule: a flip says when it takes effect, and a trial begins then.
func TestDecide_schedule(t *testing.T) {
	pending := func(v *cluster.View) { // 2 is, and 1 is still shown
		v.Active.Value.ActivateAt, v.Active.Value.Before = now.Add(time.Minute), 6
	}
	at := func(d time.Duration) change { return asked(func(a *cluster.Desired) { a.SwapAt = now.Add(d) }) }
	for name, c := range map[string]struct {
		v        *cluster.View
		previous int
		before   release.Epoch
		in       time.Duration // 0: at once
	}{
		"at once":                          {readyFor3(), 2, 0, 0},
		"in two seconds":                   {readyFor3(later(2000)), 2, 7, 2 * time.Second},
		"in an hour":                       {readyFor3(later(3600_000)), 2, 7, time.Hour},
		"at a time":                        {readyFor3(at(time.Minute)), 2, 7, time.Minute},
		"at a time that has passed":        {readyFor3(at(-time.Second)), 2, 0, 0},
		"at once, while another pends":     {readyFor3(pending), 1, 0, 0},
		"in a while, while another pends":  {readyFor3(pending, later(5000)), 1, 6, 5 * time.Second},
		"on trial":                         {readyFor3(later(2000), asked(func(d *cluster.Desired) { d.ConfirmSeconds = 60 })), 2, 7, 2 * time.Second},
		"on trial, and another pends":      {readyFor3(pending, asked(func(d *cluster.Desired) { d.ConfirmSeconds = 60 })), 1, 0, 0},
		"in a while, after another pended": {readyFor3(pending, func(v *cluster.View) { v.Active.Value.ActivateAt = now }, later(5000)), 2, 7, 5 * time.Second},
	} {
		f, ok := decide(c.v, now).(flip)
		if !ok {
			t.Errorf("%s: %s", name, text(decide(c.v, now)))
			continue
		}
		a, want := f.active, time.Time{}
		if c.in > 0 {
			want = now.Add(c.in)
		}
		if a.Previous.Release != rel(c.previous) || a.Before != c.before || !a.ActivateAt.Equal(want) {
			t.Errorf("%s: previous %s, before %d, at %s", name, a.Previous.Release, a.Before, a.ActivateAt)
		}
		if d := c.v.Desired.Value; d.ConfirmSeconds > 0 && !a.ConfirmBy.Equal(now.Add(c.in+time.Minute)) {
			t.Errorf("%s: to be confirmed by %s", name, a.ConfirmBy)
		}
	}
	for name, v := range map[string]*cluster.View{"late": readyFor3(later(3600_001)), "very late": readyFor3(at(24 * time.Hour)), "not ready": siteView(at(2 * time.Hour))} {
		if got := text(decide(v, now)); !strings.HasPrefix(got, "end refused 3 E_SCHEDULE: the swap is scheduled for ") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestDecide_scheduleAndCanary: there is one or the other.
func TestDecide_scheduleAndCanary(t *testing.T) {
	canary := func(v *cluster.View) {
		v.Active.Value.Canary = &cluster.Canary{Release: rel(3), Buffer: 2, Audience: cluster.Audience{Share: 500}, Since: 7}
	}
	tryOut := asked(func(d *cluster.Desired) { d.Mode, d.Canary = cluster.TryOut, cluster.Audience{Share: 500} })
	pending := func(v *cluster.View) { v.Active.Value.ActivateAt, v.Active.Value.Before = now.Add(time.Minute), 6 }
	for name, c := range map[string]struct {
		v    *cluster.View
		want string
	}{
		"scheduled beside a canary": {readyFor3(canary, later(2000)), "end refused 3 E_SCHEDULE: www has a canary"},
		"at once beside a canary":   {readyFor3(canary), "flip to 3 in 2 at 8"},
		"a canary while one pends":  {readyFor3(pending, tryOut), "end refused 3 E_SCHEDULE: " + string(rel(2)) + " is active, and not shown before 2026-11-22T20:01:00Z"},
		"a canary after it pended":  {readyFor3(pending, tryOut, func(v *cluster.View) { v.Active.Value.ActivateAt = now }), "flip to 2 in 1 at 8"},
	} {
		if got := text(decide(c.v, now)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestRun_otherTime: a flip to what is pending gives it another time, or none; to ask
// for the same one again changes nothing.
func TestRun_otherTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		w.register(2)
		at := time.Now().Add(time.Minute)
		ask := func(d cluster.Desired) cluster.RequestID {
			d.Mode, d.Release = cluster.FlipTo, rel(2)
			return w.ask(d)
		}
		w.ended(ask(cluster.Desired{SwapAt: at}), cluster.StateActive, 2, 2)
		w.ended(ask(cluster.Desired{SwapAt: at}), cluster.StateActive, 2, 2)
		w.ended(ask(cluster.Desired{Hold: true}), cluster.StateActive, 2, 2)
		w.ended(ask(cluster.Desired{SwapAt: at.Add(time.Minute)}), cluster.StateActive, 2, 3)
		if a := w.view().Active.Value; !a.ActivateAt.Equal(at.Add(time.Minute)) || a.Before != 1 || a.Previous.Release != rel(1) {
			t.Errorf("put off: %+v", a)
		}
		w.ended(ask(cluster.Desired{}), cluster.StateActive, 2, 4)
		if a := w.view().Active.Value; !a.ActivateAt.IsZero() || a.Previous.Release != rel(1) {
			t.Errorf("brought forward: %+v", a)
		}
		w.ended(ask(cluster.Desired{}), cluster.StateActive, 2, 4)
	})
}

// TestRun_schedule: the leader says what time it is, flips as it is told, and a
// rollback before the time needs no preparation.
func TestRun_schedule(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(3, time.Second)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		w.register(2)
		r := w.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(2), SwapInMS: 60_000})
		w.ended(r, cluster.StateActive, 2, 2)
		a := w.view().Active.Value
		if got := a.ActivateAt.Sub(a.At); got != time.Minute || a.Before != 1 || a.Previous.Release != rel(1) {
			t.Errorf("%v ahead, %+v", got, a)
		}
		r = w.ask(cluster.Desired{Mode: cluster.Rollback, Release: rel(1)})
		began := time.Now()
		w.ended(r, cluster.StateActive, 1, 3)
		if a := w.view().Active.Value; !a.ActivateAt.IsZero() || a.Previous.Release != rel(2) || time.Since(began) > time.Second {
			t.Errorf("rolled back to %+v in %v", a, time.Since(began))
		}
		// What supersedes one that pends fills the buffer of that, not of what is shown.
		w.register(3)
		w.ended(w.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(3), SwapInMS: 600_000}), cluster.StateActive, 3, 4)
		w.ended(w.publish(4), cluster.StateActive, 4, 5)
		if p := w.view().Active.Value.Previous.Release; p != rel(1) {
			t.Errorf("previous is %s", p)
		}
		w.ended(w.publish(5), cluster.StateActive, 5, 6)
	})
}

// TestRun_tick: the leader, and nobody else, says every few seconds what time it is.
func TestRun_tick(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, stop := w.manager("m1")
		synctest.Wait()
		w.manager("m2")
		clock := func() (c cluster.Clock) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.decode(w.pairs[cluster.ClockKey].Value, &c)
			return c
		}
		began, was := time.Now(), clock()
		if !was.At.Equal(began) {
			t.Fatalf("it is %s, the leader says %s", began, was.At)
		}
		time.Sleep(cluster.TickEvery)
		synctest.Wait()
		next := clock()
		if !next.At.Equal(began.Add(cluster.TickEvery)) || next.Leader != was.Leader {
			t.Errorf("then %+v, after %+v", next, was)
		}
		stop()
		time.Sleep(time.Minute) // until the next one is elected
		if c := clock(); c.Leader == was.Leader || c.At.Before(next.At) {
			t.Errorf("the next leader says %+v", c)
		}
	})
}

// TestRun_skew: once all live nodes show an epoch, the leader notes how far apart
// they swapped; not before, and once.
func TestRun_skew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, stop := w.manager("m1")
		w.nodes(3, time.Second)
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		key := cluster.SkewKey(www, 1)
		noted := func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.pairs[key].Value
		}
		at := w.view().Active.Value.At
		says := func(n int, after time.Duration, off int64) {
			w.put(cluster.StatusKey(release.NodeID(fmt.Sprint("web-", n)), www), cluster.Status{State: cluster.NodeServing, Epoch: 1, Swapped: at.Add(after), ClockErrorMS: off})
			synctest.Wait()
		}
		says(1, 3*time.Millisecond, 0)
		says(2, time.Millisecond, 0)
		if got := noted(); got != "" {
			t.Fatalf("noted before all show it: %s", got)
		}
		says(3, time.Hour, 3600_000)
		var s cluster.Skew
		if err := json.Unmarshal([]byte(noted()), &s); err != nil || s.MS != 2 || s.Nodes != 2 || len(s.Off) != 1 || s.Off[0] != "web-3" {
			t.Errorf("noted %s: %v", noted(), err)
		}
		was := noted()
		stop()
		w.manager("m2")
		says(1, time.Minute, 0)
		time.Sleep(time.Minute)
		if got := noted(); got != was {
			t.Errorf("noted again: %s", got)
		}
		w.ended(w.publish(2), cluster.StateActive, 2, 2)
	})
}

// TestOverdue_skews go with the history.
func TestOverdue_skews(t *testing.T) {
	v := siteView(func(v *cluster.View) { v.Active.Value.Epoch = 1002 })
	got := fmt.Sprint(overdue(v, 0))
	want := fmt.Sprint([]string{cluster.HistoryKey(www, 1), cluster.HistoryKey(www, 2), cluster.SkewKey(www, 1), cluster.SkewKey(www, 2)})
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestReturned_pending: a node that was put out comes back while a flip is pending,
// when it shows what all others show.
func TestReturned_pending(t *testing.T) {
	for epoch, want := range map[release.Epoch]string{5: "wait", 6: "admit web-3", 7: "admit web-3"} {
		v := siteView(putOut("web-3"), says("web-3", cluster.Status{State: cluster.NodeOut, Epoch: epoch}), func(v *cluster.View) {
			v.Results["req-3"] = cluster.Result{State: cluster.StateActive}
			v.Active.Value.ActivateAt, v.Active.Value.Before = now.Add(time.Minute), 6
		})
		seen := newAttendance()
		seen.note(v, now.Add(-time.Hour))
		if got := text(decideSeeing(v, seen, now)); got != want {
			t.Errorf("at epoch %d: %s, want %s", epoch, got, want)
		}
	}
}
