//go:build !noembed

package manager

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"relman/cluster"
)

// TestRollback_duringRollout: a rollback in the middle of a rollout is there at
// once, and the rollout never becomes active after it.
//
// RELMAN_ROUNDS=100 makes more of it.
func TestRollback_duringRollout(t *testing.T) {
	rounds := 20
	if s := os.Getenv("RELMAN_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil || rounds < 1 {
			t.Fatalf("RELMAN_ROUNDS=%s is no number of rounds", s)
		}
	}
	c := newEtcdWorld(t, 3, 1)
	c.publish()
	c.publish()
	c.fill.Store(int64(5 * time.Millisecond))
	var took []time.Duration
	overtaken := 0
	published := map[cluster.RequestID]cluster.RequestID{} // by the rollback that came after
	for range rounds {
		to := c.view().Active.Value.Previous.Release
		id, req := c.register()
		d := cluster.Desired{Mode: cluster.Publish, Release: id, Request: req}
		if _, err := c.client.Ask(t.Context(), c.view(), d); err != nil {
			t.Fatal(err)
		}
		if wait := rand.N(10 * time.Millisecond); !pass(t.Context(), wait) {
			t.Fatal(t.Context().Err())
		}
		back := cluster.Desired{Mode: cluster.Rollback, Release: to, Request: cluster.NewRequestID()}
		published[back.Request] = req
		began := time.Now()
		for {
			_, err := c.client.Ask(t.Context(), c.view(), back)
			if err == nil {
				break
			}
			if cluster.RefusedBy(err) == "" { // else the flip came in between
				t.Fatal(err)
			}
		}
		c.until("it is rolled back", func(v *cluster.View) bool { return v.Active.Value.Request == back.Request })
		took = append(took, time.Since(began))
		v := c.view()
		if v.Rollout.Exists() || v.Active.Value.Release != to {
			t.Fatalf("after the rollback: rollout %+v, active %+v", v.Rollout.Value, v.Active.Value)
		}
		if r := v.Results[req]; r.State == cluster.StateSuperseded {
			overtaken++
		} else if r.State != cluster.StateActive {
			t.Fatalf("the publish ended as %+v", r)
		}
	}
	history, err := c.client.History(t.Context(), c.site, 3*rounds)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[cluster.RequestID]bool{} // rollbacks, from the newest flip on
	for _, a := range history {
		if a.Kind == cluster.Rollback {
			seen[published[a.Request]] = true // the publish before it
			continue
		}
		if r := c.view().Results[a.Request]; r.State == cluster.StateSuperseded {
			t.Errorf("epoch %d: a rollout that was overtaken became active: %+v", a.Epoch, a)
		}
		if !seen[a.Request] && published[a.Request] != "" {
			t.Errorf("epoch %d: a publish became active after its rollback: %+v", a.Epoch, a)
		}
	}
	slices.Sort(took)
	t.Logf("%d rollbacks, %d of them before the rollout's flip: p50 %v, max %v", rounds, overtaken, took[rounds/2].Round(10*time.Microsecond), took[rounds-1].Round(10*time.Microsecond))
	if overtaken == 0 {
		t.Error("no rollback came during a rollout: this run proves nothing")
	}
}
