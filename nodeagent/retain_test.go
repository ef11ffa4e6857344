package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// assetOf is a path with a hash in it.
func assetOf(i int) string { return fmt.Sprintf("assets/app.%012x.js", 0xa1b2c3000+i) }

func retainedBuild(i int) build {
	return firstBuild().with("index.html", fmt.Sprint("page ", i)).with("app.css", fmt.Sprint("style ", i)).with(assetOf(i), fmt.Sprint("asset ", i))
}

// TestNode_retain: of releases that no buffer holds any more, assets are still
// answered, also after a restart, for as many releases and as long as is said.
func TestNode_retain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	serving := cluster.DefaultServing()
	serving.Retain = 2
	n.etcd.change(func(rev int64) {
		n.etcd.view.Secret = testSecret
		n.etcd.view.Serving = cluster.Entry[cluster.Serving]{Value: serving, Mod: rev, Create: rev}
	})
	n.start()
	var ids []release.ID
	var pin []string
	for i := range 6 {
		ids = append(ids, n.rollOut(retainedBuild(i)).Manifest.ID())
		if i == 1 {
			h := n.agent.sites[0].front.holdings.Load()
			pin = cookie(h.pins.value(h.shown.epoch, ids[1]))
		}
	}
	// Held: 3, 4, 5. Kept: 1, 2.
	look := func(when string, nowhere int) {
		t.Helper()
		for i := range 6 {
			want := 200
			if i == 0 {
				want = nowhere
			}
			if r := ask(n.agent.Handler(), "GET", "/"+assetOf(i)); r.Code != want || want == 200 && r.Body.String() != fmt.Sprint("asset ", i) {
				t.Errorf("%s: asset %d: %d %q", when, i, r.Code, r.Body)
			}
		}
		for path, want := range map[string]string{"/app.css": "style 1", "/" + assetOf(1): "asset 1", "/always": "here", "/index.html": "page 5"} {
			if r := ask(n.agent.Handler(), "GET", path, pin...); r.Body.String() != want {
				t.Errorf("%s, pinned to release 1: %s: %d %q, want %q", when, path, r.Code, r.Body, want)
			}
		}
		if r := ask(n.agent.Handler(), "GET", "/app.css"); r.Body.String() != "style 5" {
			t.Errorf("%s: %q", when, r.Body)
		}
	}
	look("at once", 404)
	n.halt()
	n.etcd.change(func(int64) { n.etcd.down = true })
	n.start()
	n.until("opened", func() error {
		if ask(n.agent.Handler(), "GET", "/index.html").Code != 200 {
			return errNotYet
		}
		return nil
	})
	n.until("all of it opened", func() error {
		n.agent.mu.Lock()
		defer n.agent.mu.Unlock()
		if got := len(n.agent.sites[0].front.holdings.Load().olds); got != 2 {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	look("without etcd, after a restart", 503) // another node may know better
	n.etcd.change(func(int64) { n.etcd.down = false })
	dir := filepath.Join(n.siteDir(), retainedDir)
	info, err := os.Stat(filepath.Join(n.siteDir(), servedFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	n.until("entered", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return fmt.Errorf("%s", why)
		}
		return nil
	})
	s := n.agent.sites[0]
	s.dropRetained()
	if r := ask(n.agent.Handler(), "GET", "/"+assetOf(2)); r.Code != 404 || r.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("given up: %d %v", r.Code, r.Header())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestWorthKeeping: of a release that nobody was shown, only what cannot be
// guessed is kept.
func TestWorthKeeping(t *testing.T) {
	old := testRelease(t, "www", 1, map[string]string{"index.html": "a", "same.css": "s", "other.css": "o", "gone.png": "g", "FY25Q3Report.pdf": "r", assetOf(1): "1"}).manifest
	now := testRelease(t, "www", 2, map[string]string{"index.html": "b", "same.css": "s", "other.css": "p", assetOf(2): "2"}).manifest
	for was, want := range map[bool]string{true: "FY25Q3Report.pdf " + assetOf(1) + " gone.png other.css", false: assetOf(1)} {
		var got []string
		for _, f := range worthKeeping(old, now, was) {
			got = append(got, f.Path)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("active before %v: %v, want %s", was, got, want)
		}
	}
}

// TestSite_prune: what is kept for long enough goes.
func TestSite_prune(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	for i := range 4 {
		n.rollOut(retainedBuild(i))
	}
	s := n.agent.sites[0]
	n.halt()
	d, err := openDisk(n.dir, www, 3)
	if err != nil {
		t.Fatal(err)
	}
	s.disk = d
	defer s.close()
	if err := s.readRetained(); err != nil || len(s.retained) != 1 {
		t.Fatalf("%d kept, %v", len(s.retained), err)
	}
	if !s.retained[0].rel.public.Load() {
		t.Error("what was active is taken for what nobody was shown")
	}
	s.retained[0].since = time.Now().Add(-25 * time.Hour)
	s.prune()
	if len(s.retained) > 0 {
		t.Error("kept for more than a day")
	}
}
