package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wantKilled waits until a process has ended by SIGKILL at a failpoint.
func wantKilled(t *testing.T, p *process, point string) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s goes on: it never came to %s\n%s", p.name, point, p.output())
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL || !strings.Contains(p.output(), "failpoint "+point+": kill") {
		t.Fatalf("%s was not killed at %s: %v\n%s", p.name, point, p.err, p.output())
	}
}

// largeBuild has several packs of contents that no other version has.
func largeBuild(t *testing.T, version int) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.html"), fmt.Sprintf("<h1>version %d</h1>", version))
	writeFile(t, filepath.Join(dir, "same.txt"), strings.Repeat("the same in every version\n", 1000))
	body := make([]byte, 3<<20)
	for i := range 7 {
		r := rand.NewChaCha8([32]byte{byte(version), byte(i)})
		_, _ = r.Read(body) // never fails
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.bin", i)), string(body))
	}
	return dir
}

// TestPublish_killed: a publisher that is killed, wherever it is, changes
// nothing that visitors see; the same command again completes, and sends again
// at most the packs that were under way.
func TestPublish_killed(t *testing.T) {
	patient(t)
	t.Parallel()
	d := startDev(t, t.TempDir(), "--nodes", "2")
	shown := largeBuild(t, 0)
	d.relman(t, "publish", shown)
	const pack = 11 << 20 // at most, of these
	for i, point := range []string{
		"publish.after-mark", "publish.after-base", "publish.after-scan", "publish.mid-read", "publish.after-first-pack", "publish.after-packs",
		"publish.after-upload", "publish.after-layout", "publish.after-manifest", "publish.after-register", "publish.after-ask",
	} {
		build, before, stored := largeBuild(t, i+1), d.active(t), d.storedPacks(t)
		cache := t.TempDir()
		env := append([]string{"XDG_CACHE_HOME=" + cache}, d.env...)
		p := start(t, "publish", append([]string{"RELMAN_FAILPOINTS=" + point + "=kill"}, env...), programs(t).relman, "publish", build)
		wantKilled(t, p, point)
		asked := point == "publish.after-ask" // then the cluster goes on alone
		if !asked {
			if now := d.active(t); now != before {
				t.Fatalf("killed at %s: active changed from %s to %s", point, before, now)
			}
			d.expectSite(t, "www", shown)
		}
		left := d.storedPacks(t) - stored
		if i%2 == 1 { // another machine has no cache
			env = d.env
		}
		args := []string{"publish", build, "-o", "json"}
		if asked {
			args = append(args, "--queue")
		}
		r := must(t, env, programs(t).relman, args...)
		var again struct {
			Upload struct {
				Sent int64 `json:"sent_bytes"`
			}
		}
		if err := json.Unmarshal([]byte(r.stdout), &again); err != nil {
			t.Fatal(err)
		}
		// What was under way when the publisher was killed may arrive, or not.
		all := d.storedPacks(t) - stored
		if again.Upload.Sent > all-left+pack || again.Upload.Sent+left < all {
			t.Errorf("killed at %s: %d bytes of packs were there, %d were sent again, of %d", point, left, again.Upload.Sent, all)
		}
		d.expectSite(t, "www", build)
		shown = build
		t.Logf("%-26s %8d bytes of packs were there, %8d of %8d sent by the next", point, left, again.Upload.Sent, all)
	}
	verifyHistory(t, d.env)
}

// storedPacks is how many bytes of packs the embedded store has.
func (d *dev) storedPacks(t testing.TB) (sum int64) {
	t.Helper()
	for name := range d.packs(t) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

// TestPrefetch_killed: an agent that is killed, wherever it is in getting ready
// for a release, holds up that release and nothing else; started again, it
// completes, and both nodes show what was published.
func TestPrefetch_killed(t *testing.T) {
	patient(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	shown := generatedSite(t, 0)
	active := l.publish(t, shown)
	for i, point := range []string{
		"node.after-load", "node.after-retract", "node.before-fetch", "node.mid-fetch", "node.after-fetch",
		"node.mid-place", "node.after-fill", "node.after-sync", "node.before-claim", "node.after-claim",
	} {
		l.agents["n2"].stop(t)
		l.agent(t, "n2", "RELMAN_FAILPOINTS="+point+"=kill")
		l.expectRelease(t, "n2", active)
		build := generatedSite(t, i+1)
		p := start(t, "publish", l.env, programs(t).relman, "publish", build, "-s", "www", "-o", "json")
		wantKilled(t, l.agents["n2"], point)
		if point != "node.after-claim" { // then all is ready
			if now := l.activeRelease(t); now != active {
				t.Fatalf("killed at %s: active changed from %s to %s", point, active, now)
			}
			compare(t, "www.localhost", shown, []string{"http://" + l.addrs["n1"], l.current("n1"), l.current("n2")})
		}
		l.agent(t, "n2")
		select {
		case <-p.done:
		case <-time.After(time.Minute):
			t.Fatalf("killed at %s: the publish does not end\n%s", point, p.output())
		}
		if p.err != nil {
			t.Fatalf("killed at %s: publish: %v\n%s", point, p.err, p.output())
		}
		active, shown = l.activeRelease(t), build
		for _, n := range nodes {
			l.expectRelease(t, n, active)
		}
		eventually(t, 10*time.Second, "current is the release", func() error {
			if b, err := os.ReadFile(filepath.Join(l.current("n2"), "index.html")); err != nil || !strings.Contains(string(b), fmt.Sprintf("version %d<", i+1)) {
				return errors.Join(fmt.Errorf("it is %q", b), err)
			}
			return nil
		})
		compare(t, "www.localhost", build, []string{"http://" + l.addrs["n1"], "http://" + l.addrs["n2"], l.current("n1"), l.current("n2")})
		t.Logf("%-20s killed, served on, started again: %s", point, active)
	}
	verifyHistory(t, l.env)
}

// current is what other web servers on a node serve.
func (l *lab) current(node string) string {
	return filepath.Join(l.dir, node, "sites", "www", "current")
}
