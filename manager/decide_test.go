package manager

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

func TestDecide(t *testing.T) {
	abort := asked(func(d *cluster.Desired) {
		d.Request, d.Mode, d.Release, d.Replaces = "req-abort", cluster.Abort, "", []cluster.RequestID{"req-3"}
	})
	back := asked(func(d *cluster.Desired) { d.Mode, d.Release = cluster.Rollback, rel(1) })
	flipTo := func(n int) change {
		return asked(func(d *cluster.Desired) { d.Mode, d.Release = cluster.FlipTo, rel(n) })
	}
	hold := asked(func(d *cluster.Desired) { d.Hold = true })
	under := rollout(rel(3), "req-3")
	ready := all(under, holds(2, rel(3), "web-1", "web-2", "web-3"))
	prepare := func(s int) change { return asked(func(d *cluster.Desired) { d.PrepareSeconds = s }) }
	minimum := func(s string) change { return policy(func(p *cluster.Policy) { p.Min = s }) }

	for name, c := range map[string]struct {
		given change
		want  string
	}{
		"nothing was ever asked for":  {func(v *cluster.View) { v.Desired = cluster.Entry[cluster.Desired]{} }, "wait"},
		"the request has its result":  {all(ready, func(v *cluster.View) { v.Results["req-3"] = cluster.Result{State: cluster.StateFailed} }), "wait"},
		"only an older one has":       {all(func(v *cluster.View) { v.Results["req-2"] = cluster.Result{} }), "start 3 in 2 for req-3 within 10m0s"},
		"no rollout yet":              {all(), "start 3 in 2 for req-3 within 10m0s"},
		"the request allows less":     {prepare(30), "start 3 in 2 for req-3 within 30s"},
		"the request allows more":     {prepare(3600), "start 3 in 2 for req-3 within 10m0s"},
		"another request's rollout":   {rollout(rel(4), "req-2"), "start 3 in 2 for req-3 within 10m0s"},
		"that of the same release":    {rollout(rel(3), "req-2"), "start 3 in 2 for req-3 within 10m0s"},
		"that of another release":     {rollout(rel(4), "req-3"), "start 3 in 2 for req-3 within 10m0s"},
		"active in 0, previous in 2":  {func(v *cluster.View) { v.Active.Value.Buffer, v.Active.Value.Previous.Buffer = 0, 2 }, "start 3 in 1 for req-3 within 10m0s"},
		"active, nothing before it":   {func(v *cluster.View) { v.Active.Value.Previous = nil }, "start 3 in 0 for req-3 within 10m0s"},
		"the first publish ever":      {firstEver, "start 3 in 0 for req-3 within 10m0s"},
		"the first publish is ready":  {all(firstEver, holds(0, rel(3), "web-1", "web-2", "web-3")), "flip to 3 in 0 at 1 by 3/3 as publish"},
		"nobody has claimed":          {under, "wait 9m0s"},
		"two of three have":           {all(under, holds(2, rel(3), "web-1", "web-2")), "wait 9m0s"},
		"all three have":              {ready, "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"all three have, at last":     {all(ready, late), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"all three have, one is dead": {all(ready, dead("web-2")), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"a member has not entered":    {all(ready, node("web-4")), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"ready without a rollout":     {holds(2, rel(3), "web-1", "web-2", "web-3"), "flip to 3 in 2 at 8 by 3/3 as publish after 2 in 1"},
		"ready by another rollout":    {all(ready, rollout(rel(3), "req-2")), "flip to 3 in 2 at 8 by 3/3 as publish after 2 in 1"},

		"hold: not ready":      {all(hold, under), "wait 9m0s"},
		"hold: ready":          {all(hold, ready), "end ready 3"},
		"flip to what is held": {all(flipTo(3), holds(2, rel(3), "web-1", "web-2", "web-3")), "flip to 3 in 2 at 8 by 3/3 as flip after 2 in 1"},
		"flip to what is not":  {flipTo(4), "start 4 in 2 for req-3 within 10m0s"},
		"flip to the active":   {flipTo(2), "end active 2 at 7"},
		"hold of the active":   {all(flipTo(2), hold), "end active 2 at 7"},

		"rollback":                         {back, "flip to 1 in 0 at 8 by 3/3 as rollback after 2 in 1"},
		"rollback during a rollout":        {all(rollout(rel(3), "req-2"), back), "flip to 1 in 0 at 8 by 3/3 as rollback after 2 in 1"},
		"rollback, one node lost its disk": {all(back, holds(0, "", "web-2")), "start 1 in 2 for req-3 within 10m0s"},

		"abort":                        {all(under, abort), "end aborted 3"},
		"abort of what was not begun":  {abort, "end aborted"},
		"abort when all are ready":     {all(ready, abort), "end aborted 3"},
		"abort while frozen":           {all(under, abort, frozen(false)), "end aborted 3"},
		"abort at the deadline":        {all(under, abort, late), "end aborted 3"},
		"frozen":                       {all(ready, frozen(false)), "end refused 3 E_FROZEN: www is frozen by ops@example: sale"},
		"frozen but for rollbacks":     {all(ready, frozen(true)), "end refused 3 E_FROZEN: www is frozen by ops@example: sale"},
		"rollback while frozen":        {all(back, frozen(false)), "end refused 1 E_FROZEN: www is frozen by ops@example: sale"},
		"rollback that is allowed":     {all(back, frozen(true)), "flip to 1 in 0 at 8 by 3/3 as rollback after 2 in 1"},
		"yanked":                       {all(ready, verdict(rel(3), "yanked leaks a key")), "end refused 3 E_YANKED: release " + string(rel(3)) + " is yanked: leaks a key"},
		"another release is bad":       {all(ready, verdict(rel(4), "bad 404s")), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"release gone":                 {all(ready, func(v *cluster.View) { delete(v.Releases, rel(3)) }), "end refused 3 E_RELEASE_GONE: www has no release " + string(rel(3))},
		"the policy makes no sense":    {policy(func(p *cluster.Policy) { p.Buffers = 2 }), "end refused 3 E_POLICY_CHANGED: policy: buffers is 2, it can be 3 to 8"},
		"the minimum makes no sense":   {all(ready, minimum("most")), `end refused 3 E_POLICY_CHANGED: policy: min is "most", it can be a number from 1 or a percentage`},
		"deadline exactly now":         {all(under, late), "end failed 3 E_NOT_READY: 0/3 ready (web-1: no status yet; web-2: no status yet; web-3: no status yet)"},
		"deadline a nanosecond off":    {all(under, func(v *cluster.View) { v.Rollout.Value.Deadline = now.Add(1) }), "wait 1ns"},
		"another request's is late":    {all(rollout(rel(4), "req-2"), late), "start 3 in 2 for req-3 within 10m0s"},
		"min 4, three ready":           {all(ready, minimum("4")), "wait 9m0s"},
		"min 4, three ready, too late": {all(ready, minimum("4"), late), "end failed 3 E_QUORUM: 3 ready, 4 needed, and no other node has joined"},
		"min 4, the fourth is outside": {all(ready, minimum("4"), late, node("web-4"), says("web-4", cluster.Status{State: cluster.NodeSyncing})),
			"end failed 3 E_QUORUM: 3 ready, 4 needed (web-4: syncing, has not begun)"},
		"min 50%, all must be in step": {all(under, minimum("50%"), holds(2, rel(3), "web-1", "web-2")), "wait 9m0s"},
		"min 3":                        {all(ready, minimum("3")), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"no node at all":               {noNodes, "start 3 in 2 for req-3 within 10m0s"},
		"no node at all, waiting":      {all(noNodes, under), "wait 9m0s"},
		"no node at all, too late":     {all(noNodes, under, late), "end failed 3 E_QUORUM: 0 ready, 1 needed, and no other node has joined"},

		"a node joins":                      {all(under, applicant("web-9"), applicant("web-8")), "admit web-8 web-9"},
		"a node joins, nothing asked":       {all(applicant("web-9"), func(v *cluster.View) { v.Desired = cluster.Entry[cluster.Desired]{} }), "admit web-9"},
		"a node joins before the rollout":   {applicant("web-9"), "admit web-9"},
		"a node joins, all others ready":    {all(ready, applicant("web-9")), "flip to 3 in 2 at 8 by 3/3 as publish with flip-of-req-3 after 2 in 1"},
		"a node joins at the deadline":      {all(under, applicant("web-9"), late), "end failed 3 E_NOT_READY: 0/3 ready (web-1: no status yet; web-2: no status yet; web-3: no status yet)"},
		"a node asked to join and died":     {all(under, applicant("web-9"), dead("web-9")), "wait 9m0s"},
		"a node that was put out":           {all(under, applicant("web-9"), func(v *cluster.View) { v.Members["web-9"] = entry(cluster.MemberOut, 5) }), "wait 9m0s"},
		"a member of which nothing is told": {all(under, func(v *cluster.View) { v.Members["web-9"] = entry(cluster.MemberIn, 5) }), "wait 9m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(decide(siteView(c.given), now)); got != c.want {
				t.Errorf("decide:\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestDecide_laggards: a failed rollout says of each late node why it is late.
func TestDecide_laggards(t *testing.T) {
	v := siteView(rollout(rel(3), "req-3"), late,
		holds(2, rel(3), "web-1"),
		node("web-4", rel(1), rel(2), ""), node("web-5", rel(1), rel(2), ""), node("web-6", rel(1), rel(2), ""),
		says("web-2", cluster.Status{State: cluster.NodePreparing, Error: &cluster.ErrorInfo{Class: "E_NO_SPACE", Text: "disk full,\nneeds 1.2 GiB, has 0.3"}}),
		says("web-3", cluster.Status{State: cluster.NodePreparing, Preparing: &cluster.Progress{Release: rel(3), Done: 3 << 19, Total: 10 << 20}}),
		says("web-4", cluster.Status{State: cluster.NodePreparing, Preparing: &cluster.Progress{Release: rel(2)}}),
		says("web-5", cluster.Status{State: cluster.NodeServing}), dead("web-5"),
		says("web-6", cluster.Status{State: cluster.NodeServing}),
	)
	got := decide(v, now).(end).result.Error
	want := "1/6 ready (web-2: disk full, needs 1.2 GiB, has 0.3; web-3: fetched 1.5 of 10.0 MiB; web-4: still fetching " + string(rel(2)) +
		"; web-5: no live session; web-6: serving, has not begun)"
	if got.Class != cluster.ClassNotReady || got.Text != want {
		t.Errorf("error:\n got %s: %s\nwant %s: %s", got.Class, got.Text, cluster.ClassNotReady, want)
	}
	if nodes := []release.NodeID{"web-2", "web-3", "web-4", "web-5", "web-6"}; !slices.Equal(got.Nodes, nodes) {
		t.Errorf("nodes: got %v, want %v", got.Nodes, nodes)
	}
}

// TestDecide_oneLaggard: one that is late alone may say all that it has to.
func TestDecide_oneLaggard(t *testing.T) {
	said := "verify hook: exit code 3: " + strings.Repeat("page ", 50) + "is broken"
	v := siteView(rollout(rel(3), "req-3"), late, holds(2, rel(3), "web-1", "web-2"),
		says("web-3", cluster.Status{State: cluster.NodePreparing, Error: &cluster.ErrorInfo{Class: "E_HOOK", Text: said}}))
	if got := decide(v, now).(end).result.Error.Text; got != "2/3 ready (web-3: "+said+")" {
		t.Errorf("error: %s", got)
	}
	says("web-3", cluster.Status{State: cluster.NodePreparing, Preparing: &cluster.Progress{Release: rel(3), Done: 9, Total: 9, Hook: "verify"}})(v)
	if got := decide(v, now).(end).result.Error.Text; got != "2/3 ready (web-3: verify hook is running)" {
		t.Errorf("error: %s", got)
	}
}

// TestDecide_manyLaggards: a result names 20 nodes and stays below 4 KiB.
func TestDecide_manyLaggards(t *testing.T) {
	v := siteView(rollout(rel(3), "req-3"), late)
	for i := range 60 {
		id := release.NodeID(fmt.Sprintf("node-%02d-%s", i, strings.Repeat("x", 55)))
		node(id, rel(1), rel(2), "")(v)
		says(id, cluster.Status{Error: &cluster.ErrorInfo{Text: strings.Repeat("broken ", 99)}})(v)
	}
	e := decide(v, now).(end).result.Error
	if len(e.Nodes) != maxNamed || !strings.HasSuffix(e.Text, "; and 43 more)") || len(e.Text) > 4<<10 {
		t.Errorf("error names %d nodes in %d bytes: …%s", len(e.Nodes), len(e.Text), e.Text[len(e.Text)-40:])
	}
}

// TestDecide_admitsInParts: a flip never waits behind thousands of admissions.
func TestDecide_admitsInParts(t *testing.T) {
	v := siteView(rollout(rel(3), "req-3"))
	for i := range 100 {
		applicant(release.NodeID(fmt.Sprintf("n%03d", i)))(v)
	}
	if a := decide(v, now).(admit); len(a.nodes) != admitAtOnce || a.nodes[0] != "n000" {
		t.Errorf("admit %d nodes, the first is %s", len(a.nodes), a.nodes[0])
	}
}

// TestDecide_flip: what the active key gets besides what the table shows.
func TestDecide_flip(t *testing.T) {
	v := siteView(rollout(rel(3), "req-3"), holds(2, rel(3), "web-1", "web-2", "web-3"))
	got := decide(v, now).(flip).active
	if got.Manifest != v.Releases[rel(3)].Value.Manifest || got.By != "ci@example" || got.Message != "PR 412" || got.Request != "req-3" || !got.At.Equal(now) {
		t.Errorf("active: %+v", got)
	}
}

// TestDecide_start: what the rollout gets besides what the table shows.
func TestDecide_start(t *testing.T) {
	got := decide(siteView(), now).(start).rollout
	if !got.Started.Equal(now) || !got.Deadline.Equal(now.Add(10*time.Minute)) || got.Flip != "" {
		t.Errorf("rollout: %+v", got)
	}
}
