package nodeagent

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

var testSecret = cluster.Secret(bytes.Repeat([]byte{7}, 32)) //nolint:gochecknoglobals // a constant

// threeReleases is a front that holds three: 1 was active with epoch 4, 2 is with
// epoch 5, and 3 is not active yet. Each has a page, a part of it, and a file with
// its hash in the name.
func threeReleases(t *testing.T) (s *Server, f *Front, rs []*Release) {
	t.Helper()
	for seq, name := range []string{"one", "two", "three"} {
		rs = append(rs, testRelease(t, "www", uint64(seq+1), map[string]string{
			"index.html": "<h1>" + name + "</h1>", "app.css": name,
			"app." + strings.Repeat("ab1", seq+3) + ".js": name,
			name + ".txt": name, name + ".html": name,
		}))
	}
	f = NewFront("www")
	f.Serve(cluster.DefaultServing(), testSecret)
	f.SetConfirmed(true)
	f.Show(rs[1], 5)
	f.Hold(rs, nil)
	s = NewServer(nil)
	s.Add(f)
	return s, f, rs
}

func (h *holdings) pinTo(epoch release.Epoch, r *Release) string { return h.pins.value(epoch, r.ID()) }

func TestVisit(t *testing.T) {
	s, f, rs := threeReleases(t)
	h := f.holdings.Load()
	one, two, three := h.pinTo(4, rs[0]), h.pinTo(5, rs[1]), h.pinTo(6, rs[2])
	soon := time.Now().Add(time.Hour)
	peek := PreviewToken("www", testSecret, rs[2].ID(), soon)
	hash := func(seq int) string { return "/app." + strings.Repeat("ab1", seq+2) + ".js" }
	for _, c := range []struct {
		about, path string
		headers     []string
		code        int
		body        string // of 200
		pins        bool   // to release two
	}{
		{"a page without a pin", "/", nil, 200, "<h1>two</h1>", true},
		{"an asset without a pin", "/app.css", nil, 200, "two", false},
		{"a page pinned to what is shown", "/", cookie(two), 200, "<h1>two</h1>", true},
		{"a part pinned to what is shown", "/app.css", cookie(two), 200, "two", false},
		{"a new page of a visitor of an older one", "/", cookie(one), 200, "<h1>two</h1>", true},
		{"a part of an older page", "/app.css", cookie(one), 200, "one", false},
		{"a part that only the older release has", "/one.txt", cookie(one), 200, "one", false},
		{"a page in a page", "/", append(cookie(one), "Sec-Fetch-Dest", "iframe"), 200, "<h1>one</h1>", false},
		{"a script's page", "/", append(cookie(one), "Sec-Fetch-Dest", "empty"), 200, "<h1>one</h1>", false},
		{"a document that does not look like a page", "/app.css", append(cookie(one), "Sec-Fetch-Dest", "document"), 200, "two", false},
		{"other cookies around it", "/app.css", []string{"Cookie", "a=b; relman=" + one + "; c=d"}, 200, "one", false},
		{"a cookie whose name only ends so", "/app.css", []string{"Cookie", "xrelman=" + one}, 200, "two", false},
		{"a pin in the header", "/", []string{"Relman-Pin", one}, 200, "<h1>one</h1>", false},
		{"a pin in the path", "/_r/" + one + "/", nil, 200, "<h1>one</h1>", false},
		{"a pin in the path, a part", "/_r/" + one + "/app.css", nil, 200, "one", false},
		{"a wrong pin in the path", "/_r/" + one + "x/", nil, 404, "", false},
		{"no pin in the path", "/_r/", nil, 404, "", false},
		{"a bare release in the path", "/_r/" + string(rs[2].ID()) + "/", nil, 404, "", false},
		{"a pin of a later epoch that etcd confirms not, held", "/", cookie(three), 200, "<h1>three</h1>", false},
		{"the same, a part", "/app.css", cookie(three), 200, "three", false},
		{"a later epoch and a release that is not held", "/", cookie(h.pins.value(6, "000009-0123456789ab")), 503, "", false},
		{"an earlier epoch and a release that is not held", "/app.css", cookie(h.pins.value(3, "000001-0123456789ab")), 200, "two", false},
		{"a forged pin", "/app.css", cookie("9" + three[1:]), 200, "two", false},
		{"a pin of another site", "/app.css", cookie(newPins("mkt", cluster.DefaultServing(), testSecret).value(4, rs[0].ID())), 200, "two", false},
		{"garbage", "/app.css", cookie(strings.Repeat(".", 200)), 200, "two", false},
		{"a hashed asset of an older release", hash(1), nil, 200, "one", false},
		{"a hashed asset of the next release", hash(3), nil, 200, "three", false},
		{"a hashed asset that nobody has", "/app.ab1ab1ab1ab1ab1ab1.js", nil, 404, "", false},
		{"what the release removed", "/one.txt", nil, 404, "", false},
		{"what the release removed, for who is pinned", "/one.txt", cookie(two), 200, "one", false},
		{"what is not released yet", "/three.txt", nil, 404, "", false},
		{"what is not released yet, for who is pinned", "/three.txt", cookie(two), 404, "", false},
		{"a page that is not released yet", "/three.html", cookie(two), 404, "", false},
		{"a page that was removed", "/one.html", cookie(two), 404, "", false},
		{"a preview", "/", cookie(peek), 200, "<h1>three</h1>", false},
		{"a page of a preview", "/three.html", cookie(peek), 200, "three", false},
		{"a preview that has expired", "/", cookie(PreviewToken("www", testSecret, rs[2].ID(), time.Now().Add(-time.Second))), 200, "<h1>two</h1>", true},
		{"a preview of what is not held", "/", cookie(PreviewToken("www", testSecret, "000009-0123456789ab", soon)), 503, "", false},
	} {
		t.Run(c.about, func(t *testing.T) {
			r := ask(s, "GET", c.path, c.headers...)
			if r.Code != c.code || c.code == 200 && r.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", r.Code, r.Body, c.code, c.body)
			}
			want := ""
			if c.pins {
				want = "relman=" + two + "; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
			}
			if got := r.Header().Get("Set-Cookie"); got != want {
				t.Errorf("Set-Cookie %q, want %q", got, want)
			}
			if strings.Contains(c.about, "preview") && !c.pins && r.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", r.Header().Get("Cache-Control"))
			}
		})
	}
}

