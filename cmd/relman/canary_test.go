package main

import (
	"encoding/json"
	"strings"
	"testing"

	"relman/cluster"
)

// TestCanary is the life of a canary as an operator sees it.
func TestCanary(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 2)
	expect := func(code exitCode, says string, args ...string) string {
		t.Helper()
		got, out, errs := l.relman(t, args...)
		if got != code || !strings.Contains(out+errs, says) {
			t.Errorf("relman %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
		}
		return out
	}
	share := func(text string) *cluster.Audience {
		a, err := cluster.ParseAudience(text)
		if err != nil {
			t.Fatal(err)
		}
		return &a
	}
	try := func(to string, files ...string) (outcome, string, *failure) {
		o := publishOptions{askOptions: patient(), dir: site(t, files...)}
		o.canary = share(to)
		return l.publish(t.Context(), t, o)
	}
	if _, _, f := try("5%", "a"); f == nil || f.code != exitConflict || !strings.Contains(f.text, "nothing active yet") {
		t.Errorf("a canary beside nothing: %+v", f)
	}
	first, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a", "b")})
	if f != nil {
		t.Fatal(f)
	}
	expect(exitConflict, "www has no canary", "promote")
	expect(exitOK, "nothing is under way", "abort")
	expect(exitUsage, "www has no canary", "releases", "show", "canary")
	for _, wrong := range []string{"0%", "100%", "x%", "A B"} {
		expect(exitUsage, "canary", "flip", "latest", "--canary="+wrong)
	}
	expect(exitUsage, "confirm-within", "flip", "latest", "--canary=5%", "--confirm-within", "5s")

	second, report, f := try("12.5%", "a", "c")
	if f != nil || second.State != stateCanary || second.Changed || second.Active != first.Release || second.Epoch != 2 {
		t.Fatalf("%+v %v\n%s", second, f, report)
	}
	want := "CANARY     www = " + string(first.Release) + ", " + string(second.Release) + " for 12.5% of the visitors; `relman promote` or `relman abort` ends that\n"
	if !strings.HasSuffix(report, want) || strings.Contains(report, "LIVE") {
		t.Errorf("got:\n%swant at the end:\n%s", report, want)
	}
	expect(exitOK, string(second.Release)+" for 12.5% of the visitors", "status")
	expect(exitOK, string(second.Release), "releases", "show", "canary")
	expect(exitOK, "canary", "releases")
	expect(exitConflict, "www has a canary, ", "flip", "1")
	if got, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "d")}); f == nil || f.code != exitConflict || got.Upload != nil {
		t.Errorf("a publish beside it: %+v %v", got, f)
	}

	// More visitors see it, then nobody.
	expect(exitOK, "for 50% of the visitors", "flip", "canary", "--canary=50%")
	if c := l.view(t).Active.Value.Canary; c.Since != 2 || c.Share != 5000 {
		t.Errorf("%+v", c)
	}
	expect(exitOK, "ENDED      www = "+string(first.Release), "abort", "-m", "slow")
	expect(exitOK, "ends the canary "+string(second.Release)+": slow", "history")
	expect(exitConflict, "its canary was ended by", "flip", string(second.Release))
	expect(exitOK, "", "releases", "clear", string(second.Release))

	// Again, and for all.
	expect(exitOK, "CANARY", "flip", string(second.Release), "--canary=5%")
	var out outcome
	if err := json.Unmarshal([]byte(expect(exitOK, "", "promote", "-m", "fast", "-o", "json")), &out); err != nil {
		t.Fatal(err)
	}
	if out.State != stateLive || !out.Changed || out.Active != second.Release || out.Previous != first.Release {
		t.Errorf("%+v", out)
	}

	// Canaries do not hide that the previous release is what was gone back from.
	expect(exitOK, "LIVE", "rollback", "--no-freeze")
	expect(exitOK, "CANARY", "flip", string(second.Release), "--canary=5%")
	expect(exitConflict, "rolled back to, from "+string(second.Release), "rollback")
	expect(exitOK, "ENDED", "abort")
	expect(exitConflict, "rolled back to, from "+string(second.Release), "rollback")

	// Without pins a page could be of both.
	expect(exitOK, "", "admin", "site", "set", "www", "--pin", "off")
	expect(exitUsage, "not pinned", "flip", string(first.Release), "--canary=5%")
}
