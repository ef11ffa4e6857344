package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestPreview: links to what some node holds, and what to do where none does.
func TestPreview(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 2)
	run := func(code exitCode, says string, args ...string) string {
		t.Helper()
		got, out, errs := l.relman(t, args...)
		if got != code || !strings.Contains(out+errs, says) {
			t.Errorf("relman %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
		}
		return out
	}
	publish := func(content string, hold bool) {
		t.Helper()
		if _, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, content), hold: hold}); f != nil {
			t.Fatalf("%v\n%s", f, report)
		}
	}
	publish("a", false)
	publish("b", true)
	var r previewReport
	if err := json.Unmarshal([]byte(run(exitOK, "", "preview", "latest", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Links) != 2 || r.Release.Seq() != 2 {
		t.Fatalf("%+v", r)
	}
	for _, link := range r.Links {
		if !strings.HasSuffix(link.URL, "/?relman-preview="+r.Pin) {
			t.Errorf("%+v", link)
		}
	}
	run(exitOK, "https://www.example.com/?relman-preview=", "preview", "2", "--url", "https://www.example.com")
	run(exitUsage, "it can be 1m to 720h", "preview", "2", "--for", "1s")
	run(exitUsage, "--url \"example.com\"", "preview", "2", "--url", "example.com")
	run(exitUsage, "has no release 9", "preview", "9")
	run(exitOK, "LIVE", "flip", "2")
	publish("c", false)
	publish("d", true)
	run(exitNotReady, "`relman flip 000001-", "preview", "1")
	run(exitOK, "READY", "flip", "1", "--no-flip")
	run(exitOK, "relman-preview=", "preview", "1")
	run(exitOK, "pin off for 1m0s, retain 3 for 24h0m0s", "admin", "site", "set", "www", "--pin", "off")
	run(exitUsage, "pin is \"always\"", "admin", "site", "set", "www", "--pin", "always")
	run(exitUsage, "not found", "admin", "site", "set", "nosuch")
}
