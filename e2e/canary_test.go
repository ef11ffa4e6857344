package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// loads is how many pages the visitors of a canary load. `make test` has no time
// for them.
func loads(t *testing.T) int64 {
	t.Helper()
	if os.Getenv("RELMAN_LOADS") == "" {
		t.Skip("SKIPPED: `make e2e-canary` runs it")
	}
	return envCount(t, "RELMAN_LOADS")
}

// tour is what visitors saw who each loaded a few pages.
type tour struct {
	*pageCounts
	visitors, on, strayed atomic.Int64 // strayed: saw both sides
}

// pagesEach is how many pages each of them loads.
const pagesEach = 10

// toured has visitors come and go until they have loaded enough pages. Those who
// first see build n are on the canary's side.
func toured(t *testing.T, base string, cookies bool, enough int64, n int) *tour {
	t.Helper()
	r := &tour{pageCounts: &pageCounts{}}
	const at = 32
	transport := &http.Transport{MaxIdleConnsPerHost: 9 * at, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			for r.pages.Load() < enough && t.Context().Err() == nil {
				g := &guest{base: base, cookies: cookies, modern: i%2 == 0, counts: r.pageCounts, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
				for range pagesEach {
					g.load(t.Context())
				}
				r.visitors.Add(1)
				if len(g.saw) > 0 && g.saw[0] == n {
					r.on.Add(1)
				}
				if len(g.saw) > 0 && len(slices.Compact(slices.Clone(g.saw))) > 1 {
					r.strayed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return r
}

func (r *tour) String() string {
	return fmt.Sprintf("%d visitors, %d (%.2f %%) saw the canary, %d saw both sides; %s", r.visitors.Load(), r.on.Load(),
		100*float64(r.on.Load())/float64(r.visitors.Load()), r.strayed.Load(), r.pageCounts)
}

// near is an error when the share that saw the canary is further from what it is to
// be than chance explains: six standard deviations.
func (r *tour) near(share float64) error {
	n := float64(r.visitors.Load())
	if off := math.Abs(float64(r.on.Load()) - share*n); off > 6*math.Sqrt(n*share*(1-share)) {
		return fmt.Errorf("%d of %.0f visitors saw the canary, want %.0f %%", r.on.Load(), n, 100*share)
	}
	return nil
}

// settled has the cluster at an epoch, and says what it is.
func (l *lab) settled(t *testing.T) (all []epochOf) {
	t.Helper()
	if err := json.Unmarshal([]byte(l.relman(t, "history", "-o", "json").stdout), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

type epochOf struct {
	Epoch         int
	Kind, Release string
	Canary        *struct{ Release, Share, Group string }
}

// TestCanary: a tenth of the visitors see a release beside the active one, each
// stays on his side on all nodes, and nobody gets a page of both, also while it is
// promoted or ended, which is one commit each. Those without cookies, who are asked
// anew with each page, are the control: they see pages of both.
func TestCanary(t *testing.T) {
	enough := loads(t)
	l, nodes := visited(t)
	base := devFront(t, l, nodes)
	l.publishPages(t, 8)
	first := l.activeRelease(t)
	l.publishPages(t, 2, "--canary=10%")
	if now := l.activeRelease(t); now != first {
		t.Fatalf("active is %s, want %s", now, first)
	}
	if s := l.relman(t, "status").stdout; !strings.Contains(s, "CANARY") || !strings.Contains(s, "for 10% of the visitors") {
		t.Errorf("status says\n%s", s)
	}

	began := time.Now()
	with := toured(t, base, true, enough, 2)
	t.Logf("with cookies, %.0f s: %s", time.Since(began).Seconds(), with)
	bare := toured(t, base, false, enough/10, 2)
	t.Logf("control, without cookies: %s", bare)
	if f := with.faults(); len(f) > 0 || with.strayed.Load() > 0 {
		t.Errorf("with cookies: %s, strayed %d\n%s", strings.Join(f, ", "), with.strayed.Load(), strings.Join(with.examples, "\n"))
	}
	if err := with.near(0.1); err != nil {
		t.Error(err)
	}
	if bare.mixed.Load() == 0 || bare.strayed.Load() == 0 {
		t.Error("the control saw no page of both, and nobody who went from one side to the other: this run proves nothing")
	}

	// No publish ends it unasked, and nothing is uploaded in vain.
	dir := l.dir + "/build-9"
	writePages(t, dir, 9)
	if r := run(t, l.env, programs(t).relman, "publish", dir); r.code != 4 || !strings.Contains(r.stderr, "has a canary, ") || strings.Contains(r.stdout, "uploaded") {
		t.Errorf("a publish beside it: exit %d\n%s", r.code, r.stderr)
	}

	// Promoted under load: all who come then see it.
	second := l.changes(t, base, "promote", 2, 2)
	if second == first {
		t.Fatalf("%s is active still", first)
	}
	// Another one, ended under load.
	l.publishPages(t, 3, "--canary=50%")
	third := l.settled(t)[0].Canary.Release
	if now := l.changes(t, base, "abort", 3, 2); now != second {
		t.Fatalf("active is %s, want %s", now, second)
	}
	if r := run(t, l.env, programs(t).relman, "flip", third); r.code != 4 || !strings.Contains(r.stderr, "its canary was ended by") {
		t.Errorf("a flip to what was ended: exit %d\n%s", r.code, r.stderr)
	}
	var kinds []string
	for i, h := range l.settled(t) {
		kinds = append(kinds, h.Kind)
		if h.Epoch != 6-i {
			t.Errorf("epochs %+v", h)
		}
	}
	if got, want := strings.Join(kinds, " "), "end-canary canary promote canary publish publish"; got != want {
		t.Errorf("history: %s, want %s", got, want)
	}
	verifyHistory(t, l.env)
}

// changes carries out a command while visitors load pages, and has more come after
// it: these all see one build. It returns what is active then.
func (l *lab) changes(t *testing.T, base, command string, canary, after int) string {
	t.Helper()
	during := make(chan *tour, 1)
	go func() { during <- toured(t, base, true, 1500, canary) }()
	began := time.Now()
	r := l.relman(t, command)
	took := time.Since(began)
	for _, c := range []struct {
		when string
		*tour
		stay bool
	}{{"during", <-during, false}, {"after", toured(t, base, true, 500, after), true}} {
		t.Logf("%s (%d ms), %s: %s", command, took.Milliseconds(), c.when, c.tour)
		if f := c.faults(); len(f) > 0 {
			t.Errorf("%s, %s: %s\n%s", command, c.when, strings.Join(f, ", "), strings.Join(c.examples, "\n"))
		}
		if c.stay && (c.on.Load() != c.visitors.Load() || c.strayed.Load() > 0) {
			t.Errorf("after %s %d of %d visitors see build %d", command, c.on.Load(), c.visitors.Load(), after)
		}
	}
	t.Log(strings.TrimSpace(r.stdout + r.stderr))
	return l.activeRelease(t)
}

// TestCanaryGroup: the nodes of a group show a canary, and who has seen it there
// sees it everywhere.
func TestCanaryGroup(t *testing.T) {
	loads(t)
	l := newLab(t)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2", "n3"}
	for _, n := range nodes {
		if n == "n3" {
			l.agentOf(t, n, "canary")
		} else {
			l.agent(t, n)
		}
	}
	l.waitNodes(t, nodes)
	l.publishPages(t, 1)
	first := l.activeRelease(t)
	l.publishPages(t, 2, "--canary")
	second := l.settled(t)[0].Canary
	if second == nil || second.Group != "canary" || second.Share != "" {
		t.Fatalf("canary %+v", second)
	}
	l.expectShown(t, "n3", second.Release)
	l.expectShown(t, "n1", first)
	// Also after a restart of it.
	l.agents["n3"].kill()
	l.agentOf(t, "n3", "canary")
	l.waitReady(t, "n3")
	l.expectShown(t, "n3", second.Release)

	r := toured(t, devFront(t, l, nodes), true, 1000, 2)
	t.Log(r)
	if f := r.faults(); len(f) > 0 || r.strayed.Load() > 0 || r.on.Load() == 0 || r.on.Load() == r.visitors.Load() {
		t.Errorf("%s, strayed %d\n%s", strings.Join(f, ", "), r.strayed.Load(), strings.Join(r.examples, "\n"))
	}
	if r := run(t, l.env, programs(t).relman, "flip", "latest", "--canary=nobody"); r.code == 0 || !strings.Contains(r.stderr, "no node of group nobody") {
		t.Errorf("a canary for a group that nobody is in: exit %d\n%s", r.code, r.stderr)
	}
	l.relman(t, "promote")
	for _, n := range nodes {
		l.expectShown(t, n, second.Release)
	}
	verifyHistory(t, l.env)
}

func (l *lab) expectShown(t *testing.T, node, id string) {
	t.Helper()
	eventually(t, 30*time.Second, node+" shows "+id, func() error {
		if got := l.shows(node); got != id {
			return fmt.Errorf("it shows %s", got)
		}
		return nil
	})
}
