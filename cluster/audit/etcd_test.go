package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/cluster/clustertest"
	"relman/release"
)

func TestMain(m *testing.M) { clustertest.Main(m) }

// lab is a site in a real etcd, worked by the real transactions.
type lab struct {
	t     *testing.T
	c     *cluster.Client
	lead  *cluster.Leadership
	nodes map[release.NodeID]*cluster.Node
	seq   uint64
}

func newLab(t *testing.T) *lab {
	t.Helper()
	c, err := cluster.Dial(t.Context(), cluster.Config{Endpoints: []string{clustertest.Own(t).ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, c: c, nodes: map[release.NodeID]*cluster.Node{}}
	t.Cleanup(func() { _ = c.Close() })
	l.ok(c.CreateSite(t.Context(), www, cluster.DefaultPolicy()))
	l.elect("m1")
	return l
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// elect has another manager lead.
func (l *lab) elect(id string) {
	l.t.Helper()
	if l.lead != nil {
		l.ok(l.lead.Resign(l.t.Context()))
	}
	lead, err := l.c.Campaign(l.t.Context(), id, 10*time.Second)
	l.ok(err)
	l.lead = lead
	l.t.Cleanup(func() { _ = lead.Resign(context.WithoutCancel(l.t.Context())) })
}

func (l *lab) view() *cluster.View {
	l.t.Helper()
	v, err := l.c.Observe(l.t.Context(), www)
	l.ok(err)
	return v
}

func (l *lab) commit(make func(cluster.Fence, *cluster.View) cluster.Txn) {
	l.t.Helper()
	_, err := l.c.Commit(l.t.Context(), make(l.lead.Fence(), l.view()))
	l.ok(err)
}

// nodeView is what a node would act on.
func (l *lab) nodeView(n release.NodeID) cluster.NodeView {
	v := l.view()
	return cluster.NodeView{Site: www, Revision: v.Revision, Active: v.Active, Rollout: v.Rollout, Member: v.Members[n]}
}

// starts starts a node's agent, and has it enter with what it holds.
func (l *lab) starts(n release.NodeID, boot string, held ...release.ID) {
	l.t.Helper()
	node := l.c.Node(cluster.Self{Node: n}, cluster.Live{Boot: boot, Addr: "http://127.0.0.1:1"}, cluster.Join{})
	l.nodes[n] = node
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = node.Run(ctx)
	}()
	l.t.Cleanup(func() { cancel(); <-ended })
	clustertest.Until(l.t, 20*time.Second, func() error {
		if l.view().Live[n].Boot != boot {
			return fmt.Errorf("%s is not live", n)
		}
		return nil
	})
	if !l.view().Members[n].Exists() {
		l.commit(func(f cluster.Fence, v *cluster.View) cluster.Txn { return cluster.Admit(f, v, n) })
	}
	l.ok(node.Enter(l.t.Context(), l.nodeView(n), held))
}

// says has every node report the epoch that is active.
func (l *lab) says() {
	l.t.Helper()
	epoch := l.view().Active.Value.Epoch
	for n, node := range l.nodes {
		l.ok(node.Report(l.t.Context(), www, cluster.Status{State: cluster.NodeServing, Epoch: epoch}))
		clustertest.Until(l.t, 20*time.Second, func() error {
			if l.view().Status[n].Epoch != epoch {
				return fmt.Errorf("%s does not report epoch %d", n, epoch)
			}
			return nil
		})
	}
}

// registers makes a release.
func (l *lab) registers() release.ID {
	l.t.Helper()
	l.seq++
	req := cluster.NewRequestID()
	m, err := l.c.BeginUpload(l.t.Context(), www, req, "ci", nil)
	l.ok(err)
	defer func() { l.ok(m.Close(l.t.Context())) }()
	digest := release.Sum([]byte(fmt.Sprint("manifest ", l.seq)))
	r := cluster.ReleaseRecord{Manifest: digest, Created: noon, By: "ci", Request: req}
	_, err = l.c.Commit(l.t.Context(), cluster.Register(www, l.view().Seq, m.GC, id(l.seq), r))
	l.ok(err)
	return id(l.seq)
}

// asks asks for something.
func (l *lab) asks(mode cluster.Kind, rel release.ID) cluster.RequestID {
	l.t.Helper()
	d := cluster.Desired{Request: cluster.NewRequestID(), Mode: mode, Release: rel, By: "op", At: noon, Freeze: mode == cluster.Rollback}
	_, err := l.c.Ask(l.t.Context(), l.view(), d)
	l.ok(err)
	return d.Request
}

// prepares starts the rollout of what was asked for, and has nodes claim it.
func (l *lab) prepares(nodes ...release.NodeID) {
	l.t.Helper()
	l.commit(func(f cluster.Fence, v *cluster.View) cluster.Txn {
		d := v.Desired.Value
		return cluster.StartRollout(f, v, cluster.Rollout{Release: d.Release, Buffer: v.BackBuffer(), Flip: cluster.NewULID(), Started: noon, Deadline: noon.Add(time.Hour), Request: d.Request})
	})
	for _, n := range nodes {
		l.ok(l.nodes[n].Retract(l.t.Context(), l.nodeView(n)))
		l.ok(l.nodes[n].Claim(l.t.Context(), l.nodeView(n)))
	}
}

// flips makes active what was asked for.
func (l *lab) flips() {
	l.t.Helper()
	l.commit(l.flip)
	l.says()
}

// flip is the transaction of a flip.
func (l *lab) flip(f cluster.Fence, v *cluster.View) cluster.Txn {
	l.t.Helper()
	d, old := v.Desired.Value, v.Active
	r, held := v.HeldBy(d.Release)
	if !held {
		l.t.Fatalf("%s is not held", d.Release)
	}
	a := cluster.Active{
		Release: d.Release, Epoch: old.Value.Epoch + 1, Buffer: r.Buffer, Kind: d.Mode, Flip: cluster.NewULID(), At: noon, By: d.By, Request: d.Request, Manifest: v.Releases[d.Release].Value.Manifest,
		Quorum: cluster.Quorum{Members: v.Entered(), Claims: len(r.Ready)},
	}
	if old.Exists() {
		a.Previous = &cluster.Held{Release: old.Value.Release, Buffer: old.Value.Buffer}
	}
	if v.Rollout.Exists() && v.Rollout.Value.Release == d.Release {
		a.Flip = v.Rollout.Value.Flip
	}
	return cluster.Flip(f, v, a)
}

// publishes makes a new release active.
func (l *lab) publishes() release.ID {
	l.t.Helper()
	rel := l.registers()
	l.asks(cluster.Publish, rel)
	l.prepares("n1", "n2", "n3")
	l.flips()
	return rel
}

// judged replays what there is.
func (l *lab) judged() *Report {
	l.t.Helper()
	c := New()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	l.ok(l.c.Replay(ctx, func(r cluster.Revision) error { c.Take(r); return nil }))
	return c.Report()
}

// TestEtcd: a history that the real transactions made has no violation; what is
// written past them is one.
func TestEtcd(t *testing.T) {
	l := newLab(t)
	for _, n := range []release.NodeID{"n1", "n2", "n3"} {
		l.starts(n, "01BOOT"+string(n), "", "", "")
	}
	first := l.publishes()
	second := l.publishes()

	// A rollback, while another rollout is under way; it freezes.
	l.asks(cluster.Publish, l.registers())
	l.prepares("n1", "n2")
	l.asks(cluster.Rollback, first)
	l.flips()
	l.ok(l.c.SetFreeze(t.Context(), l.view(), nil))

	// An abort, and a request that another one replaces, under another leader.
	l.elect("m2")
	l.asks(cluster.Publish, l.registers())
	l.prepares("n1")
	l.asks(cluster.Abort, "")
	l.commit(func(f cluster.Fence, v *cluster.View) cluster.Txn {
		return cluster.End(f, v, cluster.Result{State: cluster.StateAborted, At: noon})
	})
	l.asks(cluster.Publish, l.registers())
	l.prepares("n2")
	third := l.publishes()

	// A node loses its disk, starts again, and gets it all back.
	n1 := l.nodes["n1"]
	l.ok(n1.Lower(t.Context(), l.nodeView("n1"), []int{0, 1, 2}))
	a := l.view().Active.Value
	held := make([]release.ID, 3)
	held[a.Buffer], held[a.Previous.Buffer] = a.Release, a.Previous.Release
	l.ok(n1.Enter(t.Context(), l.nodeView("n1"), held))
	l.asks(cluster.FlipTo, first) // is held, as what was active before
	l.flips()

	r := l.judged()
	if len(r.Violations) > 0 {
		t.Errorf("%v", r.Violations)
	}
	if r.Base != 0 || r.From != 1 || r.Flips != 5 || r.Lowered != 2 || r.Revisions < 80 {
		t.Errorf("%+v", r)
	}
	t.Logf("%d violations of %d revisions, %d flips, %d lowered claims; releases %s %s %s", r.Broken(), r.Revisions, r.Flips, r.Lowered, first, second, third)

	// A leader that was, and a stale worker, which nothing guards.
	was := l.lead.Fence()
	l.elect("m3")
	l.asks(cluster.FlipTo, l.view().Active.Value.Previous.Release)
	late := l.flip(was, l.view())
	stale := cluster.Retract(cluster.Self{Node: "n2", Group: "main"}, &cluster.NodeView{
		Site: www, Rollout: cluster.Entry[cluster.Rollout]{Value: cluster.Rollout{Buffer: l.view().Active.Value.Buffer}},
	})
	for _, txn := range []cluster.Txn{late, stale} {
		if _, err := l.c.Commit(t.Context(), txn); err == nil {
			t.Fatalf("%s was committed", txn.Name)
		}
		txn.Guards = nil
		_, err := l.c.Commit(t.Context(), txn)
		l.ok(err)
	}
	v := l.judged().Violations
	if len(v) != 2 || v[0].Invariant != I4 || v[1].Invariant != I12 || !strings.HasSuffix(v[1].Key, "/n2") {
		t.Errorf("%v, want one of I4 and one of I12", v)
	}
}
