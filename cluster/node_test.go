package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
	"relman/release"
)

// newNode is a node that nobody has seen before, on the world's site.
func (w *world) newNode(name, boot string) *Node {
	return w.c.Node(Self{Node: release.NodeID(name)}, Live{Boot: boot, Addr: "http://127.0.0.1:1", Version: "v1"}, Join{Sites: []release.Site{w.site}})
}

// until polls what is at a key.
func (w *world) until(what, key string, cond func(Pair) bool) {
	w.t.Helper()
	clustertest.Until(w.t, 15*time.Second, func() error {
		if p := w.get(key); !cond(p) {
			return fmt.Errorf("%s: %s is %q", what, key, p.Value)
		}
		return nil
	})
}

func there(p Pair) bool { return p.Create != 0 }
func gone(p Pair) bool  { return p.Create == 0 }

func TestNode_registersAndLeaves(t *testing.T) {
	w := newWorld(t, dial(t))
	name := clustertest.Name("n")
	n := w.newNode(name, "01BOOT")
	if n.Alive() {
		t.Error("alive before it runs")
	}
	n.Vouch(12 * time.Second)
	stop := w.runs(n.Run)
	w.until("live", LiveKey(n.self.Node), there)
	w.wantValue(LastKey(n.self.Node), `{"boot":"01BOOT","fence_ms":12000}`)
	w.wantValue(LiveKey(n.self.Node), `{"boot":"01BOOT","addr":"http://127.0.0.1:1","version":"v1"}`)
	w.wantValue(JoinKey(n.self.Node), `{"sites":["`+string(w.site)+`"],"group":"main"}`)
	clustertest.Until(t, 5*time.Second, func() error {
		if !n.Alive() {
			return errors.New("not alive")
		}
		return nil
	})
	if err := n.Report(t.Context(), w.site, Status{State: NodeSyncing}); err != nil {
		t.Fatal(err)
	}
	w.until("status", StatusKey(n.self.Node, w.site), there)
	if v := w.view(); v.Live[n.self.Node].Boot != "01BOOT" || v.Status[n.self.Node].State != NodeSyncing || v.Joins[n.self.Node].Group != "main" {
		t.Errorf("live %v, status %v, joins %v", v.Live, v.Status, v.Joins)
	}
	stop()
	w.until("live after the stop", LiveKey(n.self.Node), gone)
	w.until("status after the stop", StatusKey(n.self.Node, w.site), gone)
	w.until("join after the stop", JoinKey(n.self.Node), there)

	before := w.view().Last[n.self.Node]
	if before.Value.Fence() != 12*time.Second {
		t.Errorf("the view has the fence %v", before.Value.Fence())
	}
	w.runs(w.newNode(name, "01BOOT").Run) // nothing but the revision tells the sessions apart
	w.until("the next session", LastKey(n.self.Node), func(p Pair) bool { return p.Mod > before.Mod })
}

func TestNode_leaseRevoked(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.newNode(clustertest.Name("n"), "01BOOT")
	w.runs(n.Run)
	_ = n.Report(t.Context(), w.site, Status{State: NodeServing, Epoch: 7})
	status := StatusKey(n.self.Node, w.site)
	w.until("status", status, there)
	r, err := w.c.kv.Get(t.Context(), LiveKey(n.self.Node))
	if err != nil || len(r.Kvs) != 1 {
		t.Fatal(err)
	}
	lease := r.Kvs[0].Lease
	if _, err := w.c.kv.Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	clustertest.Until(t, 10*time.Second, func() error {
		r, err := w.c.kv.Get(t.Context(), status)
		if err != nil || len(r.Kvs) == 0 || r.Kvs[0].Lease == lease {
			return fmt.Errorf("status not written again: %v, %w", r.Kvs, err)
		}
		return nil
	})
	w.until("live again", LiveKey(n.self.Node), there)
}

