package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
	"relman/release"
)

// views collects what a node is told.
type views struct {
	t    testing.TB
	mu   sync.Mutex
	all  []NodeView
	busy bool
}

func (v *views) add(n NodeView) {
	v.mu.Lock()
	if v.busy {
		v.t.Error("two calls at once")
	}
	v.busy = true
	v.mu.Unlock()
	time.Sleep(time.Millisecond)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy = false
	v.all = append(v.all, n)
}

func (v *views) last() (n NodeView, count int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		return n, 0
	}
	return v.all[len(v.all)-1], len(v.all)
}

// wait waits for a view of which cond has nothing to say.
func (v *views) wait(what string, cond func(NodeView) bool) {
	v.t.Helper()
	clustertest.Until(v.t, 15*time.Second, func() error {
		if n, count := v.last(); count == 0 || !cond(n) {
			return fmt.Errorf("not told that %s; the last of %d views: %+v", what, count, n)
		}
		return nil
	})
}

// followed starts to follow the world's site as its first node, through c.
func (w *world) followed(c *Client) (*views, *Node) {
	w.t.Helper()
	n := c.Node(w.nodes[0], Live{Boot: "01BOOT"}, Join{})
	got := &views{t: w.t}
	w.runs(func(ctx context.Context) error { return n.Follow(ctx, w.site, got.add) })
	return got, n
}

// runs runs f until the test ends, and wants nil of it then.
func (w *world) runs(f func(ctx context.Context) error) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := await(w.t, "the end", done); err != nil {
			w.t.Errorf("ended with %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) setActive(epoch release.Epoch) {
	w.t.Helper()
	w.put(ActiveKey(w.site), encode(Active{Release: w.r2, Epoch: epoch, Buffer: 1}))
}

func epochIs(e release.Epoch) func(NodeView) bool {
	return func(v NodeView) bool { return v.Active.Value.Epoch == e }
}

func TestFollow_node(t *testing.T) {
	w := newWorld(t, dial(t))
	got, n := w.followed(w.c)
	got.wait("it is a member", func(v NodeView) bool {
		return v.Member.Value == MemberIn && v.Active.Value.Release == w.r1 && v.Rollout.Value.Release == w.r2 && v.Active.Mod > 0
	})
	v := w.view()
	w.commit(Flip(w.fence, v, w.next(v)))
	got.wait("the flip ended the rollout", func(v NodeView) bool { return epochIs(8)(v) && !v.Rollout.Exists() })
	last, _ := got.last()
	if now := w.nodeView(); last.Active.Mod != now.Active.Mod || last.Active.Create != now.Active.Create {
		t.Errorf("active %+v, want %+v", last.Active, now.Active)
	}
	w.del(MemberKey(w.site, w.nodes[0].Node))
	got.wait("it is no member", func(v NodeView) bool { return !v.Member.Exists() })

	// Other keys of the site wake nobody.
	_, before := got.last()
	w.put(ClaimKey(w.site, 0, "main", "other"), NoClaim)
	w.put(StatusKey("other", w.site), "{}")
	w.setActive(9)
	got.wait("epoch 9", epochIs(9))
	if _, after := got.last(); after != before+1 {
		t.Errorf("%d calls for one change of three keys", after-before)
	}
	// A storm ends with the newest.
	for e := range release.Epoch(100) {
		w.setActive(10 + e)
	}
	got.wait("the last of many epochs", epochIs(109))
	if n.MissedEvents() != 0 {
		t.Errorf("missed %d events", n.MissedEvents())
	}
}

func TestFollow_siteThatComesLater(t *testing.T) {
	c := dial(t)
	w := &world{t: t, c: c, site: release.Site(clustertest.Name("later")), nodes: []Self{{Node: "n1"}}}
	got, _ := w.followed(c)
	got.wait("there is nothing", func(v NodeView) bool { return !v.Active.Exists() })
	w.setActive(1)
	got.wait("epoch 1", epochIs(1))
}

func TestFollow_badValueIsSkipped(t *testing.T) {
	w := newWorld(t, dial(t))
	got, _ := w.followed(w.c)
	got.wait("epoch 7", epochIs(7))
	w.put(ActiveKey(w.site), "{")
	w.put(MemberKey(w.site, w.nodes[0].Node), "perhaps")
	w.setActive(8)
	w.put(MemberKey(w.site, w.nodes[0].Node), "out")
	got.wait("epoch 8, and it is out", func(v NodeView) bool { return epochIs(8)(v) && v.Member.Value == MemberOut })
}

// TestFollow_compactedBehind: the connection is gone while the site moves on
// and etcd forgets how.
func TestFollow_compactedBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dialAt(t, clustertest.Own(t).ClientURL(), nil))
	p := newProxy(t, w.c.cfg.Endpoints[0])
	far := dialAt(t, p.endpoint(), func(c *Config) { c.Timeout = 500 * time.Millisecond })
	got, n := w.followed(far)
	got.wait("epoch 7", epochIs(7))
	for e := range release.Epoch(3) {
		p.set(func() { p.closed = true })
		p.cut()
		for i := range release.Epoch(10) {
			w.setActive(10*(e+1) + i)
		}
		w.del(RolloutKey(w.site))
		if _, err := w.c.kv.Compact(t.Context(), w.get(ActiveKey(w.site)).Mod, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.closed = false })
		got.wait("the newest epoch", epochIs(10*(e+1)+9))
		// And the watch lives again.
		w.put(RolloutKey(w.site), "{}")
		got.wait("the rollout", func(v NodeView) bool { return v.Rollout.Exists() })
	}
	if n.MissedEvents() != 0 {
		t.Errorf("missed %d events", n.MissedEvents())
	}
}

