package manager

import (
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// sight is one difference between what a leader has seen that came a long time
// ago and what is needed for a case.
type sight func(a *attendance)

// since: a node has been as it is for so long.
func since(d time.Duration, nodes ...release.NodeID) sight {
	return func(a *attendance) {
		for _, n := range nodes {
			a.nodes[n].since = now.Add(-d)
		}
	}
}

// shaky: nodes have lost a session since the rollout began.
func shaky(nodes ...release.NodeID) sight {
	return func(a *attendance) {
		for _, n := range nodes {
			a.nodes[n].shaky = true
		}
	}
}

// held: only doubtful nodes have held up the rollout for so long.
func held(d time.Duration) sight { return func(a *attendance) { a.held = now.Add(-d) } }

// draining: nodes have been seen to drain for so long.
func draining(d time.Duration, nodes ...release.NodeID) sight {
	return func(a *attendance) {
		for _, n := range nodes {
			a.nodes[n].draining = now.Add(-d)
		}
	}
}

// drains makes nodes drain; said says that they have.
func drains(nodes ...release.NodeID) change {
	return func(v *cluster.View) {
		for _, n := range nodes {
			v.Members[n] = cluster.Entry[cluster.Member]{Value: cluster.MemberDrain, Create: 30, Mod: 90}
		}
	}
}

func said(nodes ...release.NodeID) change {
	return func(v *cluster.View) {
		for _, n := range nodes {
			v.Status[n] = cluster.Status{State: cluster.NodeDraining, Epoch: 7, Drained: 90}
		}
	}
}

// putOut takes nodes out of the count; back makes them show what is active.
func putOut(nodes ...release.NodeID) change {
	return func(v *cluster.View) {
		for _, n := range nodes {
			applicant(n)(v)
			v.Members[n] = cluster.Entry[cluster.Member]{Value: cluster.MemberOut, Create: 30, Mod: 91}
			v.Status[n] = cluster.Status{State: cluster.NodeOut, Epoch: 6}
			for i := 0; i < len(v.Claims); {
				if v.Claims[i].Node == n {
					v.Claims = append(v.Claims[:i], v.Claims[i+1:]...)
				} else {
					i++
				}
			}
		}
	}
}

func cordoned(nodes ...release.NodeID) change {
	return func(v *cluster.View) {
		for _, n := range nodes {
			v.Cordons[n] = entry(cluster.Cordon{By: "ops", Reason: "new disk"}, 95)
		}
	}
}

func catchesUp(id release.NodeID) change {
	return says(id, cluster.Status{State: cluster.NodeOut, Epoch: 7})
}

func TestDecide_stragglers(t *testing.T) {
	fails := func(id release.NodeID) change {
		return says(id, cluster.Status{Error: &cluster.ErrorInfo{Class: cluster.ClassHook, Text: "verify hook: a broken link"}})
	}
	under := rollout(rel(3), "req-3")
	two := all(under, holds(2, rel(3), "web-1", "web-2"))                                                                         // web-3 is late
	four := all(under, node("web-4", rel(1), rel(2), ""), holds(2, rel(3), "web-1"), dead("web-2"), dead("web-3"), dead("web-4")) // three are dead
	deadline := func(ago time.Duration) change {
		return func(v *cluster.View) { v.Rollout.Value.Deadline = now.Add(-ago) }
	}
	idle := func(v *cluster.View) { v.Desired = cluster.Entry[cluster.Desired]{} }
	override := asked(func(d *cluster.Desired) { d.Override = []cluster.Override{cluster.OverrideRequire} })
	wantsAll := asked(func(d *cluster.Desired) { d.Require = "all" })
	const fence = 11100 * time.Millisecond
	r3 := string(rel(3))
	outDead, drainLate := "out web-3: no live session, "+r3+" waits for it", "drain web-3: late for "+r3

	for name, c := range map[string]struct {
		given change
		seen  []sight
		want  string
	}{
		"dead, a moment ago":            {all(two, dead("web-3")), nil, "wait 11.1s"},
		"dead, its fence is over":       {all(two, dead("web-3")), []sight{since(fence, "web-3")}, outDead},
		"dead, not quite":               {all(two, dead("web-3")), []sight{since(fence-1, "web-3")}, "wait 1ns"},
		"dead, with a longer fence":     {all(two, dead("web-3"), func(v *cluster.View) { v.Last["web-3"] = entry(cluster.Last{FenceMS: 20_000}, 1) }), []sight{since(fence, "web-3")}, "wait 10.1s"},
		"dead, and another is at work":  {all(under, holds(2, rel(3), "web-1"), dead("web-3")), []sight{since(time.Hour, "web-3")}, "wait 9m0s"},
		"dead, but ready":               {all(under, holds(2, rel(3), "web-1", "web-2", "web-3"), dead("web-3")), nil, "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"dead, stragglers wait":         {all(two, dead("web-3"), late), []sight{since(time.Hour, "web-3")}, "end failed 3 E_NOT_READY: 2/3 ready (web-3: no live session)"},
		"dead, but all are wanted":      {all(two, dead("web-3"), wantsAll), []sight{since(time.Hour, "web-3"), held(time.Minute)}, "end failed 3 E_QUORUM: 2 of 3 registered nodes ready, 3 needed, 1 may be out (web-3: no live session)"},
		"put out":                       {all(two, dead("web-3"), putOut("web-3")), nil, "flip to 3 in 2 at 8 by 2/2 as publish with flip-of-req-3 after 2 in 1 without web-3"},
		"hold, dead, its fence is over": {all(two, dead("web-3"), asked(func(d *cluster.Desired) { d.Hold = true })), []sight{since(fence, "web-3")}, outDead},
		"another is out already":        {all(two, node("web-4"), putOut("web-4"), dead("web-3")), []sight{since(fence, "web-3")}, "wait 1m0s"},
		"another has yet to enter again": {all(two, node("web-4"), func(v *cluster.View) {
			v.Members["web-4"] = cluster.Entry[cluster.Member]{Value: cluster.MemberIn, Create: 30, Mod: 91}
		}, dead("web-3")), []sight{since(fence, "web-3")}, "wait 1m0s"},
		"an operator wants another out":   {all(two, node("web-4"), putOut("web-4"), cordoned("web-4"), dead("web-3")), []sight{since(fence, "web-3")}, outDead},
		"the request's own end":           {all(two, dead("web-3"), asked(func(d *cluster.Desired) { d.PrepareSeconds = 60 })), []sight{since(fence, "web-3")}, "end failed 3 E_NOT_READY: 2/3 ready (web-3: no live session)"},
		"the request's own end is sooner": {all(two, dead("web-3"), asked(func(d *cluster.Desired) { d.PrepareSeconds = 65 })), nil, "wait 5s"},

		"three of four dead":                {four, []sight{since(time.Hour, "web-2", "web-3", "web-4")}, "wait 1m0s"},
		"three of four dead for the grace":  {four, []sight{since(time.Hour, "web-2", "web-3", "web-4"), held(time.Minute)}, "end failed 3 E_QUORUM: 1 of 4 registered nodes ready, 2 needed, 1 may be out (web-2: no live session; web-3: no live session; web-4: no live session)"},
		"three of four dead, overridden":    {all(four, override), []sight{since(time.Hour, "web-2", "web-3", "web-4")}, "out web-2 web-3 web-4: no live session, " + r3 + " waits for it"},
		"three of four out, overridden":     {all(four, override, putOut("web-2", "web-3", "web-4"), dead("web-2"), dead("web-3"), dead("web-4")), nil, "flip to 3 in 2 at 8 by 1/1 as publish with flip-of-req-3 after 2 in 1 overriding require without web-2 web-3 web-4"},
		"three of four out":                 {all(four, putOut("web-2", "web-3", "web-4"), dead("web-2"), dead("web-3"), dead("web-4")), nil, "wait 1m0s"},
		"three of four out for the grace":   {all(four, putOut("web-2", "web-3", "web-4"), dead("web-2"), dead("web-3"), dead("web-4")), []sight{held(time.Minute)}, "end failed 3 E_QUORUM: 1 ready, 2 needed (web-2: no live session; web-3: no live session; web-4: no live session)"},
		"all four out":                      {all(under, putOut("web-1", "web-2", "web-3"), dead("web-1"), dead("web-2"), dead("web-3")), []sight{held(time.Minute)}, "end failed 3 E_QUORUM: 0 ready, 2 needed (web-1: no live session; web-2: no live session; web-3: no live session)"},
		"nobody is ready, all wait forever": {all(under, dead("web-1"), dead("web-2"), dead("web-3"), override), []sight{since(time.Hour, "web-1", "web-2", "web-3"), held(time.Hour)}, "end failed 3 E_QUORUM: 0 of 3 registered nodes ready, 1 needed, 3 may be out (web-1: no live session; web-2: no live session; web-3: no live session)"},

		"slow, at the deadline":         {all(two, deadline(0)), nil, "wait 1m0s"},
		"slow, after the grace":         {all(two, deadline(time.Minute)), nil, drainLate},
		"slow, but too many":            {all(under, holds(2, rel(3), "web-1"), deadline(time.Minute)), nil, "end failed 3 E_QUORUM: 1 of 3 registered nodes ready, 2 needed, 1 may be out (web-2: no status yet; web-3: no status yet)"},
		"slow, its program objects":     {all(two, deadline(0), fails("web-3")), nil, "end failed 3 E_NOT_READY: 2/3 ready (web-3: verify hook: a broken link)"},
		"slow, its program objects yet": {all(two, fails("web-3")), nil, "wait 9m0s"},
		"slow, it drains":               {all(two, deadline(time.Minute), drains("web-3")), nil, "wait 11.1s"},
		"slow, it drains, and joins":    {all(two, drains("web-3"), applicant("web-9")), nil, "admit web-9"},
		"slow, it has drained":          {all(two, deadline(time.Minute), drains("web-3"), said("web-3")), nil, "out web-3: drained"},
		"it drains, and says nothing":   {all(two, drains("web-3")), []sight{draining(fence, "web-3")}, "out web-3: drained"},
		"it drains, and is the last":    {all(under, holds(2, rel(3), "web-1"), drains("web-2", "web-3"), said("web-2", "web-3")), []sight{held(time.Hour)}, "end failed 3 E_QUORUM: 1 of 3 registered nodes ready, 2 needed, 1 may be out (web-2: draining; web-3: draining)"},

		"it comes and goes":                   {two, []sight{shaky("web-3"), held(0)}, "wait 48.9s"},
		"it comes and goes, too long":         {two, []sight{shaky("web-3"), held(48900 * time.Millisecond)}, drainLate},
		"it is gone just now, too long":       {all(two, dead("web-3")), []sight{shaky("web-3"), held(48900 * time.Millisecond)}, drainLate},
		"it comes and goes, others work":      {all(under, holds(2, rel(3), "web-1")), []sight{shaky("web-3")}, "wait 9m0s"},
		"it has come and gone, and is steady": {all(under, holds(2, rel(3), "web-1", "web-2", "web-3")), []sight{shaky("web-3")}, "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},

		"out, and behind":          {all(idle, putOut("web-3")), []sight{since(time.Hour, "web-3")}, "wait"},
		"out, and back":            {all(idle, putOut("web-3"), catchesUp("web-3")), []sight{since(fence, "web-3")}, "admit web-3"},
		"out, and back just now":   {all(idle, putOut("web-3"), catchesUp("web-3")), nil, "wait 11.1s"},
		"out, back, and cordoned":  {all(idle, putOut("web-3"), catchesUp("web-3"), cordoned("web-3")), []sight{since(time.Hour, "web-3")}, "wait"},
		"out, with a claim":        {all(idle, func(v *cluster.View) { v.Members["web-3"] = entry(cluster.MemberOut, 30) }), nil, "out web-3: it left a claim"},
		"cordoned":                 {all(idle, cordoned("web-3")), nil, "drain web-3: cordoned by ops: new disk"},
		"cordoned and dead":        {all(idle, cordoned("web-3"), dead("web-3")), nil, "wait 11.1s"},
		"cordoned and long dead":   {all(idle, cordoned("web-3"), dead("web-3")), []sight{since(fence, "web-3")}, "out web-3: cordoned by ops: new disk"},
		"cordoned, has drained":    {all(idle, cordoned("web-3"), drains("web-3"), said("web-3")), nil, "out web-3: cordoned by ops: new disk"},
		"cordoned, under way":      {all(under, holds(2, rel(3), "web-1", "web-2"), cordoned("web-3")), nil, "drain web-3: cordoned by ops: new disk"},
		"cordoned before it joins": {all(idle, applicant("web-9"), cordoned("web-9")), nil, "wait"},
		"an old acknowledgement":   {all(idle, drains("web-3"), says("web-3", cluster.Status{Drained: 30})), nil, "wait 11.1s"},

		"a new node, to be approved": {all(idle, applicant("web-9"), policy(func(p *cluster.Policy) { p.Admission = cluster.AdmitApproved })), nil, "wait"},
		"a new node, approved":       {all(idle, applicant("web-9"), policy(func(p *cluster.Policy) { p.Admission = cluster.AdmitApproved }), func(v *cluster.View) { v.Approved["web-9"] = true }), nil, "admit web-9"},
		"one that is back needs no approval": {all(idle, putOut("web-3"), catchesUp("web-3"), policy(func(p *cluster.Policy) { p.Admission = cluster.AdmitApproved })),
			[]sight{since(fence, "web-3")}, "admit web-3"},

		"all have to live":              {all(under, holds(2, rel(3), "web-1", "web-2", "web-3"), dead("web-3"), policy(func(p *cluster.Policy) { p.RequireLive = true })), nil, "wait 11.1s"},
		"all have to live, fence over":  {all(under, holds(2, rel(3), "web-1", "web-2", "web-3"), dead("web-3"), policy(func(p *cluster.Policy) { p.RequireLive = true })), []sight{since(fence, "web-3")}, outDead},
		"frozen for a time":             {all(idle, frozen(true), func(v *cluster.View) { v.Freeze.Value.Until = now.Add(time.Hour) }), nil, "wait 1h0m0s"},
		"frozen for a time that passed": {all(under, frozen(true), func(v *cluster.View) { v.Freeze.Value.Until = now }), nil, "thaw"},
	} {
		t.Run(name, func(t *testing.T) {
			v := siteView(c.given)
			seen := newAttendance()
			seen.note(v, now)
			for _, s := range c.seen {
				s(seen)
			}
			if got := text(decideSeeing(v, seen, now)); got != c.want {
				t.Errorf("decide:\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestDecide_tooManyToLive: what a flip could not prove is refused before a
// rollout begins.
func TestDecide_tooManyToLive(t *testing.T) {
	v := siteView(policy(func(p *cluster.Policy) { p.RequireLive = true }))
	for i := range cluster.MostLive {
		node(release.NodeID(strings.Repeat("n", i+1)), rel(1), rel(2), "")(v)
	}
	if got := text(decide(v, now)); got != "end refused 3 E_POLICY_CHANGED: policy: require_live is for at most 100 nodes, www has 103" {
		t.Error(got)
	}
}

// TestDecide_badRequire: it is refused with its own words.
func TestDecide_badRequire(t *testing.T) {
	v := siteView(asked(func(d *cluster.Desired) { d.Require = "120%" }))
	if got := text(decide(v, now)); got != `end refused 3 E_QUORUM: require is "120%", a percentage can be 1% to 100%` {
		t.Error(got)
	}
}

// TestAttendance: what counts is what this leader has seen, session by session.
func TestAttendance(t *testing.T) {
	a := newAttendance()
	v := siteView(rollout(rel(3), "req-3"), holds(2, rel(3), "web-1", "web-2"))
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	expect := func(what string, since int, shaky bool, held int) {
		t.Helper()
		n := a.nodes["web-3"]
		if n.since != at(since) || n.shaky != shaky || held < 0 != a.held.IsZero() || held >= 0 && a.held != at(held) {
			t.Errorf("%s: %+v, held since %v", what, n, a.held)
		}
	}
	a.note(v, at(0))
	expect("live", 0, false, -1)
	a.note(v, at(5))
	expect("still live", 0, false, -1)
	dead("web-3")(v)
	a.note(v, at(10))
	expect("gone", 10, true, 10)
	a.note(v, at(15))
	expect("still gone", 10, true, 10)
	v.Live["web-3"] = cluster.Live{Boot: "again"}
	a.note(v, at(20))
	expect("back", 20, true, 10)
	v.Last["web-3"] = entry(cluster.Last{}, 99)
	a.note(v, at(25))
	expect("gone and back unseen", 25, true, 10)
	holds(2, "", "web-2")(v)
	a.note(v, at(30))
	expect("another is late", 25, true, -1)
	rollout(rel(4), "req-4")(v)
	a.note(v, at(35))
	expect("another rollout", 25, false, -1)
	delete(v.Joins, "web-3")
	delete(v.Members, "web-3")
	v.Claims = nil
	a.note(v, at(40))
	if a.nodes["web-3"] != nil {
		t.Error("what is not there any more is remembered")
	}
}
