package manager

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

func TestOverdueHistory(t *testing.T) {
	for _, c := range []struct {
		epoch, trimmed release.Epoch
		first, last    release.Epoch // 0: nothing
	}{
		{0, 0, 0, 0},
		{1000, 0, 0, 0},
		{1001, 0, 1, 1},
		{1050, 0, 1, 50},
		{1100, 0, 1, 100},
		{5000, 0, 3901, 4000},
		{5000, 3999, 4000, 4000},
		{5000, 4000, 0, 0},
		{5003, 4000, 4001, 4003},
	} {
		v := siteView(func(v *cluster.View) { v.Active.Value.Epoch = c.epoch })
		var want []string
		for e := c.first; e != 0 && e <= c.last; e++ {
			want = append(want, cluster.HistoryKey(www, e))
		}
		if got := overdueHistory(v, c.trimmed); !slices.Equal(got, want) {
			t.Errorf("epoch %d, trimmed to %d: got %d keys %v", c.epoch, c.trimmed, len(got), got)
		}
	}
}

// TestOverdueResults: the oldest go, but never those by which the last request
// is judged.
func TestOverdueResults(t *testing.T) {
	with := func(n int) *cluster.View {
		return siteView(
			asked(func(d *cluster.Desired) { d.Request, d.Replaces = "r000", []cluster.RequestID{"r002"} }),
			func(v *cluster.View) {
				for i := range n {
					v.Results[cluster.RequestID(fmt.Sprintf("r%03d", i))] = cluster.Result{At: now.Add(time.Duration(i) * time.Second)}
				}
			})
	}
	if got := overdueResults(with(keepResults+trimResults-1), 100); got != nil {
		t.Errorf("not worth it yet: %v", got)
	}
	got := overdueResults(with(keepResults+trimResults), 100)
	if len(got) != trimResults-2 || got[0] != cluster.ResultKey(www, "r001") || got[1] != cluster.ResultKey(www, "r003") || got[17] != cluster.ResultKey(www, "r019") {
		t.Errorf("%d keys: %v", len(got), got)
	}
	if got := overdueResults(with(900), 100); len(got) != 100 || got[0] != cluster.ResultKey(www, "r001") {
		t.Errorf("%d keys of 900: %v", len(got), got)
	}
}

// TestRun_trim: a site with a long past keeps what it should, and no flip waits
// for it.
func TestRun_trim(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for e := 1; e <= 1080; e++ {
			w.put(cluster.HistoryKey(www, release.Epoch(e)), cluster.Active{Epoch: release.Epoch(e)})
		}
		for i := range 450 {
			w.put(cluster.ResultKey(www, cluster.RequestID(fmt.Sprintf("old-%03d", i))), cluster.Result{At: now.Add(time.Duration(i))})
		}
		w.put(cluster.ActiveKey(www), cluster.Active{Release: rel(9), Epoch: 1080, Flip: "old"})
		w.register(9)
		w.manager("m1")
		w.nodes(1, time.Second)
		for n := 10; n < 14; n++ {
			w.ended(w.publish(n), cluster.StateActive, n, release.Epoch(1071+n))
		}
		w.mu.Lock()
		history := w.names(cluster.HistoryPrefix(www))
		w.mu.Unlock()
		results := len(w.view().Results)
		if _, oldest := history["0000000085"]; len(history) != keepHistory || !oldest {
			t.Errorf("%d epochs are kept", len(history))
		}
		if results < keepResults || results >= keepResults+trimResults {
			t.Errorf("%d results are kept", results)
		}
	})
}
