package manager

import (
	"fmt"
	"log/slog"
	"time"

	"relman/cluster"
	"relman/release"
)

// revert goes back from a release that did not pass its trial, or its bake.
type revert struct {
	active cluster.Active
	why    string
	nodes  []release.NodeID // that it is for, if it is for some
}

// trialEnd is when what is active goes back, zero for never.
func trialEnd(v *cluster.View) time.Time {
	if !v.OnTrial() {
		return time.Time{}
	}
	return v.Active.Value.ConfirmBy
}

// lapsed is what to do about a release on trial that nobody has confirmed in time,
// nil for nothing.
func lapsed(v *cluster.View, now time.Time) *revert {
	end := trialEnd(v)
	if end.IsZero() || now.Before(end) {
		return nil
	}
	return goBack(v, now, fmt.Sprintf("not confirmed within %v", end.Sub(v.Active.Value.Since()).Round(time.Second)))
}

// goBack is the way to the release before the active one, which was not good
// enough; nil where it is barred: by members that do not hold that release, a verdict
// on it, a freeze that allows no rollback.
func goBack(v *cluster.View, now time.Time, why string) *revert {
	bad := v.Active.Value
	to := bad.Previous.Release
	// In its own buffer: a rollout of the same release may have filled another one,
	// and goes on after this.
	r := v.Ready(bad.Previous.Buffer, to)
	held := v.Enough(r)
	_, judged := v.Verdicts[to]
	_, kept := v.Releases[to]
	_, known := v.Releases[bad.Release]
	if !held || judged || !kept || !known || v.Freeze.Exists() && !v.Freeze.Value.AllowRollback {
		return nil
	}
	return &revert{why: why, active: cluster.Active{
		Release:  to,
		Epoch:    bad.Epoch + 1,
		Buffer:   r.Buffer,
		Previous: &cluster.Held{Release: bad.Release, Buffer: bad.Buffer},
		Kind:     cluster.KindRevert,
		Manifest: v.Releases[to].Value.Manifest,
		At:       now,
		By:       "manager",
		Message:  fmt.Sprintf("%s of %s was %s", bad.Release, bad.By, why),
		Quorum:   evidence(v, r),
	}}
}

func (a revert) steps(f cluster.Fence, v *cluster.View) []step {
	next := a.active
	next.Flip = cluster.NewULID()
	return []step{{cluster.Revert(f, v, next, a.why, a.nodes...), "reverted", []slog.Attr{
		slog.String("release", string(next.Release)),
		slog.String("from", string(next.Previous.Release)),
		slog.Uint64("epoch", uint64(next.Epoch)),
		slog.String("why", a.why),
	}}}
}

// unbar takes out of the way of going back what is in it only because it is dead: the
// members that do not hold the release before and take no traffic any more, as many as
// a rollout could do without. It says when there may be such, too. Live ones get that
// release by themselves.
func unbar(v *cluster.View, seen *attendance, now time.Time) (action, time.Time) {
	unconfirmed := v.OnTrial() && !now.Before(trialEnd(v))
	if due := unconfirmed || v.Baking() && v.Tasted().Over; !due || v.Policy.Value.Stragglers == cluster.StragglersWait {
		return nil, time.Time{}
	}
	p := v.Active.Value.Previous
	r := v.Ready(p.Buffer, p.Release)
	var silent []release.NodeID
	var until []time.Time
	for _, n := range r.Late {
		if _, live := v.Live[n]; live {
			continue
		}
		if at := seen.silentUntil(v, n); now.Before(at) {
			until = append(until, at)
		} else {
			silent = append(silent, n)
		}
	}
	lost := len(silent)
	for _, n := range v.OutNodes() {
		if !v.Cordons[n].Exists() {
			lost++
		}
	}
	b, err := v.Bar(cluster.Desired{})
	if err != nil || len(silent) == 0 || lost > b.MostOut || len(r.Ready) < max(1, b.Need) {
		return nil, soonest(now, until...)
	}
	return out{v.OutBatch(silent), fmt.Sprintf("no live session, the way back to %s waits for it", p.Release)}, time.Time{}
}
