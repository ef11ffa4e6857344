package manager

import (
	"context"
	"time"

	"relman/cluster"
)

// tick says what time it is, for nodes that have to know whether their clocks agree.
func (r *reign) tick(ctx context.Context) error {
	t := time.NewTicker(cluster.TickEvery)
	defer t.Stop()
	for {
		_, err := r.cluster.Commit(ctx, cluster.Tick(r.leadership.Fence(), time.Now().UTC()))
		switch {
		case gone(err):
			return err
		case err != nil && ctx.Err() == nil:
			r.log.Warn("the time was not said", "error", err) // the next one will do
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// wrongSchedule is why a request cannot be carried out as far as time goes, nil for
// no reason. A canary and a flip that is pending do not go together: nodes that wait
// show what was before both.
func wrongSchedule(v *cluster.View, now time.Time) *cluster.ErrorInfo {
	d, a := v.Desired.Value, v.Active.Value
	at := d.ActivateTime(now)
	switch {
	case at.Sub(now) > cluster.MostAhead:
		return refuse(cluster.ClassSchedule, "the swap is scheduled for %s, and it is %s by the leader's clock: more than %v ahead",
			at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), cluster.MostAhead)
	case a.Canary != nil && !at.IsZero():
		return refuse(cluster.ClassSchedule, "%s has a canary, %s: what takes its place cannot be scheduled", v.Site, a.Canary.Release)
	case d.Mode == cluster.TryOut && a.Pending(now):
		return refuse(cluster.ClassSchedule, "%s is active, and not shown before %s: a canary can be shown beside it from then on",
			a.Release, a.ActivateAt.UTC().Format(time.RFC3339))
	}
	return nil
}

// measure notes how far apart the nodes have swapped to what is active, once all that
// live show it. When something else is active before that, nobody knows.
func (k *keeper) measure(ctx context.Context, v *cluster.View) error {
	epoch := v.Active.Value.Epoch
	if !v.Active.Exists() || epoch == k.measured || !v.Showing(epoch).Converged() {
		return nil
	}
	if skew, ok := v.Skew(); ok {
		_, err := k.cluster.Commit(ctx, cluster.NoteSkew(k.fence, v, skew))
		if err != nil && cluster.RefusedBy(err) != cluster.ClassExists { // an earlier leader was first
			return err
		}
	}
	k.measured = epoch
	return nil
}
