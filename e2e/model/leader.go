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
	txns := x.remember(madeKey{s.etcd, m, silent}, func() []*intent {
		v := x.view(s.etcd)
		f := cluster.Fence{Key: key, Create: x.pair(s.etcd, key).Create}
		return append(x.answerRequest(f, v), x.upkeep(f, v, silent)...)
	})
	for _, t := range txns {
		if slices.Contains(x.w.only, x.store.all[t].kind) {
			x.send(s, m, t)
		}
	}
}

// answerRequest is what a leader may do about what was asked for.
func (x *explorer) answerRequest(f cluster.Fence, v *cluster.View) (all []*intent) {
	if r := revert(f, v); r != nil {
		all = append(all, r)
	}
	if v.Freeze.Exists() && !v.Freeze.Value.Until.IsZero() {
		all = append(all, &intent{kind: "Thaw", txn: cluster.Thaw(f, v)})
	}
	if v.Active.Exists() && v.Told.Value < uint64(v.Active.Value.Epoch) {
		all = append(all, &intent{kind: "NoteTold", txn: cluster.NoteTold(f, v, v.Active.Value.Epoch)})
	}
	if old := cluster.HistoryKey(www, v.Active.Value.Epoch); v.Done() && x.w.trims {
		all = append(all, &intent{kind: "TrimHistory", txn: cluster.TrimHistory(f, www, []string{old})})
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
	case !registered || v.Judged(d) != "" || v.Frozen(d):
		return append(all, end(cluster.StateRefused))
	case v.Active.Exists() && v.Active.Value.Release == d.Release:
		return append(all, end(cluster.StateActive))
	case held && d.Hold:
		return append(all, end(cluster.StateReady))
	case held:
		return append(all, flip(f, v, r))
	}
	if ro := v.Rollout; ro.Exists() && ro.Value.Request == d.Request && ro.Value.Release == d.Release {
		return append(all, end(cluster.StateFailed)) // when its time is over
	}
	buffer := v.BackBuffer()
	if p := v.Active.Value.Previous; x.wrong == previousAgain && p != nil {
		buffer = p.Buffer
	}
	ro := cluster.Rollout{Release: d.Release, Buffer: buffer, Flip: "F-" + string(d.Request), Started: noon, Deadline: noon, Request: d.Request}
	return append(all, &intent{kind: "StartRollout", request: d.Request, release: d.Release, txn: cluster.StartRollout(f, v, ro)})
}

func flip(f cluster.Fence, v *cluster.View, r cluster.Readiness) *intent {
	d, old := v.Desired.Value, v.Active
	a := cluster.Active{
		Release: d.Release, Epoch: old.Value.Epoch + 1, Buffer: r.Buffer, Kind: d.Mode, Flip: "F-" + string(d.Request),
		At: noon, Request: d.Request, Override: d.Override, ConfirmBy: d.ConfirmTime(noon),
		Quorum: cluster.Quorum{Members: v.Entered(), Claims: len(r.Ready)},
	}
	if old.Exists() {
		a.Previous = &cluster.Held{Release: old.Value.Release, Buffer: old.Value.Buffer}
	}
	return &intent{kind: "Flip", request: d.Request, release: d.Release, buffers: []int{r.Buffer}, txn: cluster.Flip(f, v, a)}
}

func revert(f cluster.Fence, v *cluster.View) *intent {
	if !v.OnTrial() {
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
