package main

import (
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

func TestSwapTime(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339Nano) }
	for text, in := range map[string]time.Duration{"+2s": 2 * time.Second, "+1h": time.Hour, "+1ms": time.Millisecond, "+1m30s": 90 * time.Second} {
		var s swapTime
		if err := s.Set(text); err != nil || s.in != in || !s.at.IsZero() {
			t.Errorf("%s: %+v %v", text, s, err)
		}
	}
	for _, text := range []string{at(time.Second), at(59 * time.Minute), time.Now().Add(time.Minute).UTC().Format(time.RFC3339)} {
		var s swapTime
		want, err := time.Parse(time.RFC3339Nano, text)
		if serr := s.Set(text); err != nil || serr != nil || s.in != 0 || !s.at.Equal(want) || s.String() == "" {
			t.Errorf("%s: %+v %v", text, s, serr)
		}
	}
	for text, why := range map[string]string{
		"+0s": "not after the flip", "+-2s": "not after the flip", "+2": "no duration", "+1h1ms": "more than 1h0m0s after", "2s": "neither",
		"tomorrow": "neither", "": "neither", at(-time.Hour): "has passed 1h", at(2 * time.Hour): "it can be 1h0m0s at most",
	} {
		s := swapTime{in: 5}
		if err := s.Set(text); err == nil || !strings.Contains(err.Error(), why) || s.in != 5 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPublish_swapAt: what cannot be meant is refused before anything is done.
func TestPublish_swapAt(t *testing.T) {
	for _, args := range [][]string{
		{"publish", t.TempDir(), "--swap-at", "+2h"},
		{"publish", t.TempDir(), "--swap-at", "2020-01-01T00:00:00Z"},
		{"publish", t.TempDir(), "--swap-at", "+2s", "--no-flip"},
		{"flip", "latest", "--swap-at", "noon"},
	} {
		var out, errs strings.Builder
		if code := newApp(&out, &errs).execute(t.Context(), args); code != exitUsage || !strings.Contains(errs.String(), "swap-at") {
			t.Errorf("%v: exit %d, %s", args, code, errs.String())
		}
	}
}

// pendingView is fixedView while its flip is pending, which web-1 alone does not wait
// for.
func pendingView() *cluster.View {
	v := settledView()
	v.Active.Value.ActivateAt, v.Active.Value.Before = viewTime().Add(time.Minute), 1
	for n := range v.Status {
		v.Status[n] = cluster.Status{State: cluster.NodeWaiting, Release: rel1, Epoch: 1}
	}
	v.Status["web-1"] = cluster.Status{State: cluster.NodeServing, Release: rel2, Epoch: 2, Swapped: viewTime().Add(-time.Hour), ClockErrorMS: -3600_000}
	return v
}

func TestPendingFlip(t *testing.T) {
	v := pendingView()
	var lines []string
	for _, l := range statusLines(v, true, viewTime()) {
		lines = append(lines, l[0]+": "+l[1])
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"SCHEDULED: shown from 2026-11-22T12:01:00.000Z", "CLOCK WRONG: web-1 (1h0m0s behind)",
		"web-2: waits until 2026-11-22T12:01:00.000Z", "web-1: its clock is 1h0m0s behind",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("status lacks %q:\n%s", want, text)
		}
	}
	if s := shown(v, 2); s.Converged() || !strings.Contains(s.text(), "1/4 serving, clock wrong: web-1 (1h0m0s behind)") {
		t.Errorf("%s", s.text())
	}
	if got := whyText(v.Active.Value); got != "PR 412 (shown from 2026-11-22T12:01:00.000Z)" {
		t.Errorf("history says %q", got)
	}
	for _, n := range reportNodes(v) {
		if n.Late {
			t.Errorf("%s is late: %s", n.Node, n.Why)
		}
	}

	// All have swapped.
	for i, n := range []release.NodeID{"web-2", "web-3", "web-4"} {
		v.Status[n] = cluster.Status{State: cluster.NodeServing, Release: rel2, Epoch: 2, Swapped: v.Active.Value.ActivateAt.Add(time.Duration(i) * time.Millisecond)}
	}
	if s := shown(v, 2); !s.Converged() || s.text() != "4/4 serving, skew 2.0 ms, clock wrong: web-1 (1h0m0s behind)" {
		t.Errorf("%s", s.text())
	}
	for _, l := range statusLines(v, true, viewTime()) {
		if l[0] == "SCHEDULED" {
			t.Errorf("still scheduled: %v", l)
		}
	}
	if got := skewText(&cluster.Skew{MS: 2, Nodes: 3, Off: []release.NodeID{"web-1"}}); got != "2.0 ms without web-1" {
		t.Error(got)
	}
}

// TestDiagnose_schedule: who waits is well, who has waited for too long is not; and
// clocks are compared with the leader's, or the leader's with them.
func TestDiagnose_schedule(t *testing.T) {
	const is = "ok    www: " + string(rel2) + " is active, epoch 2, since 2026-11-22T12:00:00Z"
	wantFindings(t, diagnoseSite(siteCheckup{site: "www", view: pendingView()}, viewTime().Add(50*time.Second)), is, "ok    www: 4 nodes as they should be")
	v := pendingView()
	for _, n := range []release.NodeID{"web-3", "web-4"} {
		v.Status[n] = cluster.Status{State: cluster.NodeServing, Release: rel2, Epoch: 2}
	}
	v.Status["web-2"] = cluster.Status{State: cluster.NodeWaiting, Release: rel1, Epoch: 1}
	wantFindings(t, diagnoseSite(siteCheckup{site: "www", view: v}, viewTime().Add(89*time.Second)), is, "ok    www: 4 nodes as they should be")
	wantFindings(t, diagnoseSite(siteCheckup{site: "www", view: v}, viewTime().Add(91*time.Second)), is, "bad   www: web-2 shows epoch 1 instead of 2, 31.0s after the flip")

	c := &checkup{sites: []siteCheckup{{site: "www", view: v}}, nodes: []nodeCheckup{{node: "web-1"}, {node: "web-2"}, {node: "web-3"}, {node: "web-4"}}}
	wantFindings(t, diagnoseWrongClocks(c), "warn  web-1: its clock is 1h0m0s behind: it shows scheduled flips as soon as they come…NTP")
	if got := c.comparable(); len(got) != 3 || got[0].node != "web-2" {
		t.Errorf("compared otherwise: %v", got)
	}
	for _, n := range []release.NodeID{"web-2", "web-3", "web-4"} {
		v.Status[n] = cluster.Status{State: cluster.NodeServing, Epoch: 2, ClockErrorMS: 900}
	}
	wantFindings(t, diagnoseWrongClocks(c), "warn  clock: the leading manager's differs from that of 4 of 4 nodes…NTP")
}
