package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// replayed is what `relman history --verify` says of a history.
type replayed struct {
	From, Base       int64
	Revisions, Flips int
	Lowered          int
	Violations       []struct {
		Invariant, Key, Text string
		Revision             int64
	}
}

// verifyHistory has the whole history of a cluster checked: no revision of it
// breaks the protocol.
func verifyHistory(t testing.TB, env []string) replayed {
	t.Helper()
	r := run(t, env, programs(t).relman, "history", "--verify", "-o", "json")
	var out struct{ Verify struct{ History replayed } }
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	h := out.Verify.History
	for _, v := range h.Violations {
		t.Errorf("%s at revision %d by %s: %s", v.Invariant, v.Revision, v.Key, v.Text)
	}
	if r.code != 0 || h.Base != 0 || h.Revisions == 0 || h.Flips == 0 {
		t.Errorf("exit %d: %+v\n%s", r.code, h, r.stderr)
	}
	t.Logf("history: %d violations of %d revisions, %d flips, %d needed claims lowered", len(h.Violations), h.Revisions, h.Flips, h.Lowered)
	return h
}

// TestHistory: whatever happens to a cluster, its history keeps to the
// protocol; what somebody writes past it is named.
func TestHistory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, m := range []string{"m1", "m2"} {
		l.manager(t, m)
	}
	nodes := []string{"n1", "n2", "n3"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	l.publish(t, generatedSite(t, 1))
	l.publish(t, generatedSite(t, 2))

	// The leader dies in a rollout, for which a node takes its time.
	l.agents["n2"].stop(t)
	l.agent(t, "n2", "RELMAN_FAILPOINTS=node.mid-fetch=sleep:3s")
	l.waitNodes(t, nodes)
	p := start(t, "publish", l.env, programs(t).relman, "publish", generatedSite(t, 3), "-s", "www")
	l.awaitRollout(t)
	leader := l.leader(t)
	l.managers[leader].kill()
	l.ended(t, p, 0)
	l.manager(t, leader)

	// Back, frozen, and on.
	l.relman(t, "rollback", "-s", "www")
	if r := run(t, l.env, programs(t).relman, "publish", generatedSite(t, 4), "-s", "www"); r.code != 5 {
		t.Fatalf("frozen: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.relman(t, "unfreeze", "-s", "www")
	l.race(t, 5, 3)

	// A rollout that waits for a node that is away is aborted.
	l.agents["n2"].kill()
	p = start(t, "publish", l.env, programs(t).relman, "publish", generatedSite(t, 20), "-s", "www")
	l.awaitRollout(t)
	l.relman(t, "abort", "-s", "www")
	<-p.done
	l.agent(t, "n2")

	// A node comes back without its disk, while one member of etcd is gone.
	l.etcd[0].kill()
	l.agents["n3"].kill()
	if err := os.RemoveAll(filepath.Join(l.dir, "n3")); err != nil {
		t.Fatal(err)
	}
	l.agent(t, "n3")
	for _, n := range nodes {
		l.expectRelease(t, n, l.activeRelease(t))
	}
	l.publish(t, generatedSite(t, 21))
	l.relman(t, "rollback", "-s", "www", "--no-freeze")
	l.relman(t, "admin", "site", "add", "shop")
	l.relman(t, "publish", filepath.Join("sample", "v1"), "-s", "shop")

	if h := verifyHistory(t, l.env); h.Lowered == 0 || h.Flips < 8 {
		t.Errorf("%+v: too little has happened", h)
	}
	must(t, l.env, programs(t).etcdctl, "put", "/relman/v1/sites/www/active", `{"release":"000001-aaaaaaaaaaaa","epoch":1}`)
	r := run(t, l.env, programs(t).relman, "history", "--verify")
	if r.code != 10 || !strings.Contains(r.stdout, "epoch 1 follows epoch") || !strings.Contains(r.stderr, "revisions") {
		t.Errorf("written by hand: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("written by hand: exit %d\n%s", r.code, r.stdout)
}

// awaitRollout waits until one is in flight.
func (l *lab) awaitRollout(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "a rollout is in flight", func() error {
		if must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/rollout").stdout == "" {
			return fmt.Errorf("there is none")
		}
		return nil
	})
}

// ended waits for the end of a command.
func (l *lab) ended(t *testing.T, p *process, code int) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end\n%s", p.name, p.output())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%s: exit %d, want %d\n%s", p.name, got, code, p.output())
	}
}

// race has several publishers at once ask, each for its own build: of some,
// another one came first.
func (l *lab) race(t *testing.T, first, publishers int) {
	t.Helper()
	codes := make([]int, publishers)
	var wg sync.WaitGroup
	for i := range publishers {
		build := generatedSite(t, first+i)
		wg.Go(func() {
			codes[i] = run(t, l.env, programs(t).relman, "publish", build, "-s", "www").code
		})
	}
	wg.Wait()
	slices.Sort(codes)
	if codes[0] != 0 || slices.ContainsFunc(codes, func(c int) bool { return c != 0 && c != 4 }) {
		t.Fatalf("exit codes %v", codes)
	}
}
