package manager

import (
	"context"
	"time"

	"relman/cluster"
)

// How a leader sweeps by itself.
const (
	sweepPoll    = 5 * time.Second // between looks at the gc key
	sweepAgain   = time.Minute     // after a sweep that could not be done
	sweepPatient = 5               // so often; then the next one is an interval later
)

// DefaultSweepEvery is how often a leader sweeps where nothing else is said.
const DefaultSweepEvery = 24 * time.Hour

// sweeping is what a leader does about sweeps: it ends those whose owner has
// died, since publishers wait for them, and sweeps by itself when it is time.
type sweeping struct {
	*Manager
	rest  rest
	tries int       // that failed
	again time.Time // when to try again after one that failed; zero: by the interval
}

// sweeps runs until ctx ends. A leadership does not wait for its end: a sweep is
// its owner's, whoever leads.
func (m *Manager) sweeps(ctx context.Context) {
	w := &sweeping{Manager: m}
	for pauseFor(ctx, sweepPoll) {
		gc, err := m.cluster.GC(ctx)
		if err != nil {
			m.log.Debug("look for a sweep", "error", err)
			continue
		}
		w.look(ctx, gc)
	}
}

// look does what there is to do now.
func (w *sweeping) look(ctx context.Context, gc cluster.Entry[cluster.GC]) {
	now := time.Now()
	switch {
	case gc.Value.Phase == cluster.GCSweep:
		if w.rest.quiet(gc.Mod, now) && takeOver(ctx, w.cluster, gc, w.log) == nil {
			w.again = now // what it left is still there
		}
	case w.config.SweepEvery <= 0 || w.config.Store == nil:
	case !gc.Exists():
		// The first interval begins now, and not anew with every manager.
		if _, err := w.cluster.Commit(ctx, cluster.AwaitSweep(now.UTC().Truncate(time.Second))); err != nil {
			w.log.Debug("set the time of the first sweep", "error", err)
		}
	case !w.due(gc.Value, now):
	default:
		w.noted(ctx, w.sweep(ctx))
	}
}

// due: the interval counts from the end of the last sweep, also an earlier
// leader's, so that changes of the leader neither skip one nor repeat it.
func (w *sweeping) due(gc cluster.GC, now time.Time) bool {
	if !w.again.IsZero() {
		return !now.Before(w.again)
	}
	return !now.Before(gc.Since.Add(w.config.SweepEvery))
}

// sweep is one sweep by the leader.
func (w *sweeping) sweep(ctx context.Context) error {
	store, err := w.config.Store(ctx)
	if err != nil {
		return err
	}
	out, err := NewSweeper(w.cluster, store, SweepConfig{
		By: "manager " + w.config.ID, Grace: w.config.SweepGrace, Keep: w.config.SweepKeep, Log: w.log,
	}).Run(ctx)
	if out != nil {
		w.metrics.sweptBytes.Add(float64(out.Stats.DeletedBytes))
	}
	return err
}

// noted counts a sweep and says when the next one is.
func (w *sweeping) noted(ctx context.Context, err error) {
	result := "done"
	switch {
	case err == nil:
		w.tries, w.again = 0, time.Time{}
		w.metrics.sweptAt.SetToCurrentTime()
	case ctx.Err() != nil:
		return // told to stop
	case isBusy(err):
		result = "busy"
	default:
		result = "failed"
	}
	w.metrics.sweeps.WithLabelValues(result).Inc()
	if err == nil {
		return
	}
	after := sweepAgain
	if w.tries++; w.tries > sweepPatient {
		w.tries, after = 0, w.config.SweepEvery
	}
	w.again = time.Now().Add(after)
	w.log.Warn("not swept", "error", err, "again_in", after)
}
