package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConfirmWithin: a publish on trial goes back by itself when nobody confirms
// it, also when whoever published it is dead and another manager leads by then; and
// stays when somebody does.
func TestConfirmWithin(t *testing.T) {
	patient(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	build := func(n string) string {
		dir := filepath.Join(l.dir, "build-"+n)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a build
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "index.html"), "version "+n)
		return dir
	}
	first := l.publish(t, build("1"))

	// The publisher waits, and is told.
	began := time.Now()
	r := run(t, l.env, programs(t).relman, "publish", build("2"), "-s", "www", "--confirm-within", "2s")
	if r.code != 8 || !strings.Contains(r.stdout+r.stderr, "REVERTED   www = "+first) || time.Since(began) < 2*time.Second {
		t.Fatalf("exit %d after %v\n%s%s", r.code, time.Since(began), r.stdout, r.stderr)
	}
	l.expectRelease(t, "n1", first)
	if r := run(t, l.env, programs(t).relman, "flip", "latest"); r.code != 4 || !strings.Contains(r.stderr, "bad: not confirmed within 2s") {
		t.Errorf("a flip to the release that was reverted: exit %d\n%s", r.code, r.stderr)
	}

	// The publisher is killed, and so is the manager that flipped.
	publisher := start(t, "publisher", l.env, programs(t).relman, "publish", build("3"), "-s", "www", "--confirm-within", "5s")
	eventually(t, 30*time.Second, "the third release is active", func() error { return expectNot(l.activeRelease(t), first) })
	third, flipped := l.activeRelease(t), time.Now()
	publisher.kill()
	l.manager(t, "m2")
	l.managers["m1"].kill()
	eventually(t, 60*time.Second, "the first release is active again", func() error { return expectNot(l.activeRelease(t), third) })
	if got := l.activeRelease(t); got != first {
		t.Fatalf("active is %s", got)
	}
	t.Logf("reverted by itself %.1f s after the flip, publisher and manager killed", time.Since(flipped).Seconds())
	for _, n := range nodes {
		l.expectRelease(t, n, first)
	}
	var history []struct{ Kind, Message, Release string }
	if err := json.Unmarshal([]byte(l.relman(t, "history", "-o", "json").stdout), &history); err != nil || len(history) != 5 {
		t.Fatalf("%d epochs: %v", len(history), err)
	}
	if h := history[0]; h.Kind != "revert" || h.Release != first || !strings.Contains(h.Message, "not confirmed within 5s") {
		t.Errorf("history says %+v", h)
	}

	// Somebody confirms.
	publisher = start(t, "publisher", l.env, programs(t).relman, "publish", build("4"), "-s", "www", "--confirm-within", "1h")
	eventually(t, 30*time.Second, "the fourth release is active", func() error { return expectNot(l.activeRelease(t), first) })
	if r := l.relman(t, "confirm"); !strings.Contains(r.stdout+r.stderr, "CONFIRMED") {
		t.Errorf("confirm said %s%s", r.stdout, r.stderr)
	}
	select {
	case <-publisher.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the publisher still waits")
	}
	if publisher.err != nil || !strings.Contains(publisher.output(), "LIVE") {
		t.Errorf("the publisher ended with %v:\n%s", publisher.err, publisher.output())
	}
	verifyHistory(t, l.env)
}

func expectNot(is, not string) error {
	if is == not {
		return fmt.Errorf("it is %s", is)
	}
	return nil
}
