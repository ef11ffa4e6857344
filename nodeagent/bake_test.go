package nodeagent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"relman/cluster"
)

// bakingNode is a node whose own server listens, with releases that bake.
func bakingNode(t *testing.T, rules cluster.Bake) *node {
	t.Helper()
	n := newNode(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.self, n.probe = "http://"+l.Addr().String(), 10*time.Millisecond
	n.etcd.bake = &rules
	n.start()
	s := &http.Server{Handler: n.agent.Server(), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	quick := n.agent.Server().Quicken(s, l)
	go func() { ended <- s.Serve(quick) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return n
}

// says waits until the node says something of the epoch that bakes.
func (n *node) says(want cluster.BakeReport) {
	n.t.Helper()
	n.until("says what it makes of the release", func() error {
		if b := n.status().Bake; b == nil || *b != want {
			return fmt.Errorf("says %+v, want %+v", b, want)
		}
		return nil
	})
}

// visit asks the node's server so many times for a path.
func (n *node) visit(path string, times int) {
	n.t.Helper()
	for range times {
		req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.self+path, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			n.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			n.t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestNode_bake: a node asks its own server, of the epoch that it shows, and says
// what is wrong; what it said of an epoch it says of no other.
func TestNode_bake(t *testing.T) {
	t.Parallel()
	n := bakingNode(t, cluster.Bake{Seconds: 600, MostBadNodes: "0", LeastAnswers: 1, Probes: []cluster.Probe{
		{Path: "/healthz.txt", Text: "well"}, {Path: "/none", Status: http.StatusNotFound},
	}})
	b := firstBuild().with("healthz.txt", "all is well")
	n.rollOut(b)
	n.says(cluster.BakeReport{Epoch: 1, Good: true})
	n.rollOut(b.with("healthz.txt", "it is broken"))
	n.says(cluster.BakeReport{Epoch: 2, Bad: `GET /healthz.txt: status 200 without the text "well" ("it is broken")`})
	n.rollOut(b.with("none", "here"))
	n.says(cluster.BakeReport{Epoch: 3, Bad: `GET /none: status 200, want 404 ("here")`})
	n.etcd.rollback(t)
	n.says(cluster.BakeReport{Epoch: 4, Bad: `GET /healthz.txt: status 200 without the text "well" ("it is broken")`})
	n.rollOut(b.without("healthz.txt"))
	n.says(cluster.BakeReport{Epoch: 5, Bad: `GET /healthz.txt: status 404, want 200 ("404 page not found")`})
	n.rollOut(b)
	n.says(cluster.BakeReport{Epoch: 6, Good: true})
}

// TestNode_bakeNot: what does not bake is not asked for, and nothing is said of it.
func TestNode_bakeNot(t *testing.T) {
	t.Parallel()
	n := bakingNode(t, cluster.Bake{Seconds: 600, MostBadNodes: "0", LeastAnswers: 1, Probes: []cluster.Probe{{Path: "/none"}}})
	n.rollOut(firstBuild())
	n.says(cluster.BakeReport{Epoch: 1, Bad: `GET /none: status 404, want 200 ("404 page not found")`})
	n.etcd.bake = nil
	n.rollOut(firstBuild().with("index.html", "two"))
	n.until("says nothing", func() error {
		if b := n.status().Bake; b != nil {
			return fmt.Errorf("says %+v", b)
		}
		return nil
	})
}

// TestNode_bakeDamage: a file that is damaged again and again makes the release bad on
// this node, which says so once and for all.
func TestNode_bakeDamage(t *testing.T) {
	t.Parallel()
	n := bakingNode(t, cluster.Bake{Seconds: 600, MostBadNodes: "0", LeastAnswers: 1, Probes: []cluster.Probe{{Path: "/healthz.txt"}}})
	damage := func() {
		name := filepath.Join(n.link("current"), "healthz.txt")
		if err := errors.Join(os.Remove(name), os.WriteFile(name, []byte("longer than it was"), 0o444)); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) {
			t.Error(err)
		}
	}
	b := firstBuild().with("healthz.txt", "well")
	n.rollOut(b)
	n.says(cluster.BakeReport{Epoch: 1, Good: true})
	n.unaudited(func() {
		n.until("it is bad", func() error {
			damage()
			if r := n.status().Bake; r.Bad == "" {
				return fmt.Errorf("says %+v", r)
			}
			return nil
		})
		n.whole(n.shelf.last)
	})
	if got, want := n.status().Bake.Bad, `GET /healthz.txt: status 500, want 200 ("the file cannot be read on this node")`; got != want {
		t.Errorf("says %q, want %q", got, want)
	}
}

// TestNode_bakeRates: what visitors get is compared with what they got out of the
// release before, and a probe is no visitor.
func TestNode_bakeRates(t *testing.T) {
	t.Parallel()
	n := bakingNode(t, cluster.Bake{Seconds: 600, MostBadNodes: "0", Most404: 20, LeastAnswers: 50, Probes: []cluster.Probe{{Path: "/none", Status: 404}}})
	b := firstBuild()
	n.rollOut(b)
	n.visit("/", 60)
	n.rollOut(b.with("index.html", "two"))
	n.visit("/", 60)
	n.says(cluster.BakeReport{Epoch: 2, Good: true})
	n.until("it is bad", func() error {
		n.visit("/gone", 10)
		if r := n.status().Bake; r.Bad == "" {
			return fmt.Errorf("says %+v", r)
		}
		return nil
	})
	var is, was float64
	var since, before int
	said := n.status().Bake.Bad
	if _, err := fmt.Sscanf(said, "404: %f%% of %d answers, of the release before %f%% of %d: more than 20 points above", &is, &since, &was, &before); err != nil {
		t.Fatalf("says %q: %v", said, err)
	}
	// Most of the probes have got a 404 from each of the two.
	if is < 20 || was > 5 || since < 60 || before < 60 {
		t.Errorf("says %q", said)
	}
}

// TestExcess: shares are compared only where both releases have answered enough.
func TestExcess(t *testing.T) {
	rules := cluster.Bake{Most5xx: 1, LeastAnswers: 100}
	for name, c := range map[string]struct {
		before, since counts
		want          string
	}{
		"one bad answer":         {counts{1000, 0, 0}, counts{99, 0, 99}, ""},
		"nothing to compare to":  {counts{99, 0, 0}, counts{1000, 0, 1000}, ""},
		"as bad as before":       {counts{1000, 0, 500}, counts{100, 0, 51}, ""},
		"worse":                  {counts{1000, 0, 1}, counts{100, 0, 2}, "5xx: 2.00% of 100 answers, of the release before 0.10% of 1000: more than 1 points above"},
		"not asked for":          {counts{1000, 0, 0}, counts{100, 100, 0}, ""},
		"exactly what it may be": {counts{1000, 0, 0}, counts{100, 0, 1}, ""},
	} {
		if got := excess(rules, c.before, c.since); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := (counts{1, 2, 3}).minus(counts{2, 1, 4}); got != (counts{0, 1, 0}) {
		t.Errorf("minus: %+v", got)
	}
}

// TestTraffic_counts: what the server counts is what the baker counts of its own; that
// a node cannot answer is no fault of what it shows.
func TestTraffic_counts(t *testing.T) {
	var served traffic
	var own counts
	for _, status := range []int{200, 304, 404, 404, 500, 503, 503, 503, 0} {
		(&counted{traffic: &served, code: status}).end()
		own = own.of(status)
	}
	if got, want := served.counts(), (counts{all: 9, missing: 2, failed: 1}); got != want || own != want {
		t.Errorf("the server counts %+v, the baker %+v, want %+v", got, own, want)
	}
}

// TestNode_bakeUnasked: a node whose server does not listen, as one that stops, says
// nothing of the release.
func TestNode_bakeUnasked(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.self, n.probe = "http://127.0.0.1:1", time.Millisecond
	n.etcd.bake = &cluster.Bake{Seconds: 600, MostBadNodes: "0", LeastAnswers: 1, Probes: []cluster.Probe{{Path: "/"}}}
	n.start()
	n.rollOut(firstBuild())
	b := n.agent.sites[0].baker
	x := baking{epoch: 1, rules: n.etcd.bake}
	if bad, known := b.look(t.Context(), x); bad != "" || known {
		t.Errorf("%q, %v", bad, known)
	}
	if r := n.status().Bake; r != nil {
		t.Errorf("says %+v", r)
	}
}

// TestNode_bakeLate: a node that could not look in time says what it finds later.
func TestNode_bakeLate(t *testing.T) {
	t.Parallel()
	n := bakingNode(t, cluster.Bake{Seconds: 0, MostBadNodes: "0", LeastAnswers: 1, Probes: []cluster.Probe{{Path: "/healthz.txt"}}})
	n.rollOut(firstBuild().with("healthz.txt", "well"))
	n.says(cluster.BakeReport{Epoch: 1, Good: true})
}

// TestBaker_insist: an answer has to be wrong several times in a row.
func TestBaker_insist(t *testing.T) {
	for _, c := range []struct {
		answers []int
		want    string
	}{
		{[]int{200}, ""},
		{[]int{500, 503, 200}, ""},
		{[]int{500, 503, 502}, "GET /a?b: status 502, want 200"},
	} {
		var asked []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Relman-Release", "r")
			w.Header().Set("Relman-Epoch", "7")
			w.WriteHeader(c.answers[len(asked)])
			asked = append(asked, r.Host+r.RequestURI)
		}))
		b := newBaker(&site{name: www, front: NewFront(www), cfg: &Config{Self: s.URL}})
		bad, known := b.insist(t.Context(), baking{epoch: 7, release: "r"}, cluster.Probe{Path: "/a?b"})
		s.Close()
		if bad != c.want || !known || len(asked) != len(c.answers) || asked[0] != "www.localhost/a?b" {
			t.Errorf("answers %v: %q, %v, asked %q", c.answers, bad, known, asked)
		}
	}
}

// TestWrong: an answer has to be of the release and the epoch that bake.
func TestWrong(t *testing.T) {
	for name, c := range map[string]struct{ release, epoch, want string }{
		"this one":        {"r", "7", ""},
		"another release": {"q", "7", `status 200 out of release "q" in epoch "7", want "r" in 7 ("x")`},
		"another epoch":   {"r", "8", `status 200 out of release "r" in epoch "8", want "r" in 7 ("x")`},
		"none":            {"", "", `status 200 out of release "" in epoch "", want "r" in 7 ("x")`},
	} {
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Relman-Release": {c.release}, "Relman-Epoch": {c.epoch}}}
		if got := wrong(baking{epoch: 7, release: "r"}, cluster.Probe{Path: "/"}, resp, []byte("x"), nil); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
