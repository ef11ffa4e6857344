package cluster

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/release"
)

func TestObserve(t *testing.T) {
	w := newWorld(t, dial(t))
	s := w.site
	w.put(FreezeKey(s), encode(Freeze{By: "op", AllowRollback: true}))
	w.put(VerdictKey(s, w.r1), "yanked by op")
	w.put(ResultKey(s, "01REQ1"), encode(Result{State: StateActive, Epoch: 7, At: day}))
	w.put(StatusKey(w.nodes[1].Node, s), encode(Status{State: NodeServing, Epoch: 7}))
	w.put(StatusKey(w.nodes[1].Node, "another"), "{broken")
	w.put(SitePrefix(s)+"from-the-future/x", "?")
	v := w.view()
	if v.Revision != w.get(SitePrefix(s)+"from-the-future/x").Mod {
		t.Errorf("revision %d", v.Revision)
	}
	if v.Active.Value.Release != w.r1 || v.Rollout.Value.Release != w.r2 || v.Desired.Value.Request != "01REQ2" || !reflect.DeepEqual(v.Policy.Value, DefaultPolicy()) ||
		!v.Freeze.Value.AllowRollback || v.Roster.Value.V != 1 || v.Seq.Value != 2 || v.Seq.Mod == 0 {
		t.Errorf("view %+v", v)
	}
	if len(v.Releases) != 2 || v.Releases[w.r2].Value != record(2) || v.Verdicts[w.r1].Value != "yanked by op" || v.Results["01REQ1"].Epoch != 7 {
		t.Errorf("releases %v, verdicts %v, results %v", v.Releases, v.Verdicts, v.Results)
	}
	if len(v.Members) != 2 || len(v.Joins) != 2 || len(v.Live) != 2 || v.Status[w.nodes[1].Node].State != NodeServing {
		t.Errorf("members %v, joins %v, live %v, status %v", v.Members, v.Joins, v.Live, v.Status)
	}
	if len(v.Claims) != 6 || v.Claims[0].Buffer != 0 || v.Claims[5].Buffer != 2 || v.Claims[2].Release != w.r2 || v.Claims[5].Release != "" || v.Entered() != 2 {
		t.Errorf("claims %v", v.Claims)
	}
	if r, ok := v.HeldBy(w.r2); !ok || r.Buffer != 1 || len(r.Ready) != 2 {
		t.Errorf("held by %v, %v", r, ok)
	}
	if v.Done() || v.BackBuffer() != 1 {
		t.Errorf("done %v, back buffer %d", v.Done(), v.BackBuffer())
	}
}

// TestObserve_aNodeThatTalksNonsense: what one node says of itself cannot stop
// the site; it is as if it had said nothing.
func TestObserve_aNodeThatTalksNonsense(t *testing.T) {
	w := newWorld(t, dial(t))
	bad, good := w.nodes[0].Node, w.nodes[1].Node
	for _, n := range []release.NodeID{bad, good} {
		w.put(StatusKey(n, w.site), `{"state":"serving"}`)
	}
	for _, key := range []string{LiveKey(bad), StatusKey(bad, w.site)} {
		w.put(key, "fine")
	}
	v := w.view()
	if _, ok := v.Live[bad]; ok || len(v.Live) != 1 {
		t.Errorf("live: %v", v.Live)
	}
	if _, ok := v.Status[bad]; ok || v.Status[good].State != NodeServing {
		t.Errorf("statuses: %v", v.Status)
	}

	// A claim of nothing that there is: the node is late. A member is one, and lives,
	// whatever its join says.
	w.put(LiveKey(bad), encode(w.nodes[0].Live))
	w.put(JoinKey(bad), "nonsense")
	w.put(ClaimKey(w.site, 0, "main", bad), "latest")
	v = w.view()
	if r := v.Ready(0, w.r1); !slices.Equal(r.Late, []release.NodeID{bad}) {
		t.Errorf("late: %v", r.Late)
	}
	if _, lives := v.Live[bad]; !lives {
		t.Errorf("live: %v", v.Live)
	}
	if held, _, err := w.c.Node(w.nodes[0], w.nodes[0].Live, Join{}).Claims(t.Context(), w.site); err != nil || held[0] != "" {
		t.Errorf("its own claims: %v, %v", held, err)
	}
}

