//go:build !noembed

package manager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"relman/cluster"
	"relman/cluster/clustertest"
	"relman/release"
)

func TestMain(m *testing.M) { clustertest.Main(m) }

// TestEtcd publishes twice, with the leader deposed in between, and rolls
// back, all on a real etcd: two managers, four nodes.
func TestEtcd(t *testing.T) {
	c := newEtcdWorld(t, 4, 2)
	first := c.publish()
	c.depose()
	second := c.publish()
	v := c.view()
	if a := v.Active.Value; a.Release != second || a.Epoch != 2 || a.Quorum.Members != 4 || a.Quorum.Claims != 4 || a.Previous.Release != first {
		t.Errorf("active: %+v", a)
	}
	c.ask(v, cluster.Desired{Mode: cluster.Rollback, Release: first, Request: cluster.NewRequestID()})
	v = c.view()
	if a := v.Active.Value; a.Release != first || a.Epoch != 3 || a.Kind != cluster.Rollback {
		t.Errorf("after the rollback: %+v", a)
	}

	h := NewAPI(c.client, c.managers[0])
	var d SiteDetail
	get(t, h, "/v1/sites/"+string(c.site), http.StatusOK, &d)
	if d.Active.Epoch != 3 || len(d.States) != 4 || d.Nodes.Live != 4 || d.Nodes.Members != 4 {
		t.Errorf("site: %+v", d)
	}
	var history []cluster.Active
	get(t, h, "/v1/sites/"+string(c.site)+"/history", http.StatusOK, &history)
	if len(history) != 3 || history[0].Epoch != 3 || history[2].Release != first {
		t.Errorf("history: %+v", history)
	}
}

