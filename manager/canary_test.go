package manager

import (
	"fmt"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestDecide_canary: what becomes of requests about a canary, and of others beside
// one.
func TestDecide_canary(t *testing.T) {
	to := func(mode cluster.Kind, n int) change {
		return asked(func(d *cluster.Desired) {
			d.Mode, d.Release = mode, rel(n)
			if mode == cluster.TryOut {
				d.Canary = cluster.Audience{Share: 500}
			}
		})
	}
	group := func(g release.Group) change {
		return asked(func(d *cluster.Desired) { d.Canary = cluster.Audience{Group: g} })
	}
	ready := holds(2, rel(3), "web-1", "web-2", "web-3")
	beside := all(ready, func(v *cluster.View) {
		v.Active.Value.Canary = &cluster.Canary{Release: rel(3), Buffer: 2, Audience: cluster.Audience{Share: 500}, Since: 6}
	})
	share := func(s cluster.Share) change {
		return asked(func(d *cluster.Desired) { d.Canary.Share = s })
	}
	four := policy(func(p *cluster.Policy) { p.Buffers = 4 })
	hold := asked(func(d *cluster.Desired) { d.Hold = true })
	const flips = "flip to 2 in 1 at 8 by "
	for name, c := range map[string]struct {
		given  change
		want   string
		canary string // of the flip
	}{
		"it has to be prepared":        {to(cluster.TryOut, 3), "start 3 in 2 for req-3 within 10m0s", ""},
		"all hold it":                  {all(to(cluster.TryOut, 3), ready), flips + "3/3 as canary after 1 in 0", "000003 in 2 for 5% of the visitors since 8"},
		"by the nodes of a group":      {all(to(cluster.TryOut, 3), ready, group("main")), flips + "3/3 as canary after 1 in 0", "000003 in 2 for the nodes of group main since 8"},
		"of a group that nobody is in": {all(to(cluster.TryOut, 3), ready, group("eu")), "end refused 3 E_QUORUM: www has no node of group eu", ""},
		"for nobody":                   {all(to(cluster.TryOut, 3), ready, share(0)), "end refused 3 E_CONFLICT: a canary is for a share of the visitors or for a group of nodes", ""},
		"nothing is active":            {all(firstEver, to(cluster.TryOut, 3)), "end refused 3 E_ACTIVE_MOVED: www has nothing active yet that a canary could be shown beside", ""},
		"what is active":               {to(cluster.TryOut, 2), "end active 2 at 7", ""},
		"it is one already":            {all(beside, to(cluster.TryOut, 3)), "end canary 3 at 7", ""},
		"for more visitors":            {all(beside, to(cluster.TryOut, 3), share(2500)), flips + "3/3 as canary after 1 in 0", "000003 in 2 for 25% of the visitors since 6"},
		"the one before":               {to(cluster.TryOut, 1), flips + "3/3 as canary after 1 in 0", "000001 in 0 for 5% of the visitors since 8"},
		"a bad one":                    {all(to(cluster.TryOut, 3), ready, verdict(rel(3), "bad x")), "end refused 3 E_YANKED: release " + string(rel(3)) + " is bad: x", ""},

		"promoted":                       {all(beside, to(cluster.Promote, 3)), "flip to 3 in 2 at 8 by 3/3 as promote after 2 in 1", ""},
		"promoted, somebody has lost it": {all(beside, to(cluster.Promote, 3), holds(2, "", "web-2")), "end failed 3 E_NOT_READY: not every node holds the canary " + string(rel(3)) + " any more: web-2", ""},
		"promoted, there is none":        {all(ready, to(cluster.Promote, 3)), "end refused 3 E_ACTIVE_MOVED: " + string(rel(3)) + " is not a canary of www", ""},
		"promoted, it is another one":    {all(beside, to(cluster.Promote, 4)), "end refused 4 E_ACTIVE_MOVED: " + string(rel(4)) + " is not a canary of www", ""},
		"promoted before":                {to(cluster.Promote, 2), "end active 2 at 7", ""},

		"ended":                           {all(beside, to(cluster.EndCanary, 3)), flips + "0/0 as end-canary after 1 in 0", ""},
		"ended, somebody has lost it":     {all(beside, to(cluster.EndCanary, 3), holds(2, "", "web-2")), flips + "0/0 as end-canary after 1 in 0", ""},
		"ended, it is judged bad":         {all(beside, to(cluster.EndCanary, 3), verdict(rel(3), "bad x")), flips + "0/0 as end-canary after 1 in 0", ""},
		"ended, there is none":            {to(cluster.EndCanary, 3), "end refused 3 E_ACTIVE_MOVED: " + string(rel(3)) + " is not a canary of www", ""},
		"ended, frozen but for rollbacks": {all(beside, to(cluster.EndCanary, 3), frozen(true)), flips + "0/0 as end-canary after 1 in 0", ""},
		"ended, frozen":                   {all(beside, to(cluster.EndCanary, 3), frozen(false)), "end refused 3 E_FROZEN: www is frozen by ops@example: sale", ""},

		"a publish beside it":      {all(beside, to(cluster.Publish, 4), four), "end refused 4 E_CONFLICT: www has a canary, " + string(rel(3)) + ": promote it or end it first", ""},
		"another canary beside it": {all(beside, to(cluster.TryOut, 4), four), "end refused 4 E_CONFLICT: www has a canary, " + string(rel(3)) + ": promote it or end it first", ""},
		"what is only prepared": {all(beside, to(cluster.Publish, 4), hold), "end refused 4 E_CONFLICT: the canary " + string(rel(3)) +
			" has the buffer that " + string(rel(4)) + " would be prepared in: promote it or end it first, or have a policy of 4 buffers", ""},
		"what is only prepared, where there is room": {all(beside, to(cluster.Publish, 4), hold, four), "start 4 in 3 for req-3 within 10m0s", ""},
		"a rollback beside it":                       {all(beside, to(cluster.Rollback, 1)), "flip to 1 in 0 at 8 by 3/3 as rollback after 2 in 1", ""},
		"a flip to it":                               {all(beside, to(cluster.FlipTo, 3)), "flip to 3 in 2 at 8 by 3/3 as flip after 2 in 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := decide(siteView(c.given), now)
			got := text(a)
			if got != c.want {
				t.Errorf("decide:\n got %s\nwant %s", got, c.want)
			}
			canary := ""
			if f, ok := a.(flip); ok && f.active.Canary != nil {
				k := f.active.Canary
				canary = fmt.Sprintf("%06d in %d for %s since %d", k.Release.Seq(), k.Buffer, k.Audience, k.Since)
				if k.Manifest != digest(int(k.Release.Seq())) {
					t.Errorf("manifest %s", k.Manifest)
				}
			}
			if canary != c.canary {
				t.Errorf("canary %q, want %q", canary, c.canary)
			}
		})
	}
}

// TestDecide_canaryOnTrial: what may go back by itself is no ground for a canary.
func TestDecide_canaryOnTrial(t *testing.T) {
	v := siteView(holds(2, rel(3), "web-1", "web-2", "web-3"), asked(func(d *cluster.Desired) {
		d.Mode, d.Canary = cluster.TryOut, cluster.Audience{Share: 1}
	}))
	v.Active.Value.ConfirmBy = now.Add(time.Hour)
	if got, want := text(decide(v, now)), "end refused 3 E_ACTIVE_MOVED: "+string(rel(2))+" is on trial: it has to be confirmed before a canary is shown beside it"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
