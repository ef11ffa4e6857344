package main

import (
	"fmt"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// noon is the time of everything: the model has no clock, what a clock
// allows may happen at any moment.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// muchLater is when whatever was scheduled has come.
var muchLater = noon.Add(time.Hour)

func rel(n uint64) release.ID { return release.NewID(n, release.Sum([]byte(fmt.Sprint(n)))) }

func electionKey(m actor) string { return cluster.ElectionPrefix + "/" + m.String() }

// leader is what a manager that leads may decide on now. It is more than the
// program would do: whatever it may do at some time by its clock.
func (x *explorer) leader(s *state, m actor) {
	key := electionKey(m)
	if s.flights[m].txn != 0 || !x.has(s.etcd, key) {
		return
	}
	var silent int64 // nodes that take no traffic by now
	for i := range s.nodes {
		if n := &s.nodes[i]; !n.takesTraffic() || x.wrong == outWithoutFence {
			silent |= 1 << i
		}
	}
	now, note := noon, silent
	if s.due {
		now, note = muchLater, silent|1<<8
	}
	txns := x.remember(madeKey{s.etcd, m, note}, func() []*intent {
		v := x.view(s.etcd)
		f := cluster.Fence{Key: key, Create: x.pair(s.etcd, key).Create}
		all := append(x.answerRequest(f, v, now), x.notes(s.etcd, f, v)...)
		return append(all, x.upkeep(f, v, silent)...)
	})
	for _, t := range txns {
		if slices.Contains(x.w.only, x.store.all[t].kind) {
			x.send(s, m, t)
		}
	}
}

// notes are what a leader may write that nothing rests on, each once.
func (x *explorer) notes(at int32, f cluster.Fence, v *cluster.View) (all []*intent) {
	epoch := v.Active.Value.Epoch
	if !x.has(at, cluster.ClockKey) {
		all = append(all, &intent{kind: "Tick", txn: cluster.Tick(f, noon)})
	}
	if !v.Active.Exists() {
		return all
	}
	if old := cluster.HistoryKey(www, epoch); x.has(at, old) {
		all = append(all, &intent{kind: "TrimHistory", txn: cluster.TrimHistory(f, www, []string{old})})
	}
	if !x.has(at, cluster.SkewKey(www, epoch)) {
		all = append(all, &intent{kind: "NoteSkew", txn: cluster.NoteSkew(f, v, cluster.Skew{Nodes: 2})})
	}
	if v.Told.Value < uint64(epoch) {
		all = append(all, &intent{kind: "NoteTold", txn: cluster.NoteTold(f, v, epoch)})
	}
	return all
}

// answerRequest is what a leader may do about what was asked for.
func (x *explorer) answerRequest(f cluster.Fence, v *cluster.View, now time.Time) (all []*intent) {
	if r := revert(f, v); r != nil {
		all = append(all, r)
	}
	if v.Baking() {
		all = append(all, &intent{kind: "EndBake", txn: cluster.EndBake(f, v)})
	}
	if v.Freeze.Exists() && !v.Freeze.Value.Until.IsZero() {
		all = append(all, &intent{kind: "Thaw", txn: cluster.Thaw(f, v)})
	}
	if v.Done() {
		return all
	}
	d := v.Desired.Value
	end := func(state cluster.State) *intent {
		return &intent{kind: "End", request: d.Request, txn: cluster.End(f, v, cluster.Result{State: state, Release: d.Release, At: noon})}
	}
	_, registered := v.Releases[d.Release]
	r, held := v.HeldBy(d.Release)
	if x.wrong == emptyIsReady && !held {
		for k := range v.Policy.Value.Buffers {
			if len(v.Ready(k, d.Release).Late) == 0 {
				r, held = cluster.Readiness{Buffer: k}, true
			}
		}
	}
	switch {
	case d.Mode == cluster.Abort:
		return append(all, end(cluster.StateAborted))
	case v.Frozen(d) || wrongCanary(v):
		return append(all, end(cluster.StateRefused))
	case d.Mode == cluster.EndCanary:
		return append(all, flip(f, v, cluster.Readiness{}, now))
	case !registered || v.Judged(d) != "":
		return append(all, end(cluster.StateRefused))
	case v.Active.Exists() && v.Active.Value.Release == d.Release:
		return append(all, end(cluster.StateActive))
	case held && d.Hold:
		return append(all, end(cluster.StateReady))
	case held:
		return append(all, flip(f, v, r, now))
	}
	if ro := v.Rollout; ro.Exists() && ro.Value.Request == d.Request && ro.Value.Release == d.Release {
		return append(all, end(cluster.StateFailed)) // when its time is over
	}
	buffer := v.BackBuffer()
	if p := v.Active.Value.Previous; x.wrong == previousAgain && p != nil {
		buffer = p.Buffer
	}
	if buffer < 0 {
		return append(all, end(cluster.StateRefused))
	}
	ro := cluster.Rollout{Release: d.Release, Buffer: buffer, Flip: "F-" + string(d.Request), Started: noon, Deadline: noon, Request: d.Request}
	return append(all, &intent{kind: "StartRollout", request: d.Request, release: d.Release, txn: cluster.StartRollout(f, v, ro)})
}

// wrongCanary: what is asked for would end a canary unasked, or is about another.
func wrongCanary(v *cluster.View) bool {
	d, a := v.Desired.Value, v.Active.Value
	switch d.Mode {
	case cluster.TryOut:
		return v.InTheWay(d) != nil || !v.Active.Exists() || v.OnTrial()
	case cluster.Promote, cluster.EndCanary:
		return a.Canary == nil || a.Canary.Release != d.Release
	}
	return v.InTheWay(d) != nil
}

func flip(f cluster.Fence, v *cluster.View, r cluster.Readiness, now time.Time) *intent {
	d, old := v.Desired.Value, v.Active
	a := cluster.Active{
		Release: d.Release, Epoch: old.Value.Epoch + 1, Buffer: r.Buffer, Kind: d.Mode, Flip: "F-" + string(d.Request),
		At: now, Request: d.Request, Override: d.Override, ConfirmBy: d.ConfirmTime(now),
		Quorum: cluster.Quorum{Members: v.Entered(), Claims: len(r.Ready)},
	}
	switch o := old.Value; d.Mode {
	case cluster.TryOut:
		a.Canary = &cluster.Canary{Release: d.Release, Buffer: r.Buffer, Audience: d.Canary, Since: a.Epoch}
		a.Release, a.Buffer, a.Previous = o.Release, o.Buffer, o.Previous
	case cluster.EndCanary:
		a.Release, a.Buffer, a.Previous = o.Release, o.Buffer, o.Previous
	default:
		a = a.Schedule(old, d.ActivateTime(now))
	}
	return &intent{kind: "Flip", request: d.Request, release: d.Release, buffers: []int{r.Buffer}, txn: cluster.Flip(f, v, a)}
}

func revert(f cluster.Fence, v *cluster.View) *intent {
	if !v.OnTrial() && !v.Baking() {
		return nil
	}
	bad := v.Active.Value
	to := bad.Previous.Release
	r, held := v.HeldBy(to)
	_, judged := v.Verdicts[to]
	_, kept := v.Releases[to]
	_, known := v.Releases[bad.Release]
	if !held || judged || !kept || !known || v.Freeze.Exists() && !v.Freeze.Value.AllowRollback {
		return nil
	}
	a := cluster.Active{
		Release: to, Epoch: bad.Epoch + 1, Buffer: r.Buffer, Previous: &cluster.Held{Release: bad.Release, Buffer: bad.Buffer},
		Kind: cluster.KindRevert, Flip: fmt.Sprintf("V-%d", bad.Epoch), At: noon,
	}
	return &intent{kind: "Revert", release: to, buffers: []int{r.Buffer}, txn: cluster.Revert(f, v, a, "not confirmed")}
}

// mostRosters is how often nodes drain or are put out in one world, at most.
const mostRosters = 3

// upkeep is what a leader may do about the nodes, of which some take no traffic.
func (x *explorer) upkeep(f cluster.Fence, v *cluster.View, silent int64) (all []*intent) {
	for i := range x.w.nodes {
		n := selfOf(i, 0).Node
		one := []release.NodeID{n}
		m := v.Members[n]
		_, live := v.Live[n]
		_, joined := v.Joins[n]
		gone := silent&(1<<i) != 0
		approved := m.Exists() || v.Policy.Value.Admission != cluster.AdmitApproved || v.Approved[n]
		stray := slices.Contains(v.EnteredNodes(), n)
		about := func(kind string, t cluster.Txn) {
			all = append(all, &intent{kind: kind, buffers: []int{i}, txn: t})
		}
		switch m.Value {
		case cluster.MemberDrain:
			if v.Status[n].Drained == m.Mod || gone {
				about("Out", cluster.Out(f, v, one, "drained"))
			}
		case cluster.MemberIn:
			// Without an end to it there would be no end of states.
			if b, err := v.Bar(cluster.Desired{}); err == nil && len(v.OutNodes()) < b.MostOut && v.Roster.Value.V < mostRosters {
				about("Drain", cluster.Drain(f, v, one, "late"))
				if !live && gone {
					about("Out", cluster.Out(f, v, one, "silent"))
				}
			}
		default:
			switch {
			case stray:
				about("Out", cluster.Out(f, v, one, "it left a claim"))
			case live && joined && approved && !v.Cordons[n].Exists():
				about("Admit", cluster.Admit(f, v, n))
			}
		}
	}
	return all
}
