package cluster

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/embedded"
	"relman/release"
)

// durable is a member as users have it: it syncs what it writes.
func durable(b *testing.B) *Client {
	b.Helper()
	m, err := embedded.Start(b.Context(), embedded.Config{Dir: b.TempDir(), ClientURL: "http://127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close() })
	return dialAt(b, m.ClientURL(), nil)
}

// BenchmarkCommit measures the flip beside the smallest transaction there is,
// one key with one compare, on the same member in the same run.
func BenchmarkCommit(b *testing.B) {
	c := durable(b)
	b.Run("put", func(b *testing.B) {
		key := Prefix + "bench"
		var mod int64
		if r, err := c.kv.Get(b.Context(), key); err != nil {
			b.Fatal(err)
		} else {
			mod = modOf(only(r.Kvs))
		}
		for b.Loop() {
			rev, err := c.Commit(b.Context(), Txn{Name: "put", Guards: []Guard{unchanged(key, mod, ClassConflict)}, Ops: []Op{putBare(key, "x")}})
			if err != nil {
				b.Fatal(err)
			}
			mod = rev
		}
	})
	for _, claims := range []int{3, 1000, 5000} {
		b.Run(fmt.Sprintf("flip/claims=%d", claims), func(b *testing.B) {
			w := newWorld(b, c)
			w.claims(claims)
			v := w.view()
			a := w.next(v)
			for b.Loop() {
				rev, err := c.Commit(b.Context(), Flip(w.fence, v, a))
				if err != nil {
					b.Fatal(err)
				}
				// The next flip answers another request.
				a.Epoch++
				a.Request = RequestID(fmt.Sprintf("01REQ%d", a.Epoch))
				v.Desired.Value.Request = a.Request
				v.Active.Mod, v.Active.Create = rev, 1
				v.Rollout = Entry[Rollout]{}
			}
		})
	}
}

// claims leaves n claims of the next release in its buffer.
func (w *world) claims(n int) {
	w.t.Helper()
	w.del(ClaimsPrefix(w.site, 1), clientv3.WithPrefix())
	for n > 0 {
		var ops []clientv3.Op
		for ; n > 0 && len(ops) < 100; n-- {
			ops = append(ops, clientv3.OpPut(ClaimKey(w.site, 1, "main", release.NodeID(fmt.Sprintf("node-%05d", n))), string(w.r2)))
		}
		if _, err := w.c.kv.Txn(w.t.Context()).Then(ops...).Commit(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// BenchmarkObserve is what a leader reads for each decision.
func BenchmarkObserve(b *testing.B) {
	c := durable(b)
	for _, claims := range []int{3, 1000, 5000} {
		b.Run(fmt.Sprintf("claims=%d", claims), func(b *testing.B) {
			w := newWorld(b, c)
			w.claims(claims)
			for b.Loop() {
				w.view()
			}
		})
	}
}

// BenchmarkFollow is the way from the commit of a flip to a node's callback.
func BenchmarkFollow(b *testing.B) {
	w := newWorld(b, durable(b))
	n := dialAt(b, w.c.cfg.Endpoints[0], nil).Node(w.nodes[0], Live{}, Join{})
	seen := make(chan release.Epoch, 16)
	w.runsIn(b, func(v NodeView) { seen <- v.Active.Value.Epoch }, n)
	for epoch := range seen {
		if epoch == 7 {
			break
		}
	}
	epoch := release.Epoch(7)
	for b.Loop() {
		epoch++
		w.setActive(epoch)
		for e := range seen {
			if e == epoch {
				break
			}
		}
	}
}

func (w *world) runsIn(b *testing.B, each func(NodeView), n *Node) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Follow(b.Context(), w.site, each)
	}()
	b.Cleanup(func() { <-done })
}
