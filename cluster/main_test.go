package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
	"relman/release"
)

func TestMain(m *testing.M) { clustertest.Main(m) }

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// dial connects to the shared member.
func dial(t testing.TB) *Client {
	t.Helper()
	return dialAt(t, clustertest.Start(t), nil)
}

func dialAt(t testing.TB, endpoint string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Endpoints: []string{endpoint}}
	if _, bench := t.(*testing.B); !bench {
		cfg.Log = testLog(t)
	}
	if change != nil {
		change(&cfg)
	}
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// within is a context for a part of a test.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// world is a site in the middle of a rollout, seeded key by key.
type world struct {
	t     testing.TB
	c     *Client
	site  release.Site
	fence Fence
	nodes []Self
	r1    release.ID // active, in buffer 0
	r2    release.ID // claimed by every node in buffer 1; asked for, its rollout in flight
}

var day = time.Date(2026, 11, 22, 19, 58, 0, 0, time.UTC)

func id(seq uint64) release.ID {
	return release.NewID(seq, release.Sum([]byte(fmt.Sprint("manifest ", seq))))
}

func record(seq uint64) ReleaseRecord {
	return ReleaseRecord{Manifest: release.Sum([]byte(fmt.Sprint("manifest ", seq))), Files: 3, Bytes: 12, Created: day, By: "ci@example", Request: "01REQ"}
}

func newWorld(t testing.TB, c *Client) *world {
	t.Helper()
	w := &world{t: t, c: c, site: release.Site(clustertest.Name("site")), r1: id(1), r2: id(2)}
	live := Live{Boot: "01BOOT", Addr: "http://127.0.0.1:1", Version: "v0"}
	w.nodes = []Self{{release.NodeID(clustertest.Name("n1")), "main", live}, {release.NodeID(clustertest.Name("n2")), "main", live}}
	if err := c.CreateSite(t.Context(), w.site, DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	key := ElectionPrefix + "/" + string(w.site)
	w.put(key, "manager-1")
	t.Cleanup(func() { _, _ = c.kv.Delete(context.WithoutCancel(t.Context()), key) })
	w.fence = Fence{Key: key, Create: w.get(key).Create}

	s := w.site
	var ops []clientv3.Op
	seed := func(key, value string) { ops = append(ops, clientv3.OpPut(key, value)) }
	seed(SeqKey(s), "2")
	seed(ReleaseKey(s, w.r1), encode(record(1)))
	seed(ReleaseKey(s, w.r2), encode(record(2)))
	seed(ActiveKey(s), encode(Active{Release: w.r1, Epoch: 7, Buffer: 0, Kind: Publish, Flip: "01FLIP1", Manifest: record(1).Manifest, At: day, Request: "01REQ1"}))
	seed(DesiredKey(s), encode(Desired{Request: "01REQ2", Mode: Publish, Release: w.r2, By: "ci@example", At: day}))
	seed(RolloutKey(s), encode(Rollout{Release: w.r2, Buffer: 1, Flip: "01FLIP2", Started: day, Deadline: day.Add(time.Hour), Request: "01REQ2"}))
	for _, n := range w.nodes {
		seed(JoinKey(n.Node), encode(Join{Sites: []release.Site{s}, Group: n.Group}))
		seed(LiveKey(n.Node), encode(n.Live))
		seed(MemberKey(s, n.Node), string(MemberIn))
		seed(ClaimKey(s, 0, n.Group, n.Node), string(w.r1))
		seed(ClaimKey(s, 1, n.Group, n.Node), string(w.r2))
		seed(ClaimKey(s, 2, n.Group, n.Node), NoClaim)
	}
	if _, err := c.kv.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) put(key, value string) {
	w.t.Helper()
	if _, err := w.c.kv.Put(w.t.Context(), key, value); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) del(key string, opts ...clientv3.OpOption) {
	w.t.Helper()
	if _, err := w.c.kv.Delete(w.t.Context(), key, opts...); err != nil {
		w.t.Fatal(err)
	}
}

// again writes a key with the value that it has.
func (w *world) again(key string) { w.t.Helper(); w.put(key, w.get(key).Value) }

// anew deletes a key and makes it again with the value that it had.
func (w *world) anew(key string) {
	w.t.Helper()
	v := w.get(key).Value
	w.del(key)
	w.put(key, v)
}

// get is one key, the zero Pair when there is none.
func (w *world) get(key string) Pair {
	w.t.Helper()
	for _, p := range w.all(key) {
		return p
	}
	return Pair{}
}

func (w *world) all(key string, opts ...clientv3.OpOption) []Pair {
	w.t.Helper()
	r, err := w.c.kv.Get(w.t.Context(), key, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return toPairs(r.Kvs)
}

// subtree is all that there is of the site, in short.
func (w *world) subtree() string {
	w.t.Helper()
	var b strings.Builder
	for _, p := range w.all(SitePrefix(w.site), clientv3.WithPrefix()) {
		fmt.Fprintf(&b, "%s@%d ", strings.TrimPrefix(p.Key, SitePrefix(w.site)), p.Mod)
	}
	return b.String()
}

func (w *world) view() *View {
	w.t.Helper()
	v, err := w.c.Observe(w.t.Context(), w.site)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// nodeView is what the first node obeys.
func (w *world) nodeView() *NodeView {
	w.t.Helper()
	v := w.view()
	nv := &NodeView{Site: w.site, Revision: v.Revision, Active: v.Active, Rollout: v.Rollout, Member: v.Members[w.nodes[0].Node]}
	for k := range 3 {
		nv.ClaimMods = append(nv.ClaimMods, w.get(ClaimKey(w.site, k, "main", w.nodes[0].Node)).Mod)
	}
	nv.Turn = w.get(TurnKey(w.nodes[0].Node, w.site)).Mod
	return nv
}

// next is the active value that the rollout of w leads to.
func (w *world) next(v *View) Active {
	a := v.Active.Value
	return Active{
		Release: w.r2, Epoch: a.Epoch + 1, Buffer: 1, Previous: &Held{Release: a.Release, Buffer: a.Buffer}, Kind: Publish,
		Flip: "01FLIP2", Manifest: record(2).Manifest, At: day, By: "ci@example", Request: "01REQ2", Quorum: Quorum{Members: 2, Claims: 2},
	}
}

func (w *world) refused(t Txn, want Class) *Refusal {
	w.t.Helper()
	before := w.subtree()
	_, err := w.c.Commit(within(w.t, 10*time.Second), t)
	if RefusedBy(err) != want {
		w.t.Fatalf("%s: error %v, want %s", t.Name, err, want)
	}
	if after := w.subtree(); after != before {
		w.t.Fatalf("%s was refused and changed\n%s\nto\n%s", t.Name, before, after)
	}
	r, _ := errors.AsType[*Refusal](err)
	return r
}

func (w *world) commit(t Txn) int64 {
	w.t.Helper()
	rev, err := w.c.Commit(within(w.t, 10*time.Second), t)
	if err != nil {
		w.t.Fatal(err)
	}
	return rev
}
