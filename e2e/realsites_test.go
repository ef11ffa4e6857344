package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestRealSites publishes real builds, rolls back, and compares every file of
// every node with its input after each step.
func TestRealSites(t *testing.T) {
	patient(t)
	docs, mkt := realSite(t, "docs.tar.zst", "docs-linux"), realSite(t, "mkt.tar.zst", "mkt")
	d := startDev(t, roomyDir(t))
	for _, v := range []string{"v1", "v2", "v3"} {
		r := d.relman(t, "publish", filepath.Join(docs, v), "-s", "www")
		t.Log(r.stdout + r.stderr)
		d.expectSite(t, "www", filepath.Join(docs, v))
	}
	d.relman(t, "admin", "site", "add", "mkt")
	d.relman(t, "publish", filepath.Join(mkt, "v1"), "-s", "mkt")
	d.expectSite(t, "mkt", filepath.Join(mkt, "v1"))
	d.relman(t, "rollback", "-s", "www")
	d.expectSite(t, "www", filepath.Join(docs, "v2"))
	d.expectSite(t, "mkt", filepath.Join(mkt, "v1"))
}

// TestRestart: everything stopped and started again serves the same release
// before anything is published.
func TestRestart(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	d := startDev(t, state, filepath.Join("sample", "v1"))
	d.expectSite(t, "www", filepath.Join("sample", "v1"))
	d.relman(t, "publish", filepath.Join("sample", "v2"))
	d.stop(t)

	d = startDev(t, state)
	d.expectSite(t, "www", filepath.Join("sample", "v2"))
	d.relman(t, "rollback")
	d.expectSite(t, "www", filepath.Join("sample", "v1"))
	d.kill()

	d = startDev(t, state)
	d.expectSite(t, "www", filepath.Join("sample", "v1"))
}

// TestEtcdctl: operators look at the truth with plain etcdctl.
func TestEtcdctl(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), filepath.Join("sample", "v1"))
	out := must(t, d.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/active").stdout
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], `{"release":"000001-`) {
		t.Fatalf("the active release is not one readable line:\n%s", out)
	}
	id := lines[1][len(`{"release":"`):][:len("000001-3f9ac1d2e4b5")]
	out = must(t, d.env, programs(t).etcdctl, "get", "--prefix", "/relman/v1/sites/www/ready/").stdout
	for _, node := range []string{"node-1", "node-2", "node-3", "node-4"} {
		if !strings.Contains(out, "/main/"+node+"\n"+id+"\n") {
			t.Errorf("%s does not stand as ready with %s:\n%s", node, id, out)
		}
	}
}
