package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// wantFindings: each of want begins a line and, after "…", stands in it; no
// other line is warn or bad.
func wantFindings(t *testing.T, all []finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range all {
		lines = append(lines, f.line())
		if f.Level != levelOK && f.Do == "" {
			t.Errorf("it says nothing of what to do: %s", f.line())
		}
	}
	unnamed := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, "ok") })
	for _, w := range want {
		begin, within, _ := strings.Cut(w, "…")
		is := func(l string) bool { return strings.HasPrefix(l, begin) && strings.Contains(l, within) }
		if !slices.ContainsFunc(lines, is) {
			t.Errorf("nothing says %q:\n%s", w, strings.Join(lines, "\n"))
		}
		unnamed = slices.DeleteFunc(unnamed, is)
	}
	if len(unnamed) > 0 {
		t.Errorf("not expected:\n%s", strings.Join(unnamed, "\n"))
	}
}

// three is an etcd of three members that is well.
func threeMembers(change ...func(m []cluster.EtcdMember)) cluster.EtcdHealth {
	var all []cluster.EtcdMember
	for i := range 3 {
		all = append(all, cluster.EtcdMember{
			Name: fmt.Sprint("e", i), Endpoint: fmt.Sprint("http://e", i), Version: "3.7.3", Leads: i == 0, Revision: 5000 + int64(i), Hash: 7, Size: 1 << 20, Quota: 2 << 30,
		})
	}
	for _, c := range change {
		c(all)
	}
	return cluster.EtcdHealth{Members: all}
}

func TestDiagnoseEtcd(t *testing.T) {
	const well = "ok    etcd: 3 members, version 3.7.3, e0 leads, no alarm"
	full := threeMembers()
	full.Alarms = []cluster.EtcdAlarm{{Member: "e1", Kind: "NOSPACE"}, {Member: "e2", Kind: "CORRUPT"}, {Kind: "FLOOD"}}
	uncompared := threeMembers()
	uncompared.Uncompared = "permission denied"
	unlisted := threeMembers(func(m []cluster.EtcdMember) {
		for i := range m {
			m[i].Name, m[i].Leads, m[i].Alone = "", false, true
		}
		m[0].Alone, m[0].Problem = false, "refused"
	})
	unlisted.Unlisted = "timeout"
	stranger := threeMembers()
	stranger.Members = append(stranger.Members, cluster.EtcdMember{Endpoint: "http://old", Problem: "refused"})
	for name, c := range map[string]struct {
		h    cluster.EtcdHealth
		want []string
	}{
		"well": {threeMembers(), []string{well}},
		"one":  {cluster.EtcdHealth{Members: threeMembers().Members[:1]}, []string{"warn  etcd: it has 1 member; when one dies", "ok    etcd: 1 member, "}},
		"away": {threeMembers(func(m []cluster.EtcdMember) {
			m[2] = cluster.EtcdMember{Name: "e2", Endpoint: "http://e2", Problem: "refused"}
		}), []string{"bad   etcd: member e2 does not answer at http://e2 (refused)…etcdctl member remove"}},
		"nobody":   {cluster.EtcdHealth{Unlisted: "timeout", Members: []cluster.EtcdMember{{Endpoint: "http://e0", Problem: "refused"}}}, []string{"warn  etcd: nobody answers at http://e0", "bad   etcd: none of its members answers…is it running"}},
		"no vote":  {unlisted, []string{"warn  etcd: nobody answers at http://e0", "bad   etcd: member http://e1 knows of no leader", "bad   etcd: member http://e2 knows of no leader", "bad   etcd: no member knows of a leader…majority"}},
		"alone":    {threeMembers(func(m []cluster.EtcdMember) { m[1].Alone = true }), []string{"bad   etcd: member e1 knows of no leader"}},
		"electing": {threeMembers(func(m []cluster.EtcdMember) { m[0].Leads = false }), []string{"warn  etcd: none of the members that answer leads"}},
		"stranger": {stranger, []string{"warn  etcd: nobody answers at http://old…--endpoints", well}},
		"old": {threeMembers(func(m []cluster.EtcdMember) { m[1].Version = "3.6.13" }), []string{
			"bad   etcd: member e1 runs 3.6.13…upgrade it to 3.5.33, 3.6.14, 3.7.1 or newer", "warn  etcd: its members run different versions: 3.6.13, 3.7.3"}},
		"learner":    {threeMembers(func(m []cluster.EtcdMember) { m[2].Learner = true }), []string{"warn  etcd: member e2 is a learner", "warn  etcd: it has 2 members"}},
		"behind":     {threeMembers(func(m []cluster.EtcdMember) { m[0].Revision = 3000 }), []string{"warn  etcd: member e0 is 2,002 revisions behind", well}},
		"near full":  {threeMembers(func(m []cluster.EtcdMember) { m[0].Size = 1900 << 20 }), []string{"warn  etcd: the database of member e0 takes 1.9 GiB of the 2.0 GiB…etcdctl defrag", well}},
		"alarms":     {full, []string{"bad   etcd: alarm NOSPACE of member e1…alarm disarm", "bad   etcd: alarm CORRUPT of member e2…member remove", "bad   etcd: alarm FLOOD"}},
		"differ":     {threeMembers(func(m []cluster.EtcdMember) { m[2].Hash = 8 }), []string{"bad   etcd: members do not hold the same at the same revision: e0 and e2 differ"}},
		"uncompared": {uncompared, []string{"warn  etcd: it is not known whether its members hold the same: permission denied", well}},
		"faults":     {threeMembers(func(m []cluster.EtcdMember) { m[0].Faults = []string{"memberID:1 alarm:NOSPACE ", "disk on fire"} }), []string{"bad   etcd: member e0 says: disk on fire"}},
	} {
		t.Run(name, func(t *testing.T) { wantFindings(t, diagnoseEtcd(c.h), c.want...) })
	}
}

