package nodeagent

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"relman/cluster"
	"relman/release"
)

// beside shows 2 of threeReleases, with 3 as a canary for an audience.
func beside(t *testing.T, a cluster.Audience, shows int) (s *Server, f *Front, rs []*Release) {
	t.Helper()
	s, f, rs = threeReleases(t)
	f.show(rs[shows-1], 6, splitOf(cluster.Active{Release: rs[1].ID(), Epoch: 6, Canary: &cluster.Canary{
		Release: rs[2].ID(), Audience: a, Since: 6,
	}}))
	return s, f, rs
}

// given is the pin that an answer gives, "" for none.
func given(h http.Header) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(h.Get("Set-Cookie"), pinCookie+"="), ";")
	return v
}

// TestVisit_canary: who is on which side, and what he gets there.
func TestVisit_canary(t *testing.T) {
	s, f, rs := beside(t, cluster.Audience{Share: 2500}, 2)
	h := f.holdings.Load()
	lot := func(epoch release.Epoch, r, lot int) string { return h.pins.withLot(epoch, rs[r-1].ID(), lot) }
	for _, c := range []struct {
		about, path, pin string
		headers          []string
		code             int
		body             string
		gives            string
	}{
		{"a lot for it", "/", lot(6, 3, 2500), nil, 200, "<h1>three</h1>", lot(6, 3, 2500)},
		{"a lot against it", "/", lot(6, 2, 2501), nil, 200, "<h1>two</h1>", lot(6, 2, 2501)},
		{"the share has grown", "/", lot(6, 2, 1), nil, 200, "<h1>three</h1>", lot(6, 3, 1)},
		{"a part of a page of it", "/app.css", lot(6, 3, 7), nil, 200, "three", ""},
		{"a part of the other's page", "/app.css", lot(6, 2, 7777), nil, 200, "two", ""},
		{"a part of a page of before", "/app.css", h.pins.value(4, rs[0].ID()), nil, 200, "one", ""},
		{"a part without a pin", "/app.css", "", nil, 200, "two", ""},
		{"a script's page on its side", "/", lot(6, 3, 7), []string{"Sec-Fetch-Dest", "empty"}, 200, "<h1>three</h1>", ""},
		{"a script's page without a pin", "/", "", []string{"Sec-Fetch-Dest", "empty"}, 200, "<h1>two</h1>", ""},
		{"what only it has", "/three.txt", lot(6, 3, 7), nil, 200, "three", ""},
		{"what only it has, for the other side", "/three.txt", lot(6, 2, 7777), nil, 404, "", ""},
		{"what only it has, without a pin", "/three.txt", "", nil, 404, "", ""},
		{"its hashed asset, for anybody", "/app." + strings.Repeat("ab1", 5) + ".js", "", nil, 200, "three", ""},
		{"a lot of more than all", "/app.css", lot(6, 3, 10001), nil, 200, "two", ""},
		{"a lot of nothing", "/app.css", lot(6, 3, 0), nil, 200, "two", ""},
		{"somebody chose it", "/", "", []string{pinHeader, lot(6, 3, 9999)}, 200, "<h1>three</h1>", ""},
	} {
		t.Run(c.about, func(t *testing.T) {
			headers := c.headers
			if c.pin != "" {
				headers = append(cookie(c.pin), headers...)
			}
			r := ask(s, "GET", c.path, headers...)
			if r.Code != c.code || c.code == 200 && r.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", r.Code, r.Body, c.code, c.body)
			}
			if got := given(r.Header()); got != c.gives {
				t.Errorf("gives %q, want %q", got, c.gives)
			}
			if c.gives != "" && !strings.Contains(r.Header().Get("Set-Cookie"), "Max-Age=86400;") {
				t.Errorf("Set-Cookie %q", r.Header().Get("Set-Cookie"))
			}
		})
	}
}

