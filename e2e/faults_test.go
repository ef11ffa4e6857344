package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull: a node whose disk is too small for a release, or has too few
// inodes, says so by name; the active release is served on, also by that node.
// With room, the same publish succeeds.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, small, large, said string }{
		{"bytes", "size=2m", "size=200m", "n2: disk full"},
		{"inodes", "size=200m,nr_inodes=150", "size=200m,nr_inodes=5000", "needs 308 files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			diskFull(t, c.small, c.large, c.said)
		})
	}
}

func diskFull(t *testing.T, small, large, said string) {
	l := newLab(t)
	dir := filepath.Join(l.dir, "n2")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, small); err != nil {
		skip(t, "no small file system: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		l.agent(t, n)
		t.Cleanup(func() { l.agents[n].kill() }) // before the unmount
	}
	l.waitNodes(t, nodes)
	first := l.publish(t, filepath.Join("sample", "v1"))

	r := run(t, l.env, programs(t).relman, "publish", generatedSite(t, 1), "--timeout", "4s")
	if r.code != 6 || !strings.Contains(r.stdout+r.stderr, "n2: disk full") || !strings.Contains(r.stdout+r.stderr, said) || strings.Contains(r.stdout, "LIVE") {
		t.Fatalf("exit %d, want 6 and the node with its reason\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	for _, n := range nodes {
		l.expectRelease(t, n, first)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, large); err != nil {
		t.Fatal(err)
	}
	second := l.publish(t, generatedSite(t, 1))
	for _, n := range nodes {
		l.expectRelease(t, n, second)
	}
}

// TestCorruptPack: an object that was damaged in the store is named with the
// nodes that met it, nothing flips, and the active release is served on. When the object
// is whole again the same content can be published.
func TestCorruptPack(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), filepath.Join("sample", "v1"))
	before := d.active(t)
	known := d.packs(t)
	p := start(t, "publish", append(d.env, "RELMAN_FAILPOINTS=publish.after-packs=sleep:2s"),
		programs(t).relman, "publish", generatedSite(t, 1), "--timeout", "6s")
	var pack string
	eventually(t, 20*time.Second, "the packs are up", func() error {
		if !strings.Contains(p.output(), "publish.after-packs") {
			return errors.New("not yet")
		}
		for f := range d.packs(t) {
			if !known[f] {
				pack = f
			}
		}
		return nil
	})
	if pack == "" {
		t.Fatal("no new pack")
	}
	whole := corrupt(t, pack)
	<-p.done
	name := strings.TrimSuffix(filepath.Base(pack), ".pack")
	if code := p.cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(p.output(), name) {
		t.Fatalf("exit %d, want 6 and the name of the object\n%s", code, p.output())
	}
	t.Logf("exit 6: %s", p.output())
	if now := d.active(t); now != before {
		t.Fatalf("active changed to %s", now)
	}
	d.expectSite(t, "www", filepath.Join("sample", "v1"))

	if err := os.WriteFile(pack, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	build := generatedSite(t, 1)
	d.relman(t, "publish", build)
	d.expectSite(t, "www", build)
}

// packs are the pack objects in the embedded store's directory.
func (d *dev) packs(t testing.TB) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, f := range listFiles(t, d.state) {
		if strings.HasSuffix(f, ".pack") {
			found[filepath.Join(d.state, f)] = true
		}
	}
	return found
}

// corrupt flips a byte in every frame-sized stretch of a file, in place, and
// returns what it was.
func corrupt(t testing.TB, path string) (whole []byte) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, whole...)
	for i := 100; i < len(damaged); i += 50_000 {
		damaged[i] ^= 0x55
	}
	if err := os.WriteFile(path, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	return whole
}

// TestInterrupted: Ctrl-C in a publish says what goes on without it, with
// exit code 130.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), filepath.Join("sample", "v1"))
	before := d.active(t)
	p := start(t, "publish", append(d.env, "RELMAN_FAILPOINTS=publish.after-packs=sleep:1s"),
		programs(t).relman, "publish", filepath.Join("sample", "v2"))
	eventually(t, 20*time.Second, "the packs are up", func() error {
		if !strings.Contains(p.output(), "publish.after-packs") {
			return errors.New("not yet")
		}
		return nil
	})
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 130 {
		t.Fatalf("exit %d, want 130\n%s", code, p.output())
	}
	if now := d.active(t); now != before {
		t.Fatalf("active changed to %s", now)
	}
	t.Logf("exit 130: %s", p.output())
	d.relman(t, "publish", filepath.Join("sample", "v2"))
}

// TestUnchanged: publishing what is active already is a success that changes
// nothing.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), filepath.Join("sample", "v1"))
	before := d.active(t)
	r := d.relman(t, "publish", filepath.Join("sample", "v1"), "-o", "json")
	var out struct{ Changed *bool }
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || out.Changed == nil || *out.Changed {
		t.Fatalf("publish of the same build printed %s (%v)", r.stdout, err)
	}
	if now := d.active(t); now != before {
		t.Fatalf("active changed to %s", now)
	}
}