func cookie(v string) []string { return []string{"Cookie", "relman=" + v} }

// TestVisit_unpinned: a site whose visitors are not pinned, and a node that
// cannot sign, know no pins, and their answers do not depend on cookies.
func TestVisit_unpinned(t *testing.T) {
	for name, serve := range map[string]func(f *Front){
		"off": func(f *Front) {
			off := cluster.DefaultServing()
			off.Pin = cluster.PinOff
			f.Serve(off, testSecret)
		},
		"no secret": func(f *Front) { f.Serve(cluster.DefaultServing(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s, f, rs := threeReleases(t)
			one := f.holdings.Load().pinTo(4, rs[0])
			serve(f)
			r := ask(s, "GET", "/")
			if r.Body.String() != "<h1>two</h1>" || r.Header().Get("Set-Cookie") != "" || r.Header().Get("Vary") != "" {
				t.Errorf("%q %v", r.Body, r.Header())
			}
			want := "one" // somebody's pin of before is honoured while it lasts
			if name == "no secret" {
				want = "two"
			}
			if r := ask(s, "GET", "/app.css", cookie(one)...); r.Body.String() != want {
				t.Errorf("with a pin: %q, want %q", r.Body, want)
			}
		})
	}
}

func TestVisit_caching(t *testing.T) {
	s, _, _ := threeReleases(t)
	for path, want := range map[string][2]string{
		"/":                    {"no-cache", "Cookie"},
		"/app.css":             {"no-cache", "Cookie"},
		"/app.ab1ab1ab1ab1.js": {"public, max-age=31536000, immutable", ""},
		"/app.ab1ab1ab1.js":    {"public, max-age=31536000, immutable", ""},
		"/nothing":             {"no-cache", "Cookie"},
		"/nothing.js":          {"no-store", "Cookie"},
	} {
		r := ask(s, "GET", path)
		if got := [2]string{r.Header().Get("Cache-Control"), r.Header().Get("Vary")}; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestVisit_unconfirmed: a node that does not know what is active does not say of
// an asset that it is nowhere.
func TestVisit_unconfirmed(t *testing.T) {
	s, f, _ := threeReleases(t)
	f.SetConfirmed(false)
	for path, want := range map[string]int{"/": 200, "/app.ab1ab1ab1ab1.js": 200, "/app.ab1ab1ab1ab1ab1ab1.js": 503, "/nothing.js": 404} {
		if r := ask(s, "GET", path); r.Code != want || r.Header().Get("Cache-Control") == "" {
			t.Errorf("%s: %d %v", path, r.Code, r.Header())
		}
	}
}

func TestPreview(t *testing.T) {
	s, _, rs := threeReleases(t)
	token := PreviewToken("www", testSecret, rs[2].ID(), time.Now().Add(time.Hour))
	r := ask(s, "GET", "//evil.example/x?a=b&relman-preview="+token)
	if r.Code != 302 || r.Header().Get("Location") != "?a=b" || !strings.HasPrefix(r.Header().Get("Set-Cookie"), "relman="+token+"; Path=/; Max-Age=3") {
		t.Errorf("%d %v", r.Code, r.Header())
	}
	if r := ask(s, "GET", "/?relman-preview=off"); r.Code != 302 || !strings.HasPrefix(r.Header().Get("Set-Cookie"), "relman=; Path=/; Max-Age=0") {
		t.Errorf("off: %d %v", r.Code, r.Header())
	}
	if r := ask(s, "GET", "/?relman-preview="+token+"x"); r.Code != 403 || r.Header().Get("Set-Cookie") != "" {
		t.Errorf("forged: %d %v", r.Code, r.Header())
	}
}

// TestNode_catchUp: a visitor who has seen a flip elsewhere makes the node
// learn of it.
func TestNode_catchUp(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.change(func(int64) { n.etcd.view.Secret = testSecret })
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.claimed()
	n.etcd.change(func(int64) { n.etcd.deaf = true })
	n.etcd.flip(t)
	n.answers(r1, "") // nobody has told it
	h := n.agent.sites[0].front.holdings.Load()
	pin := func(epoch release.Epoch) []string { return cookie(h.pins.value(epoch, r2.Manifest.ID())) }
	answers := make(chan *httptest.ResponseRecorder)
	const visitors = 50
	for range visitors {
		go func() { answers <- ask(n.agent.Handler(), "GET", "/index.html", pin(h.shown.epoch+1)...) }()
	}
	for range visitors {
		if r := <-answers; r.Body.String() != "two" {
			t.Errorf("%d %q", r.Code, r.Body)
		}
	}
	asked := func() int {
		n.etcd.mu.Lock()
		defer n.etcd.mu.Unlock()
		return n.etcd.asked
	}
	if got := asked(); got < 1 || got >= visitors {
		t.Errorf("etcd was asked %d times", got)
	}
	n.answers(r2, "")
	n.etcd.change(func(int64) { n.etcd.deaf = false })
	n.serves(r2)
	before := asked()
	if r := ask(n.agent.Handler(), "GET", "/index.html", pin(99)...); r.Body.String() != "two" || asked() == before {
		t.Errorf("an epoch that nobody has seen: %d %q, asked %d times", r.Code, r.Body, asked()-before)
	}
	n.serves(r2)
}

// TestNode_catchUpStarted: a node that has just started and has not heard of a flip
// does not take a pin to it for one that etcd has forgotten, also when what the watch
// tells first is older than the answer.
func TestNode_catchUpStarted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.change(func(rev int64) {
		n.etcd.view.Secret = testSecret
		n.etcd.view.Serving = cluster.Entry[cluster.Serving]{Value: cluster.DefaultServing(), Mod: rev, Create: rev}
	})
	n.start()
	b := firstBuild()
	n.rollOut(b)
	h := n.agent.sites[0].front.holdings.Load()
	n.halt()
	r2 := n.publish(b.with("index.html", "two"))
	var old cluster.NodeView
	n.etcd.change(func(int64) { old, n.etcd.deaf = n.etcd.view, true })
	n.etcd.flipElsewhere(r2.Manifest.ID(), 1)
	n.start()
	n.until("it shows what it showed", func() error {
		if r := ask(n.agent.Handler(), "GET", "/index.html"); r.Code != 200 {
			return fmt.Errorf("%d %q", r.Code, r.Body)
		}
		return nil
	})
	s := n.agent.sites[0]
	pin := cookie(h.pins.value(h.shown.epoch+1, r2.Manifest.ID()))
	if r := ask(n.agent.Handler(), "GET", "/index.html", pin...); r.Code != 503 {
		t.Errorf("before it has heard of anything: %d %q", r.Code, r.Body)
	}
	s.see(old)
	if s.catchUpTo(t.Context(), h.shown.epoch+1) {
		t.Error("what the watch told is older than the answer, and was believed")
	}
	if !s.catchUpTo(t.Context(), 99) {
		t.Error("etcd knows no epoch 99, and that was not believed")
	}
}

// TestNode_catchUpAway: while etcd is away, visitors who have seen a flip elsewhere
// do not wait for it again and again.
func TestNode_catchUpAway(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.change(func(int64) { n.etcd.view.Secret = testSecret })
	n.start()
	b := firstBuild()
	n.rollOut(b)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.claimed()
	n.etcd.change(func(int64) { n.etcd.deaf, n.etcd.down = true, true })
	h := n.agent.sites[0].front.holdings.Load()
	for range 20 {
		r := ask(n.agent.Handler(), "GET", "/index.html", cookie(h.pins.value(h.shown.epoch+1, r2.Manifest.ID()))...)
		if r.Body.String() != "two" {
			t.Fatalf("%d %q", r.Code, r.Body)
		}
	}
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	if n.etcd.asked != 1 {
		t.Errorf("etcd was asked %d times for 20 visitors within a moment", n.etcd.asked)
	}
}

// TestSite_hear: what etcd answered stands against views of the watch that are
// older, and no longer than until the watch has come so far.
func TestSite_hear(t *testing.T) {
	entry := func(epoch release.Epoch, mod int64) cluster.Entry[cluster.Active] {
		return cluster.Entry[cluster.Active]{Value: cluster.Active{Epoch: epoch}, Mod: mod, Create: 1}
	}
	s := &site{cfg: &Config{}, disk: &disk{}, front: NewFront("www"), wake: make(chan struct{}, 1), wasActive: map[release.ID]bool{}}
	s.view, s.seen = cluster.NodeView{Revision: 10, Active: entry(1, 10)}, true
	s.applied = state{Epoch: 1}
	s.hear(entry(2, 12), 15)
	if got := s.view.Active.Mod; got != 12 {
		t.Fatalf("active of revision %d", got)
	}
	s.see(cluster.NodeView{Revision: 11, Active: entry(1, 10)}) // a late word of something else
	if got := s.view.Active.Mod; got != 12 || s.refusing != nil {
		t.Errorf("a late view: active of revision %d, refusing %v", got, s.refusing)
	}
	s.see(cluster.NodeView{Revision: 16, Active: entry(3, 16)})
	if got := s.view.Active.Mod; got != 16 || s.heard != nil {
		t.Errorf("a newer view: active of revision %d, %v", got, s.heard)
	}
	s.hear(entry(2, 12), 12) // an answer that took long
	if got := s.view.Active.Mod; got != 16 {
		t.Errorf("a late answer: active of revision %d", got)
	}
}

func TestHashed(t *testing.T) {
	for name, want := range map[string]bool{
		"app.3f9ac1d2.js": true, "assets/index-BfX8a9zQ.css": true, "a/b/chunk.0a1b2c3d4e5f60718293.js.map": true,
		"_next/static/chunks/main-app-4f1b2a6c8d9e0f12.js": true, "fonts/inter.3f9ac1d2.woff2": true, "3f9ac1d2e4b5.png": true,
		"app.js": false, "jquery-3.7.1.min.js": false, "report-20241231.pdf": false, "report.20241231.pdf": false,
		"bootstrap5.css": false, "photo-Version2Beta.jpg": false, "deadbeef.js": false, "page.3f9ac1d2.html": false,
		"LICENSE": false, "app.3f9ac1d2": false, "dir.3f9ac1d2/app.js": false, ".3f9ac1d2.js": false, "": false,
		"IMG_20240102_101112.jpg": false, "release-notes-2024.css": false, "accessed.js": false, "v1.2.3-alpha.js": false,
	} {
		if hashed(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