// BenchmarkFlip measures the time from the last claim's commit, as its node
// sees it, to the flip, as a node sees it: two network ways, an observation
// and the flip's commit.
func BenchmarkFlip(b *testing.B) {
	for _, n := range []int{4, 100} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			c := newEtcdWorld(b, n, 1)
			var took []time.Duration
			for b.Loop() {
				c.publish()
				took = append(took, c.seen().Sub(c.claimed()))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// etcdCluster is the client as a program wires it to a manager. It remembers
// who won.
type etcdCluster struct {
	*cluster.Client
	won chan Leadership
}

var _ Cluster = etcdCluster{}

func (e etcdCluster) Campaign(ctx context.Context, id string, ttl time.Duration) (Leadership, error) {
	l, err := e.Client.Campaign(ctx, id, ttl)
	if err != nil {
		return nil, err
	}
	e.won <- l
	return l, nil
}

// etcdWorld is a site on a real etcd, with managers and nodes.
type etcdWorld struct {
	testing.TB
	client   *cluster.Client
	site     release.Site
	managers []*Manager
	won      chan Leadership
	reports  atomic.Bool  // nodes say what they show
	fill     atomic.Int64 // how long a node takes to hold a release

	mu                  sync.Mutex
	lastClaim, lastFlip time.Time
	epoch               release.Epoch
}

func newEtcdWorld(t testing.TB, nodes, managers int) *etcdWorld {
	t.Helper()
	return newEtcdWorldWith(t, nodes, managers, Config{})
}

func newEtcdWorldWith(t testing.TB, nodes, managers int, cfg Config) *etcdWorld {
	t.Helper()
	c := &etcdWorld{TB: t, client: dial(t), site: release.Site(clustertest.Name("www")), won: make(chan Leadership, 8)}
	if err := c.client.CreateSite(t.Context(), c.site, cluster.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() { cancel(); wg.Wait() })
	for i := range managers {
		cfg.ID, cfg.LeaseTTL = fmt.Sprintf("m%d", i+1), 2*time.Second
		m := New(etcdCluster{dial(t), c.won}, cfg)
		c.managers = append(c.managers, m)
		wg.Go(func() { _ = m.Run(ctx) })
	}
	for range nodes {
		n := c.client.Node(cluster.Self{Node: release.NodeID(clustertest.Name("n"))},
			cluster.Live{Boot: cluster.NewULID()}, cluster.Join{Sites: []release.Site{c.site}})
		wg.Go(func() { _ = n.Run(ctx) })
		wg.Go(func() { _ = n.Follow(ctx, c.site, func(v cluster.NodeView) { c.obey(ctx, n, v) }) })
	}
	c.until("all nodes have entered", func(v *cluster.View) bool { return v.Entered() == nodes })
	return c
}

func dial(t testing.TB) *cluster.Client {
	t.Helper()
	c, err := cluster.Dial(t.Context(), cluster.Config{Endpoints: []string{clustertest.Start(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// obey is a node without a disk: what it is to hold, it claims.
func (c *etcdWorld) obey(ctx context.Context, n *cluster.Node, v cluster.NodeView) {
	c.note(v.Active.Value.Epoch)
	if c.reports.Load() {
		st := cluster.Status{State: cluster.NodeServing, Release: v.Active.Value.Release, Epoch: v.Active.Value.Epoch}
		if err := n.Report(ctx, c.site, st); err != nil && ctx.Err() == nil {
			c.Errorf("node: %v", err)
		}
	}
	if v.Member.Value != cluster.MemberIn {
		return
	}
	held, entered, err := n.Claims(ctx, c.site)
	r := v.Rollout.Value
	switch {
	case err != nil:
	case !entered:
		held = make([]release.ID, cluster.DefaultBuffers)
		if v.Active.Exists() {
			held[v.Active.Value.Buffer] = v.Active.Value.Release
		}
		err = n.Enter(ctx, v, held)
	case v.Rollout.Exists() && held[r.Buffer] != r.Release:
		if err = n.Retract(ctx, v); err == nil {
			if !pass(ctx, time.Duration(c.fill.Load())) {
				return
			}
			err = n.Claim(ctx, v)
			c.mu.Lock()
			c.lastClaim = time.Now()
			c.mu.Unlock()
		}
	}
	if err != nil && !errors.Is(err, cluster.ErrConflict) && ctx.Err() == nil {
		c.Errorf("node: %v", err)
	}
}

// note remembers when the first node saw an epoch.
func (c *etcdWorld) note(e release.Epoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e > c.epoch {
		c.epoch, c.lastFlip = e, time.Now()
	}
}

func (c *etcdWorld) claimed() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.lastClaim }
func (c *etcdWorld) seen() time.Time    { c.mu.Lock(); defer c.mu.Unlock(); return c.lastFlip }

func (c *etcdWorld) view() *cluster.View {
	c.Helper()
	v, err := c.client.Observe(c.Context(), c.site)
	if err != nil {
		c.Fatal(err)
	}
	return v
}

// until waits until the site is as wanted.
func (c *etcdWorld) until(what string, is func(*cluster.View) bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	if err := c.client.Follow(ctx, c.site, is); err != nil {
		c.Fatalf("%s: %v: %+v", what, err, c.view())
	}
}

// publish registers a release, asks for it and waits until that has ended.
func (c *etcdWorld) publish() release.ID {
	c.Helper()
	id, req := c.register()
	c.ask(c.view(), cluster.Desired{Mode: cluster.Publish, Release: id, Request: req})
	return id
}

// register registers a release.
func (c *etcdWorld) register() (release.ID, cluster.RequestID) {
	c.Helper()
	ctx, req := c.Context(), cluster.NewRequestID()
	up, err := c.client.BeginUpload(ctx, c.site, req, "here", nil)
	if err != nil {
		c.Fatal(err)
	}
	defer func() { _ = up.Close(ctx) }()
	id, err := c.client.Register(ctx, up, func(seq uint64) (release.ID, cluster.ReleaseRecord, error) {
		d := release.Sum(fmt.Append(nil, c.site, seq))
		return release.NewID(seq, d), cluster.ReleaseRecord{Manifest: d}, nil
	})
	if err != nil {
		c.Fatal(err)
	}
	return id, req
}

// ask asks for something and waits until that has ended.
func (c *etcdWorld) ask(v *cluster.View, d cluster.Desired) {
	c.Helper()
	if _, err := c.client.Ask(c.Context(), v, d); err != nil {
		c.Fatal(err)
	}
	c.until("request "+string(d.Request)+" has ended", func(v *cluster.View) bool { return v.Done() })
	if r := c.view().Results[d.Request]; r.State != cluster.StateActive {
		c.Fatalf("request %s: %+v", d.Request, r)
	}
}

// depose deletes the leader's election key, as the end of its lease would.
func (c *etcdWorld) depose() {
	c.Helper()
	key := (<-c.won).Fence().Key
	if _, err := c.client.Commit(c.Context(), cluster.Txn{Name: "depose", Ops: []cluster.Op{{Key: key, Delete: true}}}); err != nil {
		c.Fatal(err)
	}
}