// TestVisit_canaryShare: as many new visitors see it as are to, each stays where
// he is, and the pages that are given are never those of another visitor.
func TestVisit_canaryShare(t *testing.T) {
	s, _, rs := beside(t, cluster.Audience{Share: 1000}, 2)
	old := newPins("www", cluster.DefaultServing(), testSecret)
	const visitors = 20000
	on := 0
	for i := range visitors {
		var headers []string
		switch i % 3 { // a new one, one of before, one with a lot of an earlier canary
		case 1:
			headers = cookie(old.value(5, rs[1].ID()))
		case 2:
			headers = cookie(old.withLot(4, rs[0].ID(), 1))
		}
		r := ask(s, "GET", "/", headers...)
		first := r.Body.String()
		if first == "<h1>three</h1>" {
			on++
		}
		for range 2 {
			if r = ask(s, "GET", "/", cookie(given(r.Header()))...); r.Body.String() != first {
				t.Fatalf("visitor %d went from %q to %q", i, first, r.Body)
			}
		}
	}
	// 10 % of 20,000 is 2,000, with a deviation of 42: this is six of them.
	t.Logf("%d of %d visitors saw the canary, 10 %% were to", on, visitors)
	if on < 1745 || on > 2255 {
		t.Errorf("%d of %d visitors saw it, want about 2000", on, visitors)
	}
}

// TestVisit_canaryGroup: who comes to a node of the group sees it, and stays with
// what he saw on all nodes.
func TestVisit_canaryGroup(t *testing.T) {
	group := cluster.Audience{Group: "canary"}
	inside, f, rs := beside(t, group, 3)
	outside, _, _ := beside(t, group, 2)
	pins := f.holdings.Load().pins
	two, three := pins.value(6, rs[1].ID()), pins.value(6, rs[2].ID())
	for _, c := range []struct {
		about string
		s     *Server
		path  string
		pin   string
		body  string
		gives string
	}{
		{"a new visitor inside", inside, "/", "", "<h1>three</h1>", three},
		{"a new visitor outside", outside, "/", "", "<h1>two</h1>", two},
		{"who has seen it, outside", outside, "/", three, "<h1>three</h1>", three},
		{"who has not, inside", inside, "/", two, "<h1>two</h1>", two},
		{"a part without a pin inside", inside, "/app.css", "", "three", ""},
		{"a part without a pin outside", outside, "/app.css", "", "two", ""},
		{"a part for who has seen it, outside", outside, "/app.css", three, "three", ""},
		{"a part for who has not, inside", inside, "/app.css", two, "two", ""},
		{"a visitor of before, inside", inside, "/", pins.value(5, rs[1].ID()), "<h1>three</h1>", three},
	} {
		t.Run(c.about, func(t *testing.T) {
			var headers []string
			if c.pin != "" {
				headers = cookie(c.pin)
			}
			for range 2 { // the second one may be answered from memory
				r := ask(c.s, "GET", c.path, headers...)
				if r.Body.String() != c.body || given(r.Header()) != c.gives {
					t.Errorf("%q and %q, want %q and %q", r.Body, given(r.Header()), c.body, c.gives)
				}
			}
		})
	}
}

// TestVisit_canaryNotHeld: a page of a canary that this node has lost is not made
// of something else.
func TestVisit_canaryNotHeld(t *testing.T) {
	s, f, rs := beside(t, cluster.Audience{Share: 2500}, 2)
	pin := cookie(f.holdings.Load().pins.withLot(6, rs[2].ID(), 7))
	f.Hold(rs[:2], nil)
	for _, path := range []string{"/", "/app.css"} {
		if r := ask(s, "GET", path, pin...); r.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %q", path, r.Code, r.Body)
		}
	}
	if r := ask(s, "GET", "/app.css"); r.Code != 200 {
		t.Errorf("without a pin: %d", r.Code)
	}
}

// TestVisit_canaryUnpinned: where nobody is pinned, nobody sees it but by its nodes.
func TestVisit_canaryUnpinned(t *testing.T) {
	s, f, _ := beside(t, cluster.Audience{Share: 9999}, 2)
	off := cluster.DefaultServing()
	off.Pin = cluster.PinOff
	f.Serve(off, testSecret)
	for range 50 {
		if r := ask(s, "GET", "/"); r.Body.String() != "<h1>two</h1>" || r.Header().Get("Set-Cookie") != "" {
			t.Fatalf("%q %v", r.Body, r.Header())
		}
	}
}