// lossy is a watcher that loses what happens to some keys.
type lossy struct {
	clientv3.Watcher
	mu    sync.Mutex
	key   string
	begun int // watches
}

func (l *lossy) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	l.mu.Lock()
	l.begun++
	l.mu.Unlock()
	in, out := l.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			l.mu.Lock()
			lose := key == l.key && len(r.Events) > 0
			l.mu.Unlock()
			if lose {
				continue
			}
			select {
			case out <- r:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func (l *lossy) lose(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key = key
}

// TestFollow_lostEvents: what the watch keeps to itself is found by the
// re-read, told, and counted; what is merely late is not counted.
func TestFollow_lostEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	c := dialAt(t, w.c.cfg.Endpoints[0], func(c *Config) { c.Reread = 50 * time.Millisecond })
	l := &lossy{Watcher: c.watcher}
	c.watcher = l
	got, n := w.followed(c)
	got.wait("epoch 7", epochIs(7))
	time.Sleep(200 * time.Millisecond) // some re-reads that find nothing
	if n.MissedEvents() != 0 {
		t.Fatalf("missed %d events", n.MissedEvents())
	}
	l.lose(ActiveKey(w.site))
	w.setActive(8)
	got.wait("epoch 8", epochIs(8))
	missed := func(want uint64) {
		t.Helper()
		clustertest.Until(t, 10*time.Second, func() error {
			if m := n.MissedEvents(); m != want {
				return fmt.Errorf("missed %d events, want %d", m, want)
			}
			return nil
		})
	}
	missed(1)
	clustertest.Until(t, 10*time.Second, func() error { // it watches anew
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.begun != 12 { // six keys, twice
			return fmt.Errorf("%d watches", l.begun)
		}
		return nil
	})
	l.lose(RolloutKey(w.site))
	w.del(RolloutKey(w.site))
	got.wait("the rollout is gone", func(v NodeView) bool { return !v.Rollout.Exists() })
	missed(2)
	l.lose("")
	w.setActive(9)
	got.wait("epoch 9", epochIs(9))
	missed(2)
}

func TestFollow_sitesOfANode(t *testing.T) {
	w := newWorld(t, dial(t))
	other := release.Site(clustertest.Name("other"))
	var mu sync.Mutex
	got := map[string][]release.Site{}
	follow := func(name string, n *Node) {
		w.runs(func(ctx context.Context) error {
			return n.FollowSites(ctx, func(s []release.Site) {
				mu.Lock()
				defer mu.Unlock()
				got[name] = s
			})
		})
	}
	has := func(name string, s release.Site, want bool) {
		t.Helper()
		clustertest.Until(t, 10*time.Second, func() error {
			mu.Lock()
			defer mu.Unlock()
			if have := slices.Contains(got[name], s); have != want || got[name] == nil {
				return fmt.Errorf("node for %s has %s: %v", name, s, have)
			}
			return nil
		})
	}
	follow("all", w.c.Node(Self{Node: release.NodeID(clustertest.Name("n"))}, Live{}, Join{}))
	follow("joined", w.c.Node(w.nodes[0], Live{}, Join{Sites: []release.Site{other}})) // joined for w.site
	follow("one", w.c.Node(Self{Node: release.NodeID(clustertest.Name("n"))}, Live{}, Join{Sites: []release.Site{other}}))
	has("all", w.site, true)
	has("joined", w.site, true)
	if err := w.c.CreateSite(t.Context(), other, DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	has("all", other, true)
	has("one", other, true)
	has("one", w.site, false)
	has("joined", other, false)
}

func TestFollow_view(t *testing.T) {
	w := newWorld(t, dial(t))
	var epochs []release.Epoch
	first := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- w.c.Follow(within(t, 20*time.Second), w.site, func(v *View) bool {
			epochs = append(epochs, v.Active.Value.Epoch)
			if len(epochs) == 1 {
				close(first)
			}
			return v.Active.Value.Epoch == 8 && len(v.Status) == 1
		})
	}()
	await(t, "the first view", first)
	w.setActive(8)
	w.put(StatusKey(w.nodes[0].Node, w.site), encode(Status{State: NodeServing}))
	if err := await(t, "the end", done); err != nil || !slices.IsSorted(epochs) {
		t.Errorf("epochs %v, error %v", epochs, err)
	}

	if err := w.c.Follow(t.Context(), "nowhere", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a site that does not exist: %v", err)
	}
	err := w.c.Follow(within(t, 50*time.Millisecond), w.site, func(*View) bool { return false })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("time is up: %v", err)
	}
}