func TestObserve_refusesWhatItCannotRead(t *testing.T) {
	c := dial(t)
	if _, err := c.Observe(t.Context(), release.Site(clustertest.Name("nowhere"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such site: %v", err)
	}
	w := newWorld(t, c)
	for key, value := range map[string]string{
		ActiveKey(w.site):                      "{",
		SeqKey(w.site):                         "many",
		ConfigKey(w.site):                      `{"min":"100%","prepare_deadline_s":1,"buffers":2}`,
		ReleaseKey(w.site, w.r1):               "[]",
		ReleasesPrefix(w.site) + "latest":      "{}",
		ReadyPrefix(w.site) + "9/main/n":       "-",
		ReadyPrefix(w.site) + "0/n":            "-",
		MemberKey(w.site, "n"):                 "perhaps",
		MembersPrefix(w.site) + "N":            "in",
		ResultKey(w.site, "01R"):               "",
		VerdictsPrefix(w.site) + "the-bad-one": "bad",
	} {
		had := w.get(key)
		w.put(key, value)
		_, err := c.Observe(t.Context(), w.site)
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s = %q: error %v", key, value, err)
		}
		if had.Create == 0 {
			w.del(key)
		} else {
			w.put(key, had.Value)
		}
	}
	w.view()
}

func TestSites(t *testing.T) {
	c := dialAt(t, clustertest.Own(t).ClientURL(), nil)
	ctx := within(t, 20*time.Second)
	if _, err := c.Info(ctx); !errors.Is(err, ErrNotFound) {
		t.Errorf("info of a new cluster: %v", err)
	}
	i, err := c.Init(ctx, Info{Store: "s3://a"})
	if err != nil || i.ID == "" {
		t.Fatalf("%v, %v", i, err)
	}
	again, err := c.Init(ctx, Info{Store: "s3://b", AccessKey: "k"})
	if err != nil || again.ID != i.ID || again.Store != "s3://b" {
		t.Errorf("%v, %v", again, err)
	}
	if got, err := c.Info(ctx); err != nil || got != again {
		t.Errorf("%v, %v", got, err)
	}

	if sites, err := c.Sites(ctx); err != nil || len(sites) != 0 {
		t.Errorf("%v, %v", sites, err)
	}
	var wg sync.WaitGroup
	var want []release.Site
	for i := range 8 {
		s := release.Site(fmt.Sprint("s", i))
		want = append(want, s)
		wg.Go(func() {
			if err := c.CreateSite(ctx, s, DefaultPolicy()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sites, err := c.Sites(ctx)
	slices.Sort(sites)
	if err != nil || !slices.Equal(sites, want) {
		t.Errorf("%v, %v", sites, err)
	}
	if err := c.CreateSite(ctx, "s3", DefaultPolicy()); RefusedBy(err) != ClassExists {
		t.Errorf("made twice: %v", err)
	}
	if err := c.CreateSite(ctx, "s9", Policy{Min: "most"}); err == nil {
		t.Error("a policy that makes no sense was taken")
	}
}

func TestRegister(t *testing.T) {
	w := newWorld(t, dial(t))
	ctx := within(t, 20*time.Second)
	m, err := w.c.BeginUpload(ctx, w.site, "01REQ", "host-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.until("marker", UploadKey(w.site, "01REQ"), func(p Pair) bool { return strings.Contains(p.Value, `"host":"host-1"`) })
	calls := 0
	got, err := w.c.Register(ctx, m, func(seq uint64) (release.ID, ReleaseRecord, error) {
		if calls++; calls == 1 { // another publisher is faster
			other := record(seq)
			other.Request = "01OTHER"
			w.put(ReleaseKey(w.site, id(seq)), encode(other))
			w.put(SeqKey(w.site), fmt.Sprint(seq))
		}
		return id(seq), record(seq), nil
	})
	if err != nil || got != id(4) || calls != 2 {
		t.Errorf("registered %s in %d calls, error %v", got, calls, err)
	}
	w.wantValue(SeqKey(w.site), "4")
	if r := w.view().Releases[got].Value; r.Request != "01REQ" {
		t.Errorf("record %+v", r)
	}
	stop := errors.New("stop")
	if _, err := w.c.Register(ctx, m, func(uint64) (release.ID, ReleaseRecord, error) { return "", ReleaseRecord{}, stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	w.until("marker", UploadKey(w.site, "01REQ"), gone)
	build := func(seq uint64) (release.ID, ReleaseRecord, error) { return id(seq), record(seq), nil }
	if _, err := w.c.Register(ctx, m, build); RefusedBy(err) != ClassUploadExpired {
		t.Errorf("without a marker: %v", err)
	}
	if _, err := w.c.Register(ctx, &UploadMarker{Site: "nowhere", Request: "01REQ"}, build); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such site: %v", err)
	}
	if _, err := w.c.BeginUpload(ctx, "nowhere", "01REQ", "h", nil); err == nil {
		t.Error("a marker for a site that does not exist")
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, dial(t))
	for e := range release.Epoch(12) {
		w.put(HistoryKey(w.site, e+1), encode(Active{Epoch: e + 1}))
	}
	h, err := w.c.History(t.Context(), w.site, 5)
	if err != nil || len(h) != 5 || h[0].Epoch != 12 || h[4].Epoch != 8 {
		t.Errorf("%v, %v", h, err)
	}
	if h, err := w.c.History(t.Context(), w.site, 0); err != nil || len(h) != 12 {
		t.Errorf("all: %v, %v", h, err)
	}
	if _, err := w.c.History(t.Context(), "nowhere", 5); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such site: %v", err)
	}
}

func TestSetFreeze(t *testing.T) {
	w := newWorld(t, dial(t))
	v := w.view()
	if err := w.c.SetFreeze(t.Context(), v, &Freeze{By: "op", At: day}); err != nil {
		t.Fatal(err)
	}
	if err := w.c.SetFreeze(t.Context(), v, nil); RefusedBy(err) != ClassConflict {
		t.Errorf("on old ground: %v", err)
	}
	if err := w.c.SetFreeze(t.Context(), w.view(), nil); err != nil || w.view().Freeze.Exists() {
		t.Errorf("thawed: %v", err)
	}
}

// TestAsk_race: of two that ask at once one wins, and the other is told.
func TestAsk_race(t *testing.T) {
	w := newWorld(t, dial(t))
	for range 20 {
		v := w.view()
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = w.c.Ask(within(t, 10*time.Second), v, Desired{Request: NewRequestID(), Mode: FlipTo, Release: w.r1, At: day})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("errors %v", errs)
		}
		if lost := errors.Join(errs...); RefusedBy(lost) != ClassConflict {
			t.Fatalf("the loser is told %v", lost)
		}
	}
}
