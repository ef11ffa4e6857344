package main

import (
	"encoding/json"
	"strings"
	"testing"

	"relman/cluster"
	"relman/cluster/audit"
	"relman/release"
)

// write writes a key past all guards, as a hand would.
func (l *lab) write(t *testing.T, key, value string) {
	t.Helper()
	if _, err := l.client.Commit(t.Context(), cluster.Txn{Name: "write by hand", Ops: []cluster.Op{{Key: key, Value: value}}}); err != nil {
		t.Fatal(err)
	}
}

// TestHistoryVerify: a history that nobody meddled with is well, and what was
// written by hand is named, with exit code 10.
func TestHistoryVerify(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 2)
	if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a")}); f != nil {
		t.Fatal(f)
	}
	if err := l.client.CreateSite(t.Context(), "shop", cluster.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"www"}, {"-s", "shop"}} {
		code, out, errs := l.relman(t, append([]string{"history", "--verify"}, args...)...)
		if code != exitOK || !strings.Contains(out, "VERIFIED   0 violations of ") || !strings.Contains(out, "revisions 1 to ") || !strings.Contains(out, "all that there were") {
			t.Errorf("%v: exit %d:\n%s%s", args, code, out, errs)
		}
	}

	l.write(t, cluster.ClaimKey("www", l.view(t).Active.Value.Buffer, release.DefaultGroup, "n1"), "-")
	code, out, errs := l.relman(t, "history", "--verify", "www")
	if code != exitCorrupt || !strings.Contains(out, "I12        revision ") || !strings.Contains(out, "/ready/0/main/n1: n1 took back its claim") ||
		!strings.Contains(errs, "1 violation of ") || strings.Contains(out, "VERIFIED") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	code, out, _ = l.relman(t, "history", "--verify", "-o", "json")
	var o outcome
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != exitCorrupt || o.Exit != exitCorrupt || o.Class != classHistory || o.State != stateFailed {
		t.Fatalf("exit %d %v:\n%s", code, err, out)
	}
	if h := o.Verify.History; len(h.Violations) != 1 || h.Violations[0].Invariant != audit.I12 || h.Violations[0].Site != "www" || h.Flips != 1 {
		t.Errorf("%+v", h)
	}
	code, out, _ = l.relman(t, "history", "--verify", "shop", "-o", "json")
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != exitOK || o.Site != "shop" {
		t.Errorf("exit %d %v:\n%s", code, err, out)
	}
}

func TestHistoryNotes(t *testing.T) {
	r := &audit.Report{From: 5, Base: 4, To: 90, Gaps: []audit.Gap{{From: 10, To: 12}, {From: 20, To: 20}}, Lowered: 2, Forced: 1, More: 3}
	got := strings.Join(historyNotes(r), "\n")
	for _, want := range []string{"revisions 10 to 12, 20 to 20", "2 needed claims", "1 rule put aside", "3 more violations"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nsays nothing of %q", got, want)
		}
	}
	if text := replayedFrom(r); !strings.Contains(text, "5 to 90") || !strings.Contains(text, "compacted") {
		t.Error(text)
	}
}
