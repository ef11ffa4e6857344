package manager

import (
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestDecide_trial: what is active on trial goes back when its time is over, and
// only then, and only to what every member holds.
func TestDecide_trial(t *testing.T) {
	trial := func(left time.Duration) change {
		return func(v *cluster.View) {
			v.Active.Value.At = now.Add(left - 5*time.Second)
			v.Active.Value.ConfirmBy = now.Add(left)
			v.Active.Value.Request = "req-2"
			v.Results["req-2"] = cluster.Result{State: cluster.StateActive}
			v.Results["req-3"] = cluster.Result{State: cluster.StateFailed} // nothing else is asked for
		}
	}
	const reverts = "revert to 1 in 0 at 8 by 3/3: not confirmed within 5s"
	for name, c := range map[string]struct {
		given change
		want  string
	}{
		"there is time":           {trial(3 * time.Second), "wait 3s"},
		"it is over":              {trial(0), reverts},
		"it has been over long":   {trial(-time.Hour), reverts},
		"confirmed":               {all(trial(0), func(v *cluster.View) { v.Confirmed = entry(uint64(7), 9) }), "wait"},
		"an older one was":        {all(trial(0), func(v *cluster.View) { v.Confirmed = entry(uint64(6), 9) }), reverts},
		"there was none before":   {all(trial(0), func(v *cluster.View) { v.Active.Value.Previous = nil }), "wait"},
		"the one before is bad":   {all(trial(0), verdict(rel(1), "bad x")), "wait"},
		"frozen":                  {all(trial(0), frozen(false)), "wait"},
		"frozen but for rollback": {all(trial(0), frozen(true)), reverts},
		"somebody lost it":        {all(trial(0), node("web-3", "", rel(2), "")), "wait"},
		"something was asked for": {all(trial(0), func(v *cluster.View) { delete(v.Results, "req-3") }), reverts},
		"its rollout is complete in another buffer": {all(trial(0), func(v *cluster.View) {
			v.Rollout = entry(cluster.Rollout{Release: rel(1), Buffer: 0, Request: "req-1", Flip: "01FLIP"}, 70)
			v.Active.Value.Previous.Buffer, v.Active.Value.Buffer = 1, 2
			v.Claims = nil
			for _, n := range []release.NodeID{"web-1", "web-2", "web-3"} {
				v.Claims = append(v.Claims, claims(n, rel(1), rel(1), rel(2))...)
			}
		}), "revert to 1 in 1 at 8 by 3/3: not confirmed within 5s"},
		"a node joins": {all(trial(0), applicant("web-9")), reverts},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(decide(siteView(c.given), now)); got != c.want {
				t.Errorf("decide:\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestDecide_wayBack: a member that is dead and does not hold the release before is put
// out when that is to come back, as for a rollout.
func TestDecide_wayBack(t *testing.T) {
	over := func(v *cluster.View) {
		v.Active.Value.At, v.Active.Value.ConfirmBy = now.Add(-time.Minute), now.Add(-time.Second)
		v.Desired = cluster.Entry[cluster.Desired]{}
	}
	lacks := all(over, node("web-3", "", rel(2), ""), dead("web-3"))
	const fence = 11100 * time.Millisecond
	outDead := "out web-3: no live session, the way back to " + string(rel(1)) + " waits for it"
	for name, c := range map[string]struct {
		given change
		seen  []sight
		want  string
	}{
		"dead just now":       {lacks, nil, "wait 11.1s"},
		"long dead":           {lacks, []sight{since(fence, "web-3")}, outDead},
		"it lives":            {all(over, node("web-3", "", rel(2), "")), []sight{since(time.Hour, "web-3")}, "wait"},
		"too many":            {all(lacks, node("web-2", "", rel(2), ""), dead("web-2")), []sight{since(time.Hour, "web-2", "web-3")}, "wait"},
		"nobody is to be out": {all(lacks, policy(func(p *cluster.Policy) { p.Stragglers = cluster.StragglersWait })), []sight{since(time.Hour, "web-3")}, "wait"},
		"it is out":           {all(over, putOut("web-3")), nil, "revert to 1 in 0 at 8 by 2/2: not confirmed within 59s"},
		"it is not time":      {all(lacks, func(v *cluster.View) { v.Active.Value.ConfirmBy = now.Add(time.Hour) }), []sight{since(time.Hour, "web-3")}, "wait 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			v := siteView(c.given)
			seen := newAttendance()
			seen.note(v, now)
			for _, s := range c.seen {
				s(seen)
			}
			if got := text(decideSeeing(v, seen, now)); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}