func TestNode_duplicate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	name := clustertest.Name("n")
	first, second := w.newNode(name, "01FIRST"), w.newNode(name, "01SECOND")
	stop := w.runs(first.Run)
	w.until("live", LiveKey(first.self.Node), there)
	s, err := w.c.session(t.Context(), nodeTTL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.end(t.Context()) }()
	if _, err := second.register(t.Context(), s); !errors.Is(err, errDuplicate) || !strings.Contains(err.Error(), "01FIRST") || !strings.Contains(err.Error(), "E_DUPLICATE_NODE") {
		t.Errorf("error %v", err)
	}
	w.runs(second.Run)
	time.Sleep(300 * time.Millisecond)
	if second.Alive() || !first.Alive() {
		t.Error("the second is alive, or the first is not")
	}
	clustertest.Until(t, 5*time.Second, func() error {
		if err := second.Unregistered(); !errors.Is(err, errDuplicate) || !strings.Contains(err.Error(), "01FIRST") {
			return fmt.Errorf("the second says %w", err)
		}
		return nil
	})
	if err := first.Unregistered(); err != nil {
		t.Errorf("the first says %v", err)
	}
	stop()
	w.until("the second", LiveKey(first.self.Node), func(p Pair) bool { return strings.Contains(p.Value, "01SECOND") })
}

// TestNode_killedAndStartedAgain: nobody renews the lease of a boot that is
// dead, and the next boot need not wait for its end.
func TestNode_killedAndStartedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	n := w.newNode(clustertest.Name("n"), "01SECOND")
	g, err := w.c.kv.Grant(t.Context(), 3) // 3-1-2: stale as soon as a second has gone
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.kv.Put(t.Context(), LiveKey(n.self.Node), encode(Live{Boot: "01DEAD"}), clientv3.WithLease(g.ID)); err != nil {
		t.Fatal(err)
	}
	w.runs(n.Run)
	w.until("the second boot", LiveKey(n.self.Node), func(p Pair) bool { return strings.Contains(p.Value, "01SECOND") })
	// The old lease ends without taking the new key with it.
	if _, err := w.c.kv.Revoke(t.Context(), g.ID); err != nil {
		t.Log(err)
	}
	w.until("still the second boot", LiveKey(n.self.Node), there)
}

// TestNode_succeeds: a boot that knows the one before to have ended waits for
// nothing.
func TestNode_succeeds(t *testing.T) {
	w := newWorld(t, dial(t))
	name := clustertest.Name("n")
	stop := w.runs(w.newNode(name, "01FIRST").Run)
	w.until("live", LiveKey(release.NodeID(name)), there)
	second := w.newNode(name, "01SECOND")
	second.Succeed("01FIRST")
	s, err := w.c.session(t.Context(), nodeTTL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.end(t.Context()) }()
	if _, err := second.register(t.Context(), s); err != nil {
		t.Error(err)
	}
	w.until("the second boot", LiveKey(second.self.Node), func(p Pair) bool { return strings.Contains(p.Value, "01SECOND") })
	stop()
	w.until("the second boot still", LiveKey(second.self.Node), there)
}

// TestNode_takenOver: a boot that was stalled finds another in its place, and
// keeps away.
func TestNode_takenOver(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.newNode(clustertest.Name("n"), "01STALLED")
	w.runs(n.Run)
	w.until("live", LiveKey(n.self.Node), there)
	s, err := w.c.session(t.Context(), nodeTTL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.end(t.Context()) }()
	other := encode(Live{Boot: "01OTHER"})
	if _, err := w.c.kv.Put(t.Context(), LiveKey(n.self.Node), other, clientv3.WithLease(s.Lease())); err != nil {
		t.Fatal(err)
	}
	clustertest.Until(t, 10*time.Second, func() error {
		if n.Alive() {
			return errors.New("still alive")
		}
		return nil
	})
	w.wantValue(LiveKey(n.self.Node), other)
}

func TestNode_joinIsKept(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.c.Node(Self{Node: release.NodeID(clustertest.Name("n")), Group: "canary"}, Live{Boot: "01B"}, Join{})
	w.put(JoinKey(n.self.Node), encode(Join{Group: "main"}))
	if err := n.Run(within(t, 10*time.Second)); !errors.Is(err, errJoined) || !strings.Contains(err.Error(), "main") {
		t.Errorf("another group: error %v", err)
	}
}

