package manager

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// A release bakes from its flip until its time is over or it has gone back. What is
// bad about it the nodes say, each of the epoch that it shows; the leader only counts.
// All of that is in etcd, so a leader that comes later decides the same, only later:
// a bake ends in a transaction, and not by a clock.

// endBake keeps a release that has baked for its time.
type endBake struct {
	release release.ID
	epoch   release.Epoch
}

// bakeEnd is when the bake of what is active ends, zero for never.
func bakeEnd(v *cluster.View) time.Time {
	if !v.Baking() {
		return time.Time{}
	}
	return v.Active.Value.BakeEnd()
}

// heardEnd is when it ends without what live nodes have not said, zero for never.
func heardEnd(v *cluster.View) time.Time {
	if !v.Baking() {
		return time.Time{}
	}
	return bakeEnd(v).Add(v.Policy.Value.Grace())
}

// baked is what to do about a release that bakes: to go back, when more nodes than
// may be say that it is bad, or to keep it, when its time is over; nil for neither.
// A live node that has said nothing yet is waited for, as long as a rollout would wait
// for it: it may be slow, or the leader's clock ahead. A dead one is not. A way back that
// is barred keeps a bad release baking, as it keeps one on trial there.
func baked(v *cluster.View, now time.Time) action {
	if !v.Baking() {
		return nil
	}
	t := v.Tasted()
	switch {
	case t.Over:
		if r := goBack(v, now, badText(v, t)); r != nil {
			r.nodes = t.Bad[:min(len(t.Bad), maxNamed)]
			return *r
		}
	case now.Before(bakeEnd(v)):
	case len(t.Silent) == 0 || !now.Before(heardEnd(v)):
		return endBake{v.Active.Value.Release, v.Active.Value.Epoch}
	}
	return nil
}

// badText says what is bad, and on which nodes, in one line: it becomes the verdict.
func badText(v *cluster.View, t cluster.Tasted) string {
	named := t.Bad[:min(len(t.Bad), maxNamed)]
	return fmt.Sprintf("rejected by %d of %d nodes", len(t.Bad), t.Of) +
		each(named, len(t.Bad), func(n release.NodeID) string { return v.Status[n].Bake.Bad })
}

// bakes is how the release that a flip makes active is to be looked at, nil for
// not at all: that is so also where there is none to go back to.
func bakes(v *cluster.View, a cluster.Active) *cluster.Bake {
	b := v.Policy.Value.Bake
	if b.Seconds == 0 || a.Previous == nil || !a.Kind.Bakes() {
		return nil
	}
	b.Probes = slices.Clone(b.Probes)
	return &b
}

func (a endBake) steps(f cluster.Fence, v *cluster.View) []step {
	return []step{{cluster.EndBake(f, v), "baked", []slog.Attr{
		slog.String("release", string(a.release)), slog.Uint64("epoch", uint64(a.epoch)),
	}}}
}
