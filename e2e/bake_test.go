package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// probed is what the probe of this test asks for.
const probed = "healthz.txt"

// bakedBuild is a build with the file that is probed.
func (l *lab) bakedBuild(t *testing.T, n string) string {
	t.Helper()
	dir := filepath.Join(l.dir, "build-"+n)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a build
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "index.html"), "version "+n)
	writeFile(t, filepath.Join(dir, probed), "version "+n+" is well")
	return dir
}

// rots damages the probed file of a release on a node's disk, once the node shows it,
// again and again: the node repairs it each time. It ends with the test, or when it is
// told to.
func (l *lab) rots(t *testing.T, node, content string) (heal func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	heal = func() { cancel(); wg.Wait() }
	t.Cleanup(heal)
	wg.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			name := filepath.Join(l.dir, node, "sites", "www", "current", probed)
			if is, err := os.ReadFile(name); err != nil || string(is) != content { //nolint:gosec // of this test
				continue
			}
			// A new file: the old one may be another release's, too.
			spare := filepath.Join(l.dir, node+".rotten")
			err := errors.Join(os.WriteFile(spare, []byte("rotten"), 0o644), os.Rename(spare, name)) //nolint:gosec // as releases are
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	return heal
}

// TestBake: a release whose probe fails on one node of five goes back without a hand,
// the publisher says which node and what it answered, and nothing flips to it again;
// one that is well everywhere stays, and so does one that somebody keeps.
func TestBake(t *testing.T) {
	patient(t)
	t.Parallel()
	const bake = 20 * time.Second
	l := newLab(t)
	l.manager(t, "m1")
	l.manager(t, "m2")
	nodes := []string{"n1", "n2", "n3", "n4", "n5"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	shows := l.relman(t, "admin", "policy", "set", "www", "--bake", bake.String(), "--bake-probe", "/"+probed+" 200 is well").stdout
	if !strings.Contains(shows, "PROBE") || !strings.Contains(shows, "20s, back when more than 0 nodes") {
		t.Errorf("the policy is shown as\n%s", shows)
	}
	first := l.publish(t, l.bakedBuild(t, "1")) // nothing to go back to: it does not bake

	heal := l.rots(t, "n3", "version 2 is well")
	began := time.Now()
	r := run(t, l.env, programs(t).relman, "publish", l.bakedBuild(t, "2"), "-s", "www")
	took := time.Since(began)
	heal()
	said := r.stdout + r.stderr
	answer := fmt.Sprintf(`n3: GET /%s: status 500, want 200 ("the file cannot be read on this node")`, probed)
	if r.code != 8 || !strings.Contains(said, "REVERTED   www = "+first) || !strings.Contains(said, "rejected by 1 of 5 nodes ("+answer) {
		t.Fatalf("exit %d after %v\n%s", r.code, took, said)
	}
	if took >= bake {
		t.Errorf("it took %v, longer than the bake", took)
	}
	t.Logf("the publisher said:\n%s", said)
	for _, n := range nodes {
		l.expectRelease(t, n, first)
	}
	var history []struct {
		Kind, Message, Release, By string
		At                         time.Time
	}
	if err := json.Unmarshal([]byte(l.relman(t, "history", "-o", "json").stdout), &history); err != nil || len(history) != 3 {
		t.Fatalf("%d epochs: %v", len(history), err)
	}
	bad := history[1].Release
	if h := history[0]; h.Kind != "revert" || h.Release != first || h.By != "manager" || !strings.Contains(h.Message, answer) {
		t.Errorf("history says %+v", h)
	}
	t.Logf("reverted by itself %.1f s after the flip", history[0].At.Sub(history[1].At).Seconds())

	for _, to := range []string{bad, "latest"} {
		r := run(t, l.env, programs(t).relman, "flip", to)
		if r.code != 4 || !strings.Contains(r.stderr, "bad: rejected by 1 of 5 nodes ("+answer) {
			t.Errorf("a flip to the release that was reverted: exit %d\n%s", r.code, r.stderr)
		}
		t.Logf("relman flip %s: exit %d\n%s", to, r.code, r.stderr)
	}
	l.bakesWell(t, bake)
	l.keepsBad(t)
	verifyHistory(t, l.env)
}

// bakesWell: a publisher waits for the whole bake of a release that is well, also when
// the manager that flipped is killed meanwhile.
func (l *lab) bakesWell(t *testing.T, bake time.Duration) {
	t.Helper()
	before := l.activeRelease(t)
	publisher := start(t, "publisher", l.env, programs(t).relman, "publish", l.bakedBuild(t, "3"), "-s", "www")
	eventually(t, 30*time.Second, "the third release is active", func() error { return expectNot(l.activeRelease(t), before) })
	third, flipped := l.activeRelease(t), time.Now()
	eventually(t, bake, "the status says that it bakes well", func() error {
		if s := l.relman(t, "status").stdout; !strings.Contains(s, "BAKES") || !strings.Contains(s, "good on 5/5 nodes") {
			return fmt.Errorf("it says\n%s", s)
		}
		return nil
	})
	l.managers[l.leader(t)].kill()
	select {
	case <-publisher.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the publisher still waits:\n%s", publisher.output())
	}
	if took := time.Since(flipped); publisher.err != nil || !strings.Contains(publisher.output(), "LIVE") || took < bake-2*time.Second || l.activeRelease(t) != third {
		t.Errorf("the publisher ended with %v after %v, %s is active:\n%s", publisher.err, took, l.activeRelease(t), publisher.output())
	}
	t.Logf("baked in %.1f s, the leader killed:\n%s", time.Since(flipped).Seconds(), publisher.output())
}

// keepsBad: an operator keeps a release that more nodes than one find bad, where two
// may.
func (l *lab) keepsBad(t *testing.T) {
	t.Helper()
	l.relman(t, "admin", "policy", "set", "www", "--bake-max-bad-nodes", "40%")
	defer l.rots(t, "n1", "version 4 is well")()
	defer l.rots(t, "n2", "version 4 is well")()
	publisher := start(t, "publisher", l.env, programs(t).relman, "publish", l.bakedBuild(t, "4"), "-s", "www")
	var status struct{ Baking *struct{ Bad []string } }
	eventually(t, time.Minute, "two nodes find it bad", func() error {
		if err := json.Unmarshal([]byte(l.relman(t, "status", "-o", "json").stdout), &status); err != nil {
			return err
		}
		if status.Baking == nil || !slices.Equal(status.Baking.Bad, []string{"n1", "n2"}) {
			return fmt.Errorf("it bakes: %+v", status.Baking)
		}
		return nil
	})
	if r := l.relman(t, "confirm"); !strings.Contains(r.stdout+r.stderr, "CONFIRMED") {
		t.Errorf("confirm said %s%s", r.stdout, r.stderr)
	}
	select {
	case <-publisher.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("the publisher still waits:\n%s", publisher.output())
	}
	if publisher.err != nil || !strings.Contains(publisher.output(), "confirmed") {
		t.Errorf("the publisher ended with %v:\n%s", publisher.err, publisher.output())
	}
}
