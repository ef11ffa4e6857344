package nodeagent

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// twoReleases is a server of a site that shows the first of two releases and holds both.
func twoReleases(t *testing.T, first, second map[string]string) (*Server, *Front, *Release, *Release) {
	t.Helper()
	one, two := testRelease(t, "www", 1, first), testRelease(t, "www", 2, second)
	f := NewFront("www")
	f.Serve(cluster.DefaultServing(), testSecret)
	f.SetConfirmed(true)
	f.Show(one, 4)
	f.Hold([]*Release{one, two}, nil)
	s := NewServer(nil)
	s.Add(f)
	return s, f, one, two
}

// site404 is a build with a page for what is not there.
func site404(n string) map[string]string {
	return map[string]string{"index.html": n, "404.html": "lost " + n, "style.css": "css " + n}
}

// TestVisit_404: the page for what is not there has parts like any other.
func TestVisit_404(t *testing.T) {
	s, f, _, two := twoReleases(t, site404("one"), site404("two"))
	pin := given(ask(s, "GET", "/", "Sec-Fetch-Dest", "document").Header())
	f.Show(two, 5)
	r := ask(s, "GET", "/nowhere", append(cookie(pin), "Sec-Fetch-Dest", "document")...)
	css := ask(s, "GET", "/style.css", append(cookie(given(r.Header())), "Sec-Fetch-Dest", "style")...)
	if r.Code != 404 || r.Body.String() != "lost two" || css.Body.String() != "css two" {
		t.Errorf("%d, page %q, its style sheet %q", r.Code, r.Body, css.Body)
	}
}

// TestVisit_canary404: also while there is a canary.
func TestVisit_canary404(t *testing.T) {
	s, f, one, two := twoReleases(t, site404("one"), site404("two"))
	f.show(one, 6, &split{active: one.ID(), canary: two.ID(), share: 5000, since: 6})
	sides := map[string]int{}
	for range 100 {
		r := ask(s, "GET", "/nowhere", "Sec-Fetch-Dest", "document")
		css := ask(s, "GET", "/style.css", append(cookie(given(r.Header())), "Sec-Fetch-Dest", "style")...)
		page, sheet := r.Header().Get("Relman-Release"), css.Header().Get("Relman-Release")
		if sides[page]++; page != sheet {
			t.Fatalf("the page is of %s, its style sheet of %s", page, sheet)
		}
	}
	if len(sides) != 2 {
		t.Errorf("both sides were to be drawn: %v", sides)
	}
}

// TestVisit_pinnedWhileSwapping: a part is of the release that its pin says, also
// where that was what is shown until this moment.
func TestVisit_pinnedWhileSwapping(t *testing.T) {
	s, f, rs := threeReleases(t)
	want := map[release.ID]string{rs[0].ID(): "one", rs[1].ID(): "two"}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := release.Epoch(10); !stop.Load(); e++ {
			f.Show(rs[e%2], e)
		}
	}()
	for asked := 0; asked < 20000; {
		h := f.holdings.Load()
		if h.shown.epoch < 10 {
			continue
		}
		asked++
		r := ask(s, "GET", "/app.css", "Cookie", "relman="+h.pin, "Sec-Fetch-Dest", "style")
		if got := r.Body.String(); got != want[h.shown.release.ID()] {
			t.Errorf("part %q of a page of %s", got, h.shown.release.ID())
			break
		}
	}
	stop.Store(true)
	<-done
}

// TestVisit_cacheable: whatever a site says of lifetimes, what was chosen for a
// visitor is for him, and no answer goes without a word.
func TestVisit_cacheable(t *testing.T) {
	public := map[string]string{"index.html": "x", "_redirects": "/a https://launch.example.com/ 302\n", "_headers": "/*\n  Cache-Control: public, max-age=3600\n"}
	s, f, one, two := twoReleases(t, map[string]string{"index.html": "y"}, public)
	peek := PreviewToken("www", testSecret, two.ID(), time.Now().Add(time.Hour))
	if r := ask(s, "GET", "/a", cookie(peek)...); r.Code != 302 || r.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("redirect of a preview: %d %v", r.Code, r.Header())
	}
	f.Show(two, 5)
	if r := ask(s, "GET", "/"); r.Header().Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("as the site wants it: %v", r.Header())
	}
	if r := ask(s, "GET", "/", "Relman-Pin", f.holdings.Load().pinTo(5, two)); r.Header().Get("Cache-Control") != "private, no-cache" {
		t.Errorf("for a pin in the header: %v", r.Header())
	}
	f.show(two, 6, &split{active: two.ID(), canary: one.ID(), share: 5000, since: 6})
	for range 20 {
		if r := ask(s, "GET", "/"); strings.Contains(r.Header().Get("Cache-Control"), "public") {
			t.Fatalf("one side of a canary: %v", r.Header())
		}
	}

	silent := map[string]string{"index.html": "x", "_headers": "/*\n  ! Cache-Control\n"}
	s, _, _, _ = twoReleases(t, silent, silent)
	if r := ask(s, "GET", "/"); r.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("without a word: %v", r.Header())
	}
}