func TestIsSafe(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.44": false, "3.5.32": false, "3.5.33": true, "3.6.13": false, "3.6.14": true, "3.6.14-rc.0": false, "3.6.16-dev": true,
		"3.7.0": false, "3.7.1": true, "3.7.3": true, "3.8.0": true, "4.0.1": true, "2.3.8": false, "": false, "3.7": false, "3.x.1": false,
	} {
		if got := isSafe(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// settledView is fixedView when nothing is wrong.
func settledView() *cluster.View {
	v := fixedView()
	v.Rollout, v.Desired = cluster.Entry[cluster.Rollout]{}, cluster.Entry[cluster.Desired]{}
	for n := range v.Members {
		v.Live[n] = cluster.Live{Boot: "B", Addr: "http://" + string(n), Admin: "http://" + string(n) + ":9180", Version: "v1"}
		v.Status[n] = cluster.Status{State: cluster.NodeServing, Release: rel2, Epoch: 2}
	}
	return v
}

func TestDiagnoseSite(t *testing.T) {
	set := func(v *cluster.View, n release.NodeID, change func(*cluster.Status)) {
		st := v.Status[n]
		change(&st)
		v.Status[n] = st
	}
	lowers := func(v *cluster.View, n release.NodeID, buffer int) {
		for i, c := range v.Claims {
			if c.Node == n && c.Buffer == buffer {
				v.Claims[i].Release = ""
			}
		}
	}
	forget := func(v *cluster.View, n release.NodeID) {
		v.Claims = slices.DeleteFunc(v.Claims, func(c cluster.Claim) bool { return c.Node == n })
	}
	const is = "ok    www: " + string(rel2) + " is active, epoch 2, since 2026-11-22T12:00:00Z"
	for name, c := range map[string]struct {
		change func(v *cluster.View)
		after  time.Duration // since the flip
		want   []string
	}{
		"well": {func(*cluster.View) {}, time.Hour, []string{is, "ok    www: 4 nodes as they should be"}},
		"new": {func(v *cluster.View) {
			v.Active = cluster.Entry[cluster.Active]{}
			v.Claims = nil
		}, 0, []string{"ok    www: nothing was published yet"}},
		"frozen": {func(v *cluster.View) {
			v.Freeze = entryOf(cluster.Freeze{By: "op", Reason: "hands off", At: viewTime()})
		}, time.Hour, []string{"ok    www: frozen by op 1h ago: hands off"}},
		"long frozen": {func(v *cluster.View) { v.Freeze = entryOf(cluster.Freeze{By: "op", At: viewTime()}) }, 72 * time.Hour, []string{"warn  www: frozen by op 3d ago…relman unfreeze -s www"}},
		"bad":         {func(v *cluster.View) { v.Verdicts[rel2] = cluster.Entry[string]{Value: "bad 404s", Mod: 9, Create: 9} }, time.Hour, []string{"bad   www: what is active is judged bad: 404s…relman rollback"}},
		"no record":   {func(v *cluster.View) { delete(v.Releases, rel2) }, time.Hour, []string{"bad   www: the active release has no record"}},
		"lost disk": {func(v *cluster.View) { lowers(v, "web-3", 0); lowers(v, "web-3", 1) }, time.Hour, []string{
			"bad   www: a node does not hold what is active: web-3", "warn  www: a rollback has to wait: a node does not hold the previous release: web-3"}},
		"dead member": {func(v *cluster.View) { delete(v.Live, "web-2") }, time.Hour, []string{"bad   www: web-2 has no live session, and is a member…start its agent", "ok    www: 3 nodes"}},
		"dead, was out": {func(v *cluster.View) {
			delete(v.Live, "web-2")
			forget(v, "web-2")
			v.Members["web-2"] = entryOf(cluster.MemberOut)
		}, time.Hour, []string{"warn  www: web-2 is out, and not live"}},
		"never entered": {func(v *cluster.View) { delete(v.Live, "web-2"); forget(v, "web-2") }, time.Hour, []string{"warn  www: web-2 is not live; it has not entered…etcdctl del"}},
		"put out":       {func(v *cluster.View) { forget(v, "web-2"); v.Members["web-2"] = entryOf(cluster.MemberOut) }, time.Hour, []string{"warn  www: web-2 was put out"}},
		"not admitted":  {func(v *cluster.View) { forget(v, "web-2"); delete(v.Members, "web-2") }, time.Hour, []string{"warn  www: web-2 asks to join"}},
		"nobody":        {func(v *cluster.View) { v.Claims, v.Members, v.Joins = nil, nil, nil }, time.Hour, []string{"bad   www: no node serves it"}},
		"about to":      {func(v *cluster.View) { set(v, "web-1", func(s *cluster.Status) { s.Epoch = 1 }) }, time.Second, []string{"ok    www: web-1 is about to show epoch 2"}},
		"stale":         {func(v *cluster.View) { set(v, "web-1", func(s *cluster.Status) { s.Epoch = 1 }) }, time.Minute, []string{"bad   www: web-1 shows epoch 1 instead of 2, 1m0s after the flip: serving, at epoch 1"}},
		"stale, and why": {func(v *cluster.View) {
			set(v, "web-1", func(s *cluster.Status) { s.Epoch = 1; s.Error = &cluster.ErrorInfo{Text: "disk full"} })
		}, time.Minute, []string{"bad   www: web-1 shows epoch 1 instead of 2: disk full"}},
		"trouble": {func(v *cluster.View) {
			set(v, "web-1", func(s *cluster.Status) { s.Error = &cluster.ErrorInfo{Text: "disk full"} })
		}, time.Minute, []string{"warn  www: web-1: disk full"}},
		"twice": {func(v *cluster.View) {
			set(v, "web-1", func(s *cluster.Status) {
				s.Error = &cluster.ErrorInfo{Class: cluster.ClassDuplicateNode, Text: "held by another"}
			})
		}, time.Minute, []string{"bad   www: web-1: held by another…--node-id"}},
		"refuses": {func(v *cluster.View) {
			set(v, "web-1", func(s *cluster.Status) { s.State, s.Epoch = cluster.NodeRefusing, 9 })
		}, time.Minute, []string{"bad   www: web-1 refuses what etcd says: it has shown epoch 9, and etcd says 2…backup"}},
		"under way": {func(v *cluster.View) { v.Desired, v.Rollout = fixedView().Desired, fixedView().Rollout }, 3 * time.Minute, []string{"ok    www: the publish of " + string(rel4) + " by ann@desk is under way"}},
		"overdue":   {func(v *cluster.View) { v.Desired, v.Rollout = fixedView().Desired, fixedView().Rollout }, time.Hour, []string{"bad   www: the publish of " + string(rel4) + " by ann@desk was asked for 1h ago and should have ended…relman abort"}},
		"unheard":   {func(v *cluster.View) { v.Desired = fixedView().Desired }, time.Hour, []string{"bad   www: the publish of"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := settledView()
			c.change(v)
			wantFindings(t, diagnoseSite(siteCheckup{site: "www", view: v}, viewTime().Add(c.after)), c.want...)
		})
	}
	unread := siteCheckup{site: "www", err: errors.New("read /relman/v1/sites/www/config: no JSON")}
	wantFindings(t, diagnoseSite(unread, viewTime()), "bad   www: it cannot be read: read /relman/v1/sites/www/config")
}

func TestDiagnoseStore(t *testing.T) {
	look := func(faults ...objectstore.Fault) *objectstore.Audited {
		return &objectstore.Audited{Releases: 2, Packs: 3, Bytes: 5 << 20, Faults: faults}
	}
	need := []objectstore.Need{{Release: rel1}, {Release: rel2}}
	for name, c := range map[string]struct {
		c     checkup
		want  string
		blind bool
	}{
		"well":    {checkup{sites: []siteCheckup{{site: "www", store: look()}}}, "ok    store: all is there of 2 releases of www: 3 packs, 5.0 MiB", false},
		"nothing": {checkup{storeAt: "s3://b", sites: []siteCheckup{{site: "www", store: &objectstore.Audited{}}}}, "ok    store: s3://b answers", false},
		"missing": {checkup{sites: []siteCheckup{{site: "www", store: look(objectstore.Fault{Key: "packs/x", Missing: true, Needs: need})}}}, "bad   store: packs/x is missing, which " + string(rel1) + ", " + string(rel2) + " of www needs…relman verify -s www", false},
		"damaged": {checkup{sites: []siteCheckup{{site: "www", store: look(objectstore.Fault{Key: "packs/x", What: []string{"too short"}, Needs: need})}}}, "bad   store: packs/x is damaged (too short)", false},
		"away":    {checkup{storeErr: fmt.Errorf("ask: %w", objectstore.ErrUnavailable)}, "bad   store: it cannot be asked: ask: …is it running", true},
		"denied":  {checkup{storeErr: objectstore.ErrDenied}, "bad   store: it cannot be asked…credentials", true},
		"another": {checkup{storeAt: "s3://b", sites: []siteCheckup{{site: "www", storeErr: objectstore.ErrNotFound}}}, "bad   store: www cannot be looked at…is it the right one (s3://b)", true},
	} {
		t.Run(name, func(t *testing.T) {
			all := diagnoseStore(&c.c)
			wantFindings(t, all, c.want)
			if _, blind := reportFindings(all); blind != c.blind {
				t.Errorf("blind is %v", blind)
			}
		})
	}
}

func TestDiagnoseManager(t *testing.T) {
	now := viewTime()
	sweep := entryOf(cluster.GC{Phase: cluster.GCSweep, By: "m1", Since: now.Add(-5 * time.Minute)})
	up := func(ago time.Duration) []cluster.Uploading {
		return []cluster.Uploading{{Site: "www", Request: "R", Host: "ci-1", Since: now.Add(-ago)}}
	}
	const leads = "ok    manager: m1 leads"
	for name, c := range map[string]struct {
		c    checkup
		want []string
	}{
		"well":             {checkup{leader: "m1", gc: entryOf(cluster.GC{Phase: cluster.GCIdle})}, []string{leads}},
		"nobody":           {checkup{}, []string{"bad   manager: none leads…start `relman manager`"}},
		"sweeps":           {checkup{leader: "m1", gc: sweep}, []string{leads, "ok    store: m1 sweeps it, begun 5m ago"}},
		"rests":            {checkup{leader: "m1", gc: sweep, resting: true}, []string{leads, "warn  store: the sweep that m1 began 5m ago gives no sign"}},
		"rests, no leader": {checkup{gc: sweep, resting: true}, []string{"bad   manager: none leads", "bad   store: the sweep that m1 began 5m ago gives no sign"}},
		"publishes":        {checkup{leader: "m1", uploads: up(time.Minute)}, []string{leads, "ok    store: 1 publisher at work"}},
		"hangs":            {checkup{leader: "m1", uploads: up(8 * time.Hour)}, []string{leads, "warn  store: a publisher on ci-1 began 8h ago to publish to www…/relman/v1/uploads/www/R"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.c.now = now
			wantFindings(t, diagnoseManager(&c.c), c.want...)
		})
	}
}

func TestDiagnoseNodes(t *testing.T) {
	live := func(n string) cluster.Live {
		return cluster.Live{Addr: "http://" + n, Admin: "http://" + n + ":9180", Version: "v1"}
	}
	nodes := func(change func(n []nodeCheckup)) []nodeCheckup {
		var all []nodeCheckup
		for _, n := range []string{"web-1", "web-2", "web-3"} {
			all = append(all, nodeCheckup{node: release.NodeID(n), live: live(n), ready: true, dated: true})
		}
		change(all)
		return all
	}
	const well, hour = "ok    nodes: 3 of 3 that live are ready", time.Hour
	for name, c := range map[string]struct {
		change func(n []nodeCheckup)
		since  time.Duration // the flip
		want   []string
	}{
		"well":         {func([]nodeCheckup) {}, hour, []string{well}},
		"not ready":    {func(n []nodeCheckup) { n[0].ready, n[0].why = false, "not a member" }, hour, []string{"bad   web-1: it is not ready to take traffic: not a member", "ok    nodes: 2 of 3"}},
		"not yet":      {func(n []nodeCheckup) { n[0].ready, n[0].why = false, "does not serve it yet" }, time.Second, []string{"warn  web-1: it is not ready"}},
		"not reached":  {func(n []nodeCheckup) { n[0].ready, n[0].dated, n[0].err = false, false, errors.New("refused") }, hour, []string{"warn  web-1: it cannot be asked from here: refused…--advertise-admin"}},
		"ahead":        {func(n []nodeCheckup) { n[1].ahead = time.Hour }, hour, []string{"warn  web-2: its clock is 1h0m0s ahead…NTP", well}},
		"behind":       {func(n []nodeCheckup) { n[1].ahead = -3 * time.Second }, hour, []string{"warn  web-2: its clock is 3.0s behind", well}},
		"a little":     {func(n []nodeCheckup) { n[1].ahead = -2 * time.Second }, hour, []string{well}},
		"this one":     {func(n []nodeCheckup) { n[0].ahead, n[1].ahead, n[2].ahead = hour, hour+time.Second, hour }, hour, []string{"warn  clock: this machine's differs from the nodes' by 1h0m0s", well}},
		"two versions": {func(n []nodeCheckup) { n[1].live.Version = "v2" }, hour, []string{"warn  nodes: agents of different versions: v1, v2", well}},
		"one address":  {func(n []nodeCheckup) { n[1].live.Admin = n[0].live.Admin }, hour, []string{"warn  nodes: web-1, web-2 say that they are at http://web-1:9180", well}},
	} {
		t.Run(name, func(t *testing.T) {
			v := settledView()
			v.Claims = append(v.Claims, cluster.Claim{Node: "web-1"}, cluster.Claim{Node: "web-2"})
			wantFindings(t, diagnoseNodes(&checkup{
				now: viewTime().Add(c.since), nodes: nodes(c.change), sites: []siteCheckup{{site: "www", view: v}},
			}), c.want...)
		})
	}
}

// TestAskReady: what a node answers, and what time it is there.
func TestAskReady(t *testing.T) {
	at := func(code int, text string, ahead time.Duration) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			w.WriteHeader(code)
			_, _ = fmt.Fprintln(w, text)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	if n := askReady(t.Context(), at(200, "ready", 0)); !n.ready || n.err != nil || !n.dated || n.ahead != 0 {
		t.Errorf("%+v", n)
	}
	if n := askReady(t.Context(), at(503, "not a member", -time.Hour)+"/"); n.ready || n.why != "not a member" || (n.ahead+time.Hour).Abs() > 2*time.Second {
		t.Errorf("%+v", n)
	}
	for _, admin := range []string{"", "http://127.0.0.1:1", "::"} {
		if n := askReady(t.Context(), admin); n.err == nil || n.dated {
			t.Errorf("%q: %+v", admin, n)
		}
	}
	sent := viewTime().Add(300 * time.Millisecond)
	got := sent.Add(200 * time.Millisecond)
	for date, want := range map[time.Time]time.Duration{
		viewTime():                        0, // cut to a second
		viewTime().Add(-time.Second):      -300 * time.Millisecond,
		viewTime().Add(5 * time.Second):   4500 * time.Millisecond,
		viewTime().Add(-10 * time.Second): -9300 * time.Millisecond,
	} {
		if ahead, ok := aheadOf(date.Format(http.TimeFormat), sent, got); !ok || ahead != want {
			t.Errorf("%v: %v, want %v", date, ahead, want)
		}
	}
	if _, ok := aheadOf("yesterday", sent, got); ok {
		t.Error("that is no date")
	}
}

func TestLookAtNginx(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	main := put("nginx.conf", "http {\n  # open_file_cache max=1;\n  open_file_cache_valid 30s;\n  open_file_cache max=1000 inactive=20s; }\n")
	site := put("sites-enabled/www", "server { listen 80; open_file_cache   max=5; }")
	put("conf.d/off.conf", "open_file_cache off;")
	put("sites-available/other", "open_file_cache max=9;")
	other := put("elsewhere/nginx.config", "open_file_cache max=7;\n")
	l := lookAtNginx(dir, []string{other, filepath.Join(dir, "none")})
	wantFindings(t, diagnoseNginx(l),
		"warn  nginx: "+main+":4 says `open_file_cache max=1000 inactive=20s`", "warn  nginx: "+site+":1 says `open_file_cache max=5`",
		"warn  nginx: "+other+":1 says", "warn  nginx: its configuration cannot be read…none")
	if l := lookAtNginx(filepath.Join(dir, "none"), nil); len(diagnoseNginx(l)) != 0 {
		t.Errorf("where there is no nginx: %+v", l)
	}
	wantFindings(t, diagnoseNginx(lookAtNginx(filepath.Join(dir, "conf.d"), nil)), "ok    nginx: it keeps no files open, by 1 file")

	// Files that are included, by the place of the one that was named, and once each.
	put("alone/nginx.conf", "include more/*.inc;\ninclude nginx.conf;\n")
	inc := put("alone/more/a.inc", "include more/b.inc; open_file_cache max=9;\n")
	put("alone/more/b.inc", "gzip on;\n")
	wantFindings(t, diagnoseNginx(lookAtNginx(filepath.Join(dir, "none"), []string{filepath.Join(dir, "alone/nginx.conf")})),
		"warn  nginx: "+inc+":1 says `open_file_cache max=9`")
}

// TestDoctor_lab: without a manager, and without etcd.
func TestDoctor_lab(t *testing.T) {
	l := newLab(t)
	code, out, errs := l.relman(t, "doctor", "--store", "s3://b?endpoint=http://127.0.0.1:1")
	if code != exitUnreachable || !strings.Contains(out, "bad   manager: none leads") || !strings.Contains(out, "bad   store: it cannot be asked") || !strings.Contains(errs, "2 bad, ") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs := l.relman(t, "doctor", "blog"); code != exitUsage || !strings.Contains(errs, "no site blog") {
		t.Errorf("exit %d\n%s", code, errs)
	}
	code, out, errs = relman(t, "doctor", "--endpoints", "http://127.0.0.1:1", "-o", "json")
	var o outcome
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != exitUnreachable || o.Exit != code || o.Class != classUnwell || o.Doctor == nil || o.Doctor.Bad == 0 {
		t.Errorf("exit %d %v\n%s%s", code, err, out, errs)
	}
}

// TestDoctor_sweep: a sweep whose owner is dead is told from one that goes on.
func TestDoctor_sweep(t *testing.T) {
	l := newLab(t)
	if _, err := l.client.Commit(t.Context(), cluster.BeginSweep(cluster.Entry[cluster.GC]{}, cluster.GC{By: "m", ID: "S", Since: time.Now()})); err != nil {
		t.Fatal(err)
	}
	own, err := l.client.GC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := rests(t.Context(), l.client, own, 200*time.Millisecond); err != nil || !rest {
		t.Errorf("%v %v", rest, err)
	}
	if _, err := l.client.Commit(t.Context(), cluster.HoldSweep(own)); err != nil {
		t.Fatal(err)
	}
	if rest, err := rests(t.Context(), l.client, own, 10*time.Second); err != nil || rest {
		t.Errorf("%v %v", rest, err)
	}
}

// TestDoctor_dev: of a cluster that is well nothing bad is said, and what is done
// to it is named.
func TestDoctor_dev(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	d := startDev(t, nil, "--state", state, "--free-ports")
	run := func(args ...string) (int, string) {
		t.Helper()
		out, err := self(nil, append(args, "--endpoints", d.up.Etcd)...).CombinedOutput()
		if _, exited := err.(interface{ ExitCode() int }); err != nil && !exited {
			t.Fatal(err)
		}
		if err == nil {
			return 0, string(out)
		}
		return err.(interface{ ExitCode() int }).ExitCode(), string(out)
	}
	for _, page := range []string{"one", "two"} {
		if code, out := run("publish", site(t, page)); code != 0 {
			t.Fatalf("publish: exit %d\n%s", code, out)
		}
	}
	code, out := run("doctor")
	for _, want := range []string{"ok    etcd: 1 member, ", "ok    manager: ", "ok    store: all is there of 2 releases of www", "ok    www: 4 nodes as they should be", "ok    nodes: 4 of 4 that live are ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if code != 0 || strings.Contains(out, "\nbad") || strings.HasPrefix(out, "bad") {
		t.Errorf("exit %d\n%s", code, out)
	}
	packs, err := filepath.Glob(filepath.Join(state, "store", "objects", "*", "packs", "*", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%v %v", packs, err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := run("doctor", "www"); code != int(exitCorrupt) || strings.Count(out, "bad   store: packs/") != len(packs) {
		t.Errorf("without %d packs: exit %d\n%s", len(packs), code, out)
	}
	if code, out := run("doctor", "-o", "name"); code != int(exitCorrupt) || !strings.HasPrefix(out, "store\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	d.stop(t)
}
