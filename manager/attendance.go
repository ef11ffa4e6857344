package manager

import (
	"time"

	"relman/cluster"
	"relman/release"
)

// attendance is what a leader has seen itself of a site's nodes, by its own
// clock. Nothing of it is in etcd: a new leader begins to count anew, so that a
// time that has to pass has passed by one clock.
type attendance struct {
	nodes   map[release.NodeID]*attendant
	rollout string // the flip id of the rollout that `shaky` and `held` are about
	// held is since when only nodes that are away, or come and go, hold up the
	// rollout; zero: it is not so.
	held time.Time
}

// attendant is one node as it was seen.
type attendant struct {
	boot    string    // of its live session; "": there is none
	session int64     // revision of the last session, which tells sessions apart
	since   time.Time // that these two have been so
	shaky   bool      // a session of it has ended since the rollout began

	drain    int64     // revision of the member entry that drains it; 0: it does not
	draining time.Time // since when that has been seen
}

func newAttendance() *attendance {
	return &attendance{nodes: map[release.NodeID]*attendant{}}
}

// stepped moves all times with a clock that was set: what has passed since stays what
// it was. Waits rest on that, and a clock that is set forward must not end them.
func (a *attendance) stepped(by time.Duration) {
	if by == 0 {
		return
	}
	for _, at := range a.nodes {
		at.since, at.draining = at.since.Add(by), at.draining.Add(by)
	}
	if !a.held.IsZero() {
		a.held = a.held.Add(by)
	}
}

// clockStep is by how much the wall clock was set between two readings; it is also how
// long the machine was suspended, for which waits are so much longer.
func clockStep(before, now time.Time) time.Duration {
	return now.Round(0).Sub(before.Round(0)) - now.Sub(before)
}

// note takes down what v shows.
func (a *attendance) note(v *cluster.View, now time.Time) {
	rollout := v.Rollout.Value.Flip // "" without one
	anew := a.rollout != rollout
	if anew {
		a.rollout, a.held = rollout, time.Time{}
	}
	nodes := map[release.NodeID]*attendant{}
	for _, n := range nodesOf(v) {
		at := a.nodes[n]
		if at == nil {
			at = &attendant{boot: v.Live[n].Boot, session: v.Last[n].Mod, since: now}
		}
		if anew {
			at.shaky = false
		}
		at.note(v, n, now)
		nodes[n] = at
	}
	a.nodes = nodes
	switch {
	case !a.onlyDoubtful(v):
		a.held = time.Time{}
	case a.held.IsZero():
		a.held = now
	}
}

func (at *attendant) note(v *cluster.View, n release.NodeID, now time.Time) {
	if boot, session := v.Live[n].Boot, v.Last[n].Mod; boot != at.boot || session != at.session {
		at.boot, at.session, at.since, at.shaky = boot, session, now, true
	}
	switch m := v.Members[n]; {
	case m.Value != cluster.MemberDrain:
		at.drain = 0
	case m.Mod != at.drain:
		at.drain, at.draining = m.Mod, now
	}
}

// onlyDoubtful reports whether a rollout is in flight and waits for nobody but
// nodes of which it is in doubt whether they will ever be ready.
func (a *attendance) onlyDoubtful(v *cluster.View) bool {
	if !v.Rollout.Exists() {
		return false
	}
	for _, n := range v.LateFor(v.Ready(v.Rollout.Value.Buffer, v.Rollout.Value.Release)) {
		if _, live := v.Live[n]; live && !a.nodes[n].shaky && v.Members[n].Value != cluster.MemberDrain {
			return false
		}
	}
	return true
}

// silentUntil is when a node that is not live has been away for so long that it
// takes no traffic.
func (a *attendance) silentUntil(v *cluster.View, n release.NodeID) time.Time {
	return a.of(n).since.Add(fenceWait(v, n))
}

// drainedAt is when a node that drains takes no traffic whatever it says: since
// then either it has heard that it drains, or it is fenced.
func (a *attendance) drainedAt(v *cluster.View, n release.NodeID) time.Time {
	return a.of(n).draining.Add(fenceWait(v, n))
}

// steadyAt is when a live node has kept its session for so long that it is
// taken for one that stays.
func (a *attendance) steadyAt(v *cluster.View, n release.NodeID) time.Time {
	return a.of(n).since.Add(fenceWait(v, n))
}

// never is later than any time that is waited for.
var never = time.Unix(1<<40, 0)

// of is what was seen of a node. For one that nothing was seen of, no time is ever
// over.
func (a *attendance) of(n release.NodeID) attendant {
	if at := a.nodes[n]; at != nil {
		return *at
	}
	return attendant{since: never, draining: never}
}

// fenceWait is how long a leader waits for a node's fence.
func fenceWait(v *cluster.View, n release.NodeID) time.Duration {
	return v.Policy.Value.FenceWait(v.Last[n].Value.Fence())
}