// tryOut makes what the rollout has prepared a canary, and promote and endCanary end
// it, as far as this node is concerned.
func (e *fakeEtcd) tryOut(t testing.TB, a cluster.Audience) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.view.Rollout.Value
	if !e.view.Rollout.Exists() || e.claims[r.Buffer] != r.Release {
		t.Fatalf("no canary %q: buffer %d is claimed to hold %q", r.Release, r.Buffer, e.claims[r.Buffer])
	}
	e.setCanary(&cluster.Canary{Release: r.Release, Buffer: r.Buffer, Manifest: e.records[r.Release].Manifest, Audience: a})
}

func (e *fakeEtcd) setCanary(c *cluster.Canary) {
	e.commit(func(rev int64) {
		a := &e.view.Active
		a.Value.Epoch, a.Value.Canary, a.Mod = a.Value.Epoch+1, c, rev
		if c != nil {
			a.Value.Canary.Since = a.Value.Epoch
		}
		e.view.Rollout = cluster.Entry[cluster.Rollout]{}
	})
}

// TestNode_canary: a node shows a canary if it is for its group, holds it in any
// case, and gives it up no more than what is active.
func TestNode_canary(t *testing.T) {
	for _, in := range []bool{true, false} {
		t.Run(fmt.Sprintf("in the group %t", in), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.etcd.change(func(int64) { n.etcd.view.Secret = testSecret })
			n.start()
			b := firstBuild()
			n.rollOut(b)
			r2 := n.rollOut(b.with("index.html", "two"))
			r3 := n.publish(b.with("index.html", "three"))
			n.etcd.startRollout(r3.Manifest.ID())
			n.claimed()
			a := cluster.Audience{Group: "elsewhere"}
			if in {
				a.Group = release.DefaultGroup
			}
			n.etcd.tryOut(t, a)
			shown := r2
			if in {
				shown = r3
			}
			n.serves(shown)

			// After a restart too, and when the disk has lost it.
			n.halt()
			n.loses(r3.Manifest.ID())
			n.start()
			n.serves(shown)
			n.claimsIn(n.etcd.canary().Buffer, r3.Manifest.ID())

			// Promoted: all show it.
			c := n.etcd.canary()
			n.etcd.flipElsewhere(c.Release, c.Buffer)
			n.serves(r3)
		})
	}
}

func (e *fakeEtcd) canary() cluster.Canary {
	e.mu.Lock()
	defer e.mu.Unlock()
	return *e.view.Active.Value.Canary
}

// claimsIn waits until the node claims a release in a buffer.
func (n *node) claimsIn(k int, id release.ID) {
	n.t.Helper()
	n.until("claims", func() error {
		n.etcd.mu.Lock()
		defer n.etcd.mu.Unlock()
		if got := n.etcd.claims[k]; got != id {
			return fmt.Errorf("buffer %d: %q, want %q", k, got, id)
		}
		return nil
	})
}

// loses takes a release off the disk of a node that is halted.
func (n *node) loses(id release.ID) {
	n.t.Helper()
	held, err := heldIn(n.siteDir())
	if err != nil || held[id] == "" {
		n.t.Fatalf("%s is not held: %v, %v", id, held, err)
	}
	tree := filepath.Join(n.siteDir(), "buffers", filepath.Base(held[id]))
	if err := errors.Join(os.Remove(tree+".manifest"), os.RemoveAll(tree)); err != nil {
		n.t.Fatal(err)
	}
}

// TestNode_canaryLacksActive: a node that shows the canary and has lost the active
// release is not ready: others' visitors ask it for parts of their pages.
func TestNode_canaryLacksActive(t *testing.T) {
	n := newNode(t)
	n.etcd.change(func(int64) { n.etcd.view.Secret = testSecret })
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.claimed()
	n.etcd.tryOut(t, cluster.Audience{Group: release.DefaultGroup})
	n.serves(r2)
	n.ready()
	n.halt()
	n.loses(r1.Manifest.ID())
	var away atomic.Bool
	away.Store(true)
	n.setPoint(func(name string) error {
		if name == "node.after-load" && away.Load() {
			return errCrash
		}
		return nil
	})
	n.start()
	n.notReady("does not hold the active release, which others see beside the canary")
	away.Store(false)
	n.ready()
}

// ready waits until the node may take traffic.
func (n *node) ready() {
	n.t.Helper()
	n.until("ready", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return fmt.Errorf("%w: %s", errNotYet, why)
		}
		return nil
	})
}
