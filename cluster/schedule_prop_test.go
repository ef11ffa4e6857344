package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"relman/release"
)

// scheduledNode is a node as far as it waits: what it shows, by a clock of its own.
type scheduledNode struct {
	off     time.Duration
	release release.ID
	epoch   release.Epoch
}

// look is what a node does that has heard of a.
func (n *scheduledNode) look(a Active, now time.Time) {
	if before, epoch, waits := a.WaitsAt(now.Add(n.off), n.epoch); waits {
		if n.release, n.epoch = "", epoch; before != nil {
			n.release = before.Release
		}
		return
	}
	n.release, n.epoch = a.Release, a.Epoch
}

// past are the flips of a site, by epoch.
type past map[release.Epoch]Active

// wrong is the rule that a node breaks that was as was and has heard of a, "" for none.
func (p past) wrong(was, n scheduledNode, a Active, now time.Time) string {
	kept := a.Before == 0 && n.release == "" || a.Previous != nil && n.release == a.Previous.Release
	good, own := n.off.Abs() < MaxClockError, now.Add(n.off)
	switch {
	case n.epoch < was.epoch:
		return "goes back"
	case p[n.epoch].Release != n.release:
		return "calls it by another epoch"
	case n.release != a.Release && !kept:
		return "shows what nobody keeps"
	case !a.Pending(own) && n.epoch != a.Epoch:
		return "does not show it when it is time"
	case good && a.Pending(own) && n.epoch == a.Epoch:
		return "does not wait"
	case good && n.epoch != was.epoch && p[n.epoch].Pending(own.Add(2*MaxClockError)):
		return "shows what was pending and has been superseded"
	}
	return ""
}

// TestSchedule_random: whatever is flipped to, at once or scheduled, while something is
// pending or not: a node shows the active release or the one that is kept beside it,
// and never goes back. With a good clock it shows nothing before its time.
func TestSchedule_random(t *testing.T) {
	pending, overtaken, moved := 0, 0, 0
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		pass := func() time.Duration {
			most := []time.Duration{time.Millisecond, 400 * time.Millisecond, 20 * time.Second}[rnd.IntN(3)]
			return time.Duration(rnd.Int64N(int64(most)))
		}
		now, all := noon, past{0: {}}
		var active Entry[Active]
		var nodes []*scheduledNode
		for _, off := range []time.Duration{0, MaxClockError - 1, 1 - MaxClockError, 10 * time.Second, -10 * time.Second, time.Hour, -time.Hour} {
			nodes = append(nodes, &scheduledNode{off: off})
		}
		for range 15 {
			next := Active{Release: id(1 + rnd.Uint64N(5)), Epoch: active.Value.Epoch + 1, At: now}
			again := next.Release == active.Value.Release
			if again && !active.Value.Unseen(now) {
				continue // nothing is flipped then
			}
			d := Desired{SwapInMS: []int64{0, 0, 500, 5000, 60_000}[rnd.IntN(5)]}
			next = next.Schedule(active, d.ActivateTime(now))
			if again {
				moved++
			}
			if p := next.Previous; active.Exists() && (p == nil && !again || p != nil && p.Release == next.Release) || next.Before >= next.Epoch {
				t.Fatalf("seed %d: %+v follows %+v", seed, next, active.Value)
			}
			if active.Value.Pending(now) {
				overtaken++
			}
			if next.Pending(now) {
				pending++
			}
			active, all[next.Epoch] = Entry[Active]{Value: next, Mod: 1, Create: 1}, next
			for range 1 + rnd.IntN(6) {
				for i, n := range nodes {
					was := *n
					n.look(next, now)
					if wrong := all.wrong(was, *n, next, now); wrong != "" {
						t.Fatalf("seed %d: node %d %s: it shows %s, epoch %d, after epoch %d, at %s: %s", seed, i, wrong, n.release, n.epoch, was.epoch, now, fmt.Sprintf("%+v", next))
					}
				}
				now = now.Add(pass())
			}
		}
	}
	if pending < 1000 || overtaken < 1000 || moved < 1000 {
		t.Errorf("%d were pending, %d overtaken, %d moved: the test looks at too few", pending, overtaken, moved)
	}
}
