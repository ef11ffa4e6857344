package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
)

// TestGuard_holdsAsEtcdSays compares Holds with what etcd makes of the same
// guards, on random keys and random guards.
func TestGuard_holdsAsEtcdSays(t *testing.T) {
	c, ctx := dial(t), t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	held := 0
	const rounds, guards = 60, 12
	for range rounds {
		root := Prefix + clustertest.Name("guards") + "/"
		values := []string{"", "a", "b"}
		for i := range rnd.IntN(4) {
			for range 1 + rnd.IntN(3) {
				if _, err := c.kv.Put(ctx, fmt.Sprint(root, i), values[rnd.IntN(3)]); err != nil {
					t.Fatal(err)
				}
			}
			if rnd.IntN(5) == 0 {
				if _, err := c.kv.Delete(ctx, fmt.Sprint(root, i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		r, err := c.kv.Get(ctx, root, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		pairs := toPairs(r.Kvs)
		for range guards {
			g := Guard{Key: fmt.Sprint(root, rnd.IntN(4)), Field: Field(rnd.IntN(3)), Not: rnd.IntN(2) == 0, Value: values[rnd.IntN(3)]}
			if rnd.IntN(2) == 0 {
				g.Key, g.Prefix = root, true
			}
			if len(pairs) > 0 && rnd.IntN(2) == 0 {
				p := pairs[rnd.IntN(len(pairs))]
				g.Rev = []int64{p.Mod, p.Create}[rnd.IntN(2)]
			}
			var seen []Pair
			for _, p := range pairs {
				if g.Prefix || p.Key == g.Key {
					seen = append(seen, p)
				}
			}
			resp, err := c.kv.Txn(ctx).If(g.compare()).Commit()
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Holds(seen); got != resp.Succeeded {
				t.Fatalf("guard %+v on %v: Holds says %v, etcd %v", g, seen, got, resp.Succeeded)
			}
			if resp.Succeeded {
				held++
			}
		}
	}
	if held < rounds || held > rounds*(guards-1) {
		t.Errorf("%d of %d guards held: the test is one-sided", held, rounds*guards)
	}
}