func TestNode_reportsTheNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	n := w.newNode(clustertest.Name("n"), "01B")
	w.runs(n.Run)
	key := StatusKey(n.self.Node, w.site)
	w.until("live", LiveKey(n.self.Node), there)
	began := time.Now()
	p := Progress{Release: w.r2, Total: 1000}
	for i := range int64(1000) {
		p.Done = i + 1
		if err := n.Report(t.Context(), w.site, Status{State: NodePreparing, Preparing: &p}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	w.until("the last progress", key, func(p Pair) bool { return strings.Contains(p.Value, `"done":1000`) })
	_ = n.Report(t.Context(), w.site, Status{State: NodeServing, Epoch: 8})
	w.until("the next step", key, func(p Pair) bool { return strings.Contains(p.Value, `"epoch":8`) })
	r, err := w.c.kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	// The first, one a second, the last, and the step.
	if n := r.Kvs[0].Version; n > int64(4+time.Since(began)/time.Second) {
		t.Errorf("written %d times", n)
	}
}

func TestNode_sessionOverACut(t *testing.T) {
	w := newWorld(t, dial(t))
	far, p := through(t)
	n := far.Node(Self{Node: release.NodeID(clustertest.Name("n"))}, Live{Boot: "01B"}, Join{})
	w.runs(n.Run)
	w.until("live", LiveKey(n.self.Node), there)
	p.cut()
	_ = n.Report(t.Context(), w.site, Status{State: NodeServing})
	w.until("status", StatusKey(n.self.Node, w.site), there)
	if !n.Alive() {
		t.Error("a cut connection is no end of a session")
	}
}

func TestNode_claims(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.c.Node(w.nodes[0], w.nodes[0].Live, Join{})
	ctx := within(t, 20*time.Second)
	held, entered, err := n.Claims(ctx, w.site)
	if err != nil || !entered || len(held) != 3 || held[0] != w.r1 || held[1] != w.r2 || held[2] != "" {
		t.Fatalf("claims %v, %v, %v", held, entered, err)
	}
	v := *w.nodeView()
	for what, err := range map[string]error{
		"retract": n.Retract(ctx, v),
		"lower":   n.Lower(ctx, v, []int{0}),
		"nothing": n.Lower(ctx, v, nil),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if held, _, _ := n.Claims(ctx, w.site); held[0] != "" || held[1] != "" {
		t.Errorf("claims %v", held)
	}
	if err := n.Claim(ctx, v); err != nil {
		t.Error(err)
	}
	if err := n.Enter(ctx, v, []release.ID{w.r1, w.r2, ""}); err != nil {
		t.Error(err)
	}
	if held, _, _ := n.Claims(ctx, w.site); held[0] != w.r1 || held[1] != w.r2 {
		t.Errorf("claims %v", held)
	}
	if _, entered, err := w.newNode("stranger", "").Claims(ctx, w.site); entered || err != nil {
		t.Errorf("a stranger has entered: %v, %v", entered, err)
	}
	if r, err := n.Release(ctx, w.site, w.r2); err != nil || r != record(2) {
		t.Errorf("release %v, %v", r, err)
	}
	if _, err := n.Release(ctx, w.site, id(9)); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such release: %v", err)
	}
}

// TestNode_claimsKnown: a node writes its claims only as it knows them. What
// was under way for long does not undo what it has said since.
func TestNode_claimsKnown(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.c.Node(w.nodes[0], w.nodes[0].Live, Join{})
	ctx := within(t, 20*time.Second)
	v := *w.nodeView()
	conflict := func(what string, err error) {
		t.Helper()
		if RefusedBy(err) != ClassConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	conflict("claims that were not read", n.Retract(ctx, v))
	_, _, err := n.Claims(ctx, w.site)
	ok("read", err)
	known := *w.nodeView()
	ok("retract", n.Retract(ctx, v))
	late := ClaimReady(w.nodes[0], w.nodeView())
	ok("claim", n.Claim(ctx, v))
	ok("lower", n.Lower(ctx, v, []int{1}))
	_ = w.refused(late, ClassConflict)
	_ = w.refused(Enter(w.nodes[0], &known, []release.ID{w.r1, w.r2, ""}), ClassConflict)

	w.again(RolloutKey(w.site))
	if err := n.Claim(ctx, v); RefusedBy(err) != ClassRolloutChanged {
		t.Errorf("an old rollout: %v", err)
	}
	v = *w.nodeView()
	ok("claim, after a refusal that changes nothing", n.Claim(ctx, v))
	w.again(ClaimKey(w.site, 1, "main", n.self.Node))
	conflict("a claim that somebody else wrote", n.Retract(ctx, v))
	_, _, err = n.Claims(ctx, w.site)
	ok("read again", err)
	ok("retract", n.Retract(ctx, v))
}

// TestNode_runEnds: Run ends in short time also when etcd is gone.
func TestNode_runEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	far, p := through(t)
	n := far.Node(Self{Node: release.NodeID(clustertest.Name("n"))}, Live{Boot: "01B"}, Join{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w.until("live", LiveKey(n.self.Node), there)
	p.set(func() { p.closed = true })
	p.cut()
	cancel()
	began := time.Now()
	if err := await(t, "the end", done); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("took %v to end", d)
	}
}
