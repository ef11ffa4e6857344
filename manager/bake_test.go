package manager

import (
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// baking makes what is active bake for another while, with probes of which so many
// nodes may say that they are bad.
func baking(left time.Duration, mostBad string) change {
	return func(v *cluster.View) {
		a := &v.Active.Value
		a.Bake = &cluster.Bake{Seconds: 60, MostBadNodes: mostBad}
		a.At, a.By, a.Request = now.Add(left-time.Minute), "ci@example", "req-2"
		v.Results["req-2"] = cluster.Result{State: cluster.StateActive}
		v.Results["req-3"] = cluster.Result{State: cluster.StateFailed} // nothing else is asked for
	}
}

// tastes makes a node say what it makes of an epoch.
func tastes(n release.NodeID, epoch release.Epoch, bad string) change {
	return says(n, cluster.Status{Epoch: epoch, Bake: &cluster.BakeReport{Epoch: epoch, Good: bad == "", Bad: bad}})
}

// hushed takes back what a node says, as the end of its session does.
func hushed(n release.NodeID) change { return func(v *cluster.View) { delete(v.Status, n) } }

// TestDecide_bake: what bakes goes back when more nodes than may say that it is bad,
// and stays when its time is over, whoever leads then.
func TestDecide_bake(t *testing.T) {
	bad := func(nodes ...release.NodeID) change {
		return func(v *cluster.View) {
			for _, n := range nodes {
				tastes(n, 7, "GET /healthz.txt: 500, want 200")(v)
			}
		}
	}
	const (
		half    = time.Second * 30
		reverts = "revert to 1 in 0 at 8 by 3/3: rejected by 1 of 3 nodes (web-2: GET /healthz.txt: 500, want 200)"
	)
	well := all(tastes("web-1", 7, ""), tastes("web-2", 7, ""), tastes("web-3", 7, ""))
	for name, c := range map[string]struct {
		given change
		want  string
	}{
		"nobody has said anything":       {baking(half, "0"), "wait 30s"},
		"all are well":                   {all(baking(half, "0"), well), "wait 30s"},
		"its time is over":               {all(baking(0, "0"), well), "end bake of 2 at 7"},
		"one has said nothing yet":       {all(baking(0, "0"), tastes("web-1", 7, ""), tastes("web-2", 7, "")), "wait 1m0s"},
		"one is waited for for too long": {all(baking(-time.Minute, "0"), tastes("web-1", 7, ""), tastes("web-2", 7, "")), "end bake of 2 at 7"},
		"one is dead and says nothing":   {all(baking(0, "0"), well, dead("web-3"), hushed("web-3")), "end bake of 2 at 7"},
		"its time has been over long":    {baking(-time.Hour, "0"), "end bake of 2 at 7"},
		"one is bad":                     {all(baking(half, "0"), bad("web-2")), reverts},
		"one is bad at the last moment":  {all(baking(0, "0"), bad("web-2")), reverts},
		"a leader sees it later":         {all(baking(-time.Hour, "0"), bad("web-2")), reverts},
		"one may be bad":                 {all(baking(half, "1"), bad("web-2")), "wait 30s"},
		"one may be bad, and it is over": {all(baking(0, "1"), well, bad("web-2")), "end bake of 2 at 7"},
		"one may be bad, and two are":    {all(baking(half, "1"), bad("web-2", "web-3")), "revert to 1 in 0 at 8 by 3/3: rejected by 2 of 3 nodes (web-2: GET /healthz.txt: 500, want 200; web-3: GET /healthz.txt: 500, want 200)"},
		"a third may be bad":             {all(baking(half, "34%"), bad("web-2")), "wait 30s"},
		"less than a third may be":       {all(baking(half, "33%"), bad("web-2")), reverts},
		"the release before was bad":     {all(baking(half, "0"), tastes("web-2", 6, "bad")), "wait 30s"},
		"the bad one is dead":            {all(baking(half, "0"), bad("web-2"), dead("web-2")), "wait 30s"},
		"one that does not count is bad": {all(baking(half, "0"), applicant("web-9"), bad("web-9"), func(v *cluster.View) { v.Members["web-9"] = entry(cluster.MemberOut, 31) }), "wait 11.1s"},
		"it has been kept":               {all(baking(half, "0"), bad("web-2"), func(v *cluster.View) { v.Confirmed = entry(uint64(7), 9) }), "wait"},
		"it has baked":                   {all(baking(0, "0"), bad("web-2"), func(v *cluster.View) { v.Baked = entry(uint64(7), 9) }), "wait"},
		"the one before has baked":       {all(baking(half, "0"), bad("web-2"), func(v *cluster.View) { v.Baked = entry(uint64(6), 9) }), reverts},
		"there was none before":          {all(baking(0, "0"), bad("web-2"), func(v *cluster.View) { v.Active.Value.Previous = nil }), "wait"},
		"frozen":                         {all(baking(half, "0"), bad("web-2"), frozen(false)), "wait 30s"},
		"frozen, and over":               {all(baking(0, "0"), bad("web-2"), frozen(false)), "wait 1m0s"},
		"frozen and well":                {all(baking(0, "0"), well, frozen(false)), "end bake of 2 at 7"},
		"frozen but for rollback":        {all(baking(half, "0"), bad("web-2"), frozen(true)), reverts},
		"the one before is bad":          {all(baking(0, "0"), bad("web-2"), verdict(rel(1), "bad x")), "wait 1m0s"},
		"somebody lost the one before":   {all(baking(half, "0"), bad("web-2"), node("web-9", "", rel(2), "")), "wait 30s"},
		"something else is asked for":    {all(baking(half, "0"), bad("web-2"), func(v *cluster.View) { delete(v.Results, "req-3") }), reverts},
		"on trial, too, and well":        {all(baking(half, "0"), func(v *cluster.View) { v.Active.Value.ConfirmBy = now.Add(time.Minute) }), "wait 30s"},
		"on trial, too, and bad":         {all(baking(half, "0"), bad("web-2"), func(v *cluster.View) { v.Active.Value.ConfirmBy = now.Add(time.Minute) }), reverts},
		"on trial, too, and not kept": {all(baking(half, "0"), func(v *cluster.View) { v.Active.Value.ConfirmBy = now }),
			"revert to 1 in 0 at 8 by 3/3: not confirmed within 30s"},
		"baked, and on trial": {all(baking(0, "0"), func(v *cluster.View) {
			v.Active.Value.ConfirmBy, v.Baked = now.Add(time.Minute), entry(uint64(7), 9)
		}), "wait 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(decide(siteView(c.given), now)); got != c.want {
				t.Errorf("decide:\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestDecide_bakes: the policy that stands at a flip says how its release bakes; the
// first release of a site, and a way back, do not.
func TestDecide_bakes(t *testing.T) {
	on := policy(func(p *cluster.Policy) {
		p.Bake.Seconds, p.Bake.Probes = 60, []cluster.Probe{{Path: "/healthz.txt"}}
	})
	ready := holds(2, rel(3), "web-1", "web-2", "web-3")
	as := func(k cluster.Kind) change { return asked(func(d *cluster.Desired) { d.Mode = k }) }
	for name, c := range map[string]struct {
		given change
		bakes bool
	}{
		"a publish":       {all(on, ready), true},
		"a flip":          {all(on, ready, as(cluster.FlipTo)), true},
		"a rollback":      {all(on, ready, as(cluster.Rollback)), false},
		"the first one":   {all(on, firstEver, ready), false},
		"it is off":       {ready, false},
		"a revert of one": {all(baking(time.Second, "0"), tastes("web-1", 7, "bad"), on), false},
	} {
		t.Run(name, func(t *testing.T) {
			var a cluster.Active
			switch act := decide(siteView(c.given), now).(type) {
			case flip:
				a = act.active
			case revert:
				a = act.active
			default:
				t.Fatalf("it is decided to %s", text(act))
			}
			if (a.Bake != nil) != c.bakes || c.bakes && (a.Bake.Seconds != 60 || len(a.Bake.Probes) != 1) {
				t.Errorf("bake %+v", a.Bake)
			}
		})
	}
}

// TestDecide_canaryInBake: what may go back by itself is no ground for a canary.
func TestDecide_canaryInBake(t *testing.T) {
	v := siteView(baking(30*time.Second, "0"), asked(func(d *cluster.Desired) {
		d.Mode, d.Canary = cluster.TryOut, cluster.Audience{Share: 500}
	}), func(v *cluster.View) { delete(v.Results, "req-3") })
	if got, want := text(decide(v, now)), "end refused 3 E_ACTIVE_MOVED: "+string(rel(2))+" bakes until 2026-11-22T20:00:30Z: "; !strings.HasPrefix(got, want) {
		t.Errorf("decide:\n got %s\nwant %s…", got, want)
	}
}