// TestVisit_unreleased: a name that people give is not found in a release that is not
// active, unless that turns out to be active by now.
func TestVisit_unreleased(t *testing.T) {
	const doubtful, sure = "/FY25Q3Report.pdf", "/app.3f9ac1d2.js"
	s, f, _, two := twoReleases(t, map[string]string{"index.html": "one"},
		map[string]string{"index.html": "two", doubtful[1:]: "secret", sure[1:]: "code", "agenda-20240115a.pdf": "secret"})
	var asked atomic.Int32
	f.catchUp = func(context.Context, release.Epoch) bool { asked.Add(1); return true }
	for path, code := range map[string]int{doubtful: 404, sure: 200, "/agenda-20240115a.pdf": 404} {
		if r := ask(s, "GET", path); r.Code != code {
			t.Errorf("%s: %d, want %d", path, r.Code, code)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("etcd was asked %d times, want once, for the name in doubt", asked.Load())
	}
	f.catchUp = func(context.Context, release.Epoch) bool { two.public.Store(true); return false }
	if r := ask(s, "GET", doubtful); r.Code != 200 {
		t.Errorf("it is active elsewhere: %d", r.Code)
	}
}

// TestVisit_since: after a rollback files are older than what a client may have.
func TestVisit_since(t *testing.T) {
	s, _, one, _ := twoReleases(t, map[string]string{"index.html": "one"}, map[string]string{"index.html": "two"})
	f, _ := one.files.Lookup("index.html")
	for off, code := range map[time.Duration]int{0: 304, time.Hour: 200, -time.Hour: 200} {
		if r := ask(s, "GET", "/index.html", "If-Modified-Since", time.Unix(f.MTime, 0).Add(off).UTC().Format(http.TimeFormat)); r.Code != code {
			t.Errorf("changed %v before: %d, want %d", off, r.Code, code)
		}
	}
}

// TestVisit_control: what is meant for the server is not shown, of no release.
func TestVisit_control(t *testing.T) {
	rules := map[string]string{"index.html": "one", "_redirects": "/secret-admin /x 302\n", "_headers": "/*\n  X-A: b\n"}
	s, f, _, two := twoReleases(t, rules, map[string]string{"index.html": "two"})
	f.Show(two, 5)
	pin := f.holdings.Load().pin
	for path := range maps.Keys(rules) {
		if r := ask(s, "GET", "/"+path, append(cookie(pin), "Sec-Fetch-Dest", "image")...); path != "index.html" && r.Code != 404 {
			t.Errorf("%s: %d %q", path, r.Code, r.Body)
		}
	}
}

// TestVisit_opening: while a node that has started still looks at what it has, nobody
// gets parts of another release than that of his page.
func TestVisit_opening(t *testing.T) {
	s, f, rs := threeReleases(t)
	pin := cookie(f.holdings.Load().pinTo(2, rs[0]))
	f.Show(rs[1], 3)
	f.Hold([]*Release{rs[1]}, nil)
	f.setOpening(true)
	for opening, code := range map[bool]int{true: 503, false: 200} {
		f.setOpening(opening)
		if r := ask(s, "GET", "/app.css", pin...); r.Code != code {
			t.Errorf("opening %v: %d %q", opening, r.Code, r.Body)
		}
	}
	if r := ask(s, "GET", "/", pin...); r.Code != 200 {
		t.Errorf("a new page: %d", r.Code)
	}
}

// TestVisit_forgotten: a pin to an epoch that etcd has forgotten is none, and a cookie
// of the same name that is no pin hides none.
func TestVisit_forgotten(t *testing.T) {
	s, f, rs := threeReleases(t)
	pin := f.holdings.Load().pins.withLot(9, "000009-0123456789ab", 77)
	f.Show(rs[1], 3)
	if r := ask(s, "GET", "/", cookie(pin)...); r.Code != 503 {
		t.Errorf("nobody knows: %d", r.Code)
	}
	f.catchUp = func(context.Context, release.Epoch) bool { return true }
	for _, path := range []string{"/", "/app.css"} {
		if r := ask(s, "GET", path, cookie(pin)...); r.Code != 200 {
			t.Errorf("%s: %d %q", path, r.Code, r.Body)
		}
	}
	one := f.holdings.Load().pinTo(2, rs[0])
	if r := ask(s, "GET", "/app.css", "Cookie", "relman=x; relman="+one); r.Body.String() != "one" {
		t.Errorf("behind a stray cookie: %q", r.Body)
	}
}
