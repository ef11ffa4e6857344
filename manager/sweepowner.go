package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"relman/cluster"
)

// owner owns a sweep until somebody else has written the gc key.
type owner struct {
	cluster SweepCluster
	log     *slog.Logger

	mu sync.Mutex // guards gc, held while a transaction is under way
	gc cluster.Entry[cluster.GC]

	// loose: a change of the store may still be under way. Owned by the sweep.
	loose bool
}

// hold proves that the sweep still is this owner's.
func (o *owner) hold(ctx context.Context) error { return o.commit(ctx, cluster.HoldSweep) }

// commit commits a transaction that holds the sweep too. It takes no longer
// than holdWithin: what is allowed by a hold counts from its commit.
func (o *owner) commit(ctx context.Context, make func(cluster.Entry[cluster.GC]) cluster.Txn) error {
	ctx, cancel := context.WithTimeout(ctx, holdWithin)
	defer cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	rev, err := o.cluster.Commit(ctx, make(o.gc))
	if cluster.RefusedBy(err) == cluster.ClassSweeping {
		return fmt.Errorf("the sweep is no longer this one's: %w", err)
	}
	if err != nil {
		return err
	}
	o.gc.Mod = rev
	o.gc.Value.Holds++
	return nil
}

// keep holds the sweep again and again, however long a step of it takes; the
// context that it returns ends when the sweep is lost.
func (o *owner) keep(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pauseFor(ctx, holdEvery) {
			if err := o.hold(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// end ends the sweep, whatever became of it. A change of the store that was not
// answered is given the time to end before publishers go on; who is told to
// stop meanwhile leaves the sweep to be taken over.
func (o *owner) end(ctx context.Context, why error) error {
	if o.loose && !pauseFor(ctx, sweepSettle) {
		o.log.Warn("sweep left to be taken over", "error", why)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdWithin)
	defer cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	// Read anew: whether the last hold was committed may not be known.
	gc, err := o.cluster.GC(ctx)
	if err != nil {
		return fmt.Errorf("end the sweep: %w", err)
	}
	if gc.Value.ID != o.gc.Value.ID || gc.Value.Phase != cluster.GCSweep {
		if why != nil {
			return nil // why says it
		}
		return fmt.Errorf("end the sweep: it was taken over: %w", cluster.ErrConflict)
	}
	_, err = o.cluster.Commit(ctx, cluster.EndSweep(gc, time.Now().UTC().Truncate(time.Second)))
	return err
}

// rest says since when, by the monotonic clock of this process, a sweep has
// shown no sign of life.
type rest struct {
	mod   int64
	since time.Time
}

// quiet reports whether the gc key has stood at mod for longer than anything can
// last that its owner has sent.
func (r *rest) quiet(mod int64, now time.Time) bool {
	if r.mod != mod {
		r.mod, r.since = mod, now
	}
	return now.Sub(r.since) >= sweepQuiet
}

// takeOver ends a dead owner's sweep.
func takeOver(ctx context.Context, c SweepCluster, gc cluster.Entry[cluster.GC], log *slog.Logger) error {
	_, err := c.Commit(ctx, cluster.EndSweep(gc, time.Now().UTC().Truncate(time.Second)))
	if err == nil {
		log.Warn("ended a sweep whose owner shows no sign of life", "by", gc.Value.By, "since", gc.Value.Since)
	}
	return err
}

// pauseFor waits, and reports false when ctx ends first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isBusy reports whether an error only says that somebody else is at work.
func isBusy(err error) bool {
	_, ok := errors.AsType[*Busy](err)
	return ok
}
