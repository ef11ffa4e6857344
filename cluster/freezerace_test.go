package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestFreeze_racesFlips: in each round a flip and a freeze are sent at the same
// time. The order of revisions decides: no flip commits at a revision at which a
// freeze stands, and a freeze that came first has stopped it for good.
func TestFreeze_racesFlips(t *testing.T) {
	const rounds = 500
	w := newWorld(t, dial(t))
	flips, stopped := 0, 0
	for round := range rounds {
		req := RequestID(fmt.Sprintf("01RACE%03d", round))
		v := w.race(round, req)
		to := Held{Release: w.r2, Buffer: 1}
		if v.Active.Value.Release == w.r2 {
			to = Held{Release: w.r1, Buffer: 0}
		}
		flip := Flip(w.fence, v, Active{
			Release: to.Release, Buffer: to.Buffer, Epoch: v.Active.Value.Epoch + 1, Kind: FlipTo, Flip: string(req), Request: req,
			Previous: &Held{Release: v.Active.Value.Release, Buffer: v.Active.Value.Buffer}, At: day,
		})
		var wg sync.WaitGroup
		var flipped, frozen int64
		var ferr, zerr error
		pause := time.Duration(rand.IntN(400)) * time.Microsecond
		wg.Go(func() { flipped, ferr = w.c.Commit(t.Context(), flip) })
		wg.Go(func() {
			time.Sleep(pause)
			frozen, zerr = w.c.Commit(t.Context(), SetFreeze(w.site, v.Freeze, &Freeze{By: "op", Reason: "race", At: day, AllowRollback: true}))
		})
		wg.Wait()
		switch {
		case zerr != nil:
			t.Fatal(zerr)
		case ferr == nil && flipped < frozen:
			flips++
			w.notFrozenAt(flipped)
		case RefusedBy(ferr) == ClassFrozen:
			stopped++
			if a := w.get(ActiveKey(w.site)); a.Mod != v.Active.Mod {
				t.Fatalf("round %d: refused, and active has changed", round)
			}
		default:
			t.Fatalf("round %d: flip at %d (%v), freeze at %d", round, flipped, ferr, frozen)
		}
		// A copy that comes when the freeze is gone finds the request ended.
		if ferr != nil {
			w.commit(End(w.fence, w.view(), Result{State: StateRefused, At: day}))
			w.del(FreezeKey(w.site))
			if _, err := w.c.Commit(t.Context(), flip); !errors.Is(err, ErrConflict) {
				t.Fatalf("round %d: the flip that was stopped commits later: %v", round, err)
			}
		}
	}
	t.Logf("%d rounds: the flip came first in %d, the freeze in %d", rounds, flips, stopped)
	if flips < rounds/20 || stopped < rounds/20 {
		t.Error("it was hardly a race")
	}
}

// race makes the site ready for a round: nothing is frozen, and a flip is asked
// for.
func (w *world) race(round int, req RequestID) *View {
	w.t.Helper()
	if round > 0 {
		w.del(FreezeKey(w.site))
	}
	w.put(DesiredKey(w.site), encode(Desired{Request: req, Mode: FlipTo, Release: w.r2, By: "ci@example", At: day}))
	return w.view()
}

// notFrozenAt looks at a revision that has passed: no freeze stood there.
func (w *world) notFrozenAt(rev int64) {
	w.t.Helper()
	if z := w.all(FreezeKey(w.site), clientv3.WithRev(rev)); len(z) > 0 {
		w.t.Fatalf("at revision %d a freeze stood: %s", rev, z[0].Value)
	}
}
