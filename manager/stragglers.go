package manager

import (
	"fmt"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

type (
	// drain makes nodes say that they are not ready, before they are put out.
	drain struct {
		nodes []release.NodeID
		why   string
	}
	// out takes nodes, that take no traffic, out of the count.
	out struct {
		nodes []release.NodeID
		why   string
	}
)

// hurry says what to do about a rollout that is not ready: to wait, to do
// without nodes that have had their time, or to give up.
func hurry(v *cluster.View, seen *attendance, now time.Time) action {
	if end, hard := hardEnd(v); hard && !now.Before(end) {
		return failed(v, unready(v), now)
	}
	deadline := v.Rollout.Value.Deadline
	late := v.LateFor(v.Ready(v.Rollout.Value.Buffer, v.Rollout.Value.Release))
	switch {
	case v.Policy.Value.Stragglers == cluster.StragglersWait || vetoed(v, late):
		if !now.Before(deadline) {
			return failed(v, unready(v), now)
		}
		return waitFor(v, now, deadline)
	case len(late) == 0:
		return tooFew(v, seen, now)
	}
	var overdue []release.NodeID
	times := []time.Time{deadline}
	for _, n := range late {
		if at := lastCall(v, seen, n); now.Before(at) {
			times = append(times, at)
		} else {
			overdue = append(overdue, n)
		}
	}
	if len(overdue) < len(late) {
		return waitFor(v, now, times...)
	}
	if !mayDoWithout(v, overdue) {
		if until := seen.held.Add(v.Policy.Value.Grace()); !seen.held.IsZero() && now.Before(until) {
			return waitFor(v, now, until)
		}
		return failed(v, tooMany(v, late), now)
	}
	return doWithout(v, seen, overdue, now)
}

// hardEnd is when the request itself, and not only the policy, wants an end.
func hardEnd(v *cluster.View) (time.Time, bool) {
	s := v.Desired.Value.PrepareSeconds
	return v.Rollout.Value.Started.Add(time.Duration(s) * time.Second), s > 0
}

// waitFor waits for the soonest of some times, or for the end that the request
// wants.
func waitFor(v *cluster.View, now time.Time, times ...time.Time) wait {
	if end, hard := hardEnd(v); hard {
		times = append(times, end)
	}
	return wait{until: soonest(now, times...)}
}

// soonest is the first time after now, zero for none.
func soonest(now time.Time, times ...time.Time) (first time.Time) {
	for _, t := range times {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

func failed(v *cluster.View, why *cluster.ErrorInfo, now time.Time) end {
	return end{cluster.Result{State: cluster.StateFailed, Release: v.Desired.Value.Release, Error: why, At: now}}
}

// vetoed reports whether a node's own program has found fault with the release:
// to flip without that node would be to overrule it.
func vetoed(v *cluster.View, late []release.NodeID) bool {
	return slices.ContainsFunc(late, func(n release.NodeID) bool {
		e := v.Status[n].Error
		return e != nil && e.Class == cluster.ClassHook
	})
}

// tooFew is for a rollout that nobody is late for and that has not enough nodes
// ready. Those that are out may come back, for as long as one waits for nodes that
// come and go; new ones may join until the deadline.
func tooFew(v *cluster.View, seen *attendance, now time.Time) action {
	until := v.Rollout.Value.Deadline
	if b, err := v.Bar(v.Desired.Value); err == nil && b.Registered >= b.Need && !seen.held.IsZero() {
		until = seen.held.Add(v.Policy.Value.Grace())
	}
	if now.Before(until) {
		return waitFor(v, now, until)
	}
	return failed(v, unready(v), now)
}

// lastCall is when a late node has had its time. One that is not live takes no
// traffic after its fence; one that comes and goes, or drains, is to be out by the end of the
// grace after all others are ready, and the fence is a part of that; any other one has
// the grace after the deadline.
func lastCall(v *cluster.View, seen *attendance, n release.NodeID) time.Time {
	p := v.Policy.Value
	at := v.Rollout.Value.Deadline.Add(p.Grace())
	_, live := v.Live[n]
	if !live {
		at = earlier(at, seen.silentUntil(v, n))
	}
	if doubtful := !live || seen.of(n).shaky; doubtful && !seen.held.IsZero() {
		at = earlier(at, seen.held.Add(max(0, p.Grace()-fenceWait(v, n))))
	}
	if v.Members[n].Value == cluster.MemberDrain {
		at = seen.of(n).draining
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// mayDoWithout reports whether the policy, or the request, allows a flip without
// some nodes: enough others are ready, and not too many are out because they were not
// waited for. Those that an operator wants out are his affair.
func mayDoWithout(v *cluster.View, nodes []release.NodeID) bool {
	b, err := v.Bar(v.Desired.Value)
	if err != nil {
		return false
	}
	lost := map[release.NodeID]bool{}
	for _, n := range slices.Concat(nodes, v.OutNodes(), returning(v)) {
		if !v.Cordons[n].Exists() {
			lost[n] = true
		}
	}
	return len(lost) <= b.MostOut && len(readyWithout(v, nodes)) >= max(1, b.Need)
}

// returning are the nodes that were out, are admitted again, and have not entered
// yet: they do not count.
func returning(v *cluster.View) (nodes []release.NodeID) {
	entered := v.EnteredNodes()
	for n, m := range v.Members {
		if m.Value == cluster.MemberIn && m.Mod != m.Create && !slices.Contains(entered, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// readyWithout are the nodes that hold the rollout's release, but for some.
func readyWithout(v *cluster.View, nodes []release.NodeID) []release.NodeID {
	r := v.Ready(v.Rollout.Value.Buffer, v.Rollout.Value.Release)
	return slices.DeleteFunc(r.Ready, func(n release.NodeID) bool { return slices.Contains(nodes, n) })
}

// doWithout takes the next step to a flip without some nodes: those that take no
// traffic are out at once, the others drain first.
func doWithout(v *cluster.View, seen *attendance, nodes []release.NodeID, now time.Time) action {
	var silent, others []release.NodeID
	var until []time.Time
	for _, n := range nodes {
		_, live := v.Live[n]
		switch {
		case v.Members[n].Value == cluster.MemberDrain:
			until = append(until, seen.drainedAt(v, n)) // upkeep puts it out
		case !live && !now.Before(seen.silentUntil(v, n)):
			silent = append(silent, n)
		default:
			others = append(others, n)
		}
	}
	about := string(v.Rollout.Value.Release)
	switch {
	case len(silent) > 0:
		return out{v.OutBatch(silent), "no live session, " + about + " waits for it"}
	case len(others) > 0:
		return drain{others[:min(len(others), cluster.OutAtOnce)], "late for " + about}
	}
	return waitFor(v, now, until...)
}

// tooMany says that a rollout has more stragglers than it may do without.
func tooMany(v *cluster.View, late []release.NodeID) *cluster.ErrorInfo {
	b, _ := v.Bar(v.Desired.Value)
	text := fmt.Sprintf("%d of %d registered nodes ready, %d needed, %d may be out", len(readyWithout(v, late)), b.Registered, b.Need, b.MostOut)
	return naming(v, cluster.ClassQuorum, text, slices.Concat(late, v.OutNodes()))
}
