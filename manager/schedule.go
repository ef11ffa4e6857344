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

// tooFarAhead says why what is asked for cannot be scheduled so, nil when it can.
func tooFarAhead(v *cluster.View, now time.Time) *cluster.ErrorInfo {
	d := v.Desired.Value
	if at := d.ActivateTime(now); at.Sub(now) > cluster.MostAhead {
		return refuse(cluster.ClassSchedule, "the swap is scheduled for %s, and it is %s by the leader's clock: more than %v ahead",
			at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), cluster.MostAhead)
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