func TestFollow_viewOverAFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	far, p := through(t)
	first := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(first) })
		done <- far.Follow(within(t, 20*time.Second), w.site, func(v *View) bool {
			once()
			return v.Active.Value.Epoch == 8
		})
	}()
	await(t, "the first view", first)
	p.set(func() { p.closed = true })
	p.cut()
	w.setActive(8)
	time.Sleep(time.Second) // longer than a call of this client takes
	p.set(func() { p.closed = false })
	if err := await(t, "the end", done); err != nil {
		t.Error(err)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dialAt(t, clustertest.Own(t).ClientURL(), nil))
	p := newProxy(t, w.c.cfg.Endpoints[0])
	far := dialAt(t, p.endpoint(), func(c *Config) { c.Timeout = 500 * time.Millisecond })
	touched := make(chan release.Site, 1000)
	w.runs(func(ctx context.Context) error {
		return far.Changes(ctx, func(s release.Site) { touched <- s })
	})
	wait := func(what string, want ...release.Site) {
		t.Helper()
		missing := slices.Clone(want)
		for len(missing) > 0 {
			got := await(t, fmt.Sprintf("%s: %v", what, missing), touched)
			missing = slices.DeleteFunc(missing, func(s release.Site) bool { return s == got })
		}
	}
	drain := func() {
		for len(touched) > 0 {
			<-touched
		}
	}
	wait("the start", w.site)
	if err := w.c.CreateSite(t.Context(), "second", DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	wait("a new site", "second")
	drain()
	w.again(ClaimKey(w.site, 1, "main", w.nodes[0].Node))
	wait("a claim", w.site)
	w.again(LiveKey(w.nodes[0].Node))
	wait("a node", w.site, "second")
	p.set(func() { p.closed = true })
	p.cut()
	drain()
	w.setActive(8)
	w.setActive(9)
	if _, err := w.c.kv.Compact(t.Context(), w.get(ActiveKey(w.site)).Mod); err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.closed = false })
	wait("what was compacted away", w.site, "second")
}

// TestNode_wrongSites: a name in the catalog that no site can have is none of a
// node's sites: it becomes a directory there.
func TestNode_wrongSites(t *testing.T) {
	n := (&Client{log: slog.New(slog.DiscardHandler)}).Node(Self{Node: "n1"}, Live{}, Join{})
	catalog := &mvccpb.KeyValue{Key: []byte(CatalogKey), Value: []byte(`{"sites":["www","../../www","","shop"]}`)}
	sites, err := n.sites(catalog, nil)
	if want := []release.Site{"www", "shop"}; err != nil || !slices.Equal(sites, want) {
		t.Errorf("%q, %v, want %q", sites, err, want)
	}
}

// TestTracker_restored: etcd that was restored from a copy comes by the same
// revisions again, with other values. They are news.
func TestTracker_restored(t *testing.T) {
	read := func(rev int64, value string) *clientv3.TxnResponse {
		kv := &mvccpb.KeyValue{Key: []byte("k"), Value: []byte(value), ModRevision: 101, CreateRevision: 7}
		get := &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}}
		return &clientv3.TxnResponse{
			Header:    &etcdserverpb.ResponseHeader{Revision: rev},
			Responses: []*etcdserverpb.ResponseOp{{Response: get}},
		}
	}
	tr := newTracker("k")
	tr.reset(read(101, "before"), 0, false)
	_, before, _, _ := tr.state()
	if tr.reset(read(101, "before"), 0, false); !unmoved(before, tr.states) {
		t.Error("a second look is news")
	}
	if tr.reset(read(101, "after"), 0, false); unmoved(before, tr.states) {
		t.Error("another value is no news")
	}
	tr.reset(read(101, "before"), 0, false)
	if tr.compare(read(102, "before"), 0, false) {
		t.Error("the watch owes what it has delivered")
	}
	if !tr.compare(read(103, "after"), 0, false) || unmoved(before, tr.states) {
		t.Error("another value was not found")
	}
}

// unmoved reports whether a tracker's states are no news to who was told of kvs.
func unmoved(kvs []*mvccpb.KeyValue, states []keyState) bool {
	return slices.EqualFunc(kvs, states, func(kv *mvccpb.KeyValue, s keyState) bool { return sameKey(kv, s.kv) })
}
