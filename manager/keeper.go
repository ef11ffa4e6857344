package manager

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// patience is how many conflicts in a row a keeper takes before it pauses:
// each means that somebody else got on, so that more than a few are odd.
const patience = 20

// keeper leads one site: it observes, decides and acts until there is nothing
// to do but to wait.
type keeper struct {
	cluster Cluster
	metrics *metrics
	log     *slog.Logger
	site    release.Site
	fence   cluster.Fence
	seen    func(*cluster.View) // is shown every view, and does not wait

	// owned by run
	attendance *attendance
	clock      time.Time // when it looked last; zero: not yet

	pause     backoff
	conflicts int
	trimmed   release.Epoch
	measured  release.Epoch // its skew is noted, or never will be
}

func newKeeper(m *Manager, site release.Site, f cluster.Fence) *keeper {
	return &keeper{
		cluster: m.cluster,
		metrics: m.metrics,
		log:     m.log.With("site", string(site)),
		site:    site,
		fence:   f,
		seen:    func(*cluster.View) {},

		attendance: newAttendance(),
	}
}

// run looks after the site whenever wake says so or a deadline has come, until
// ctx or the leadership ends.
func (k *keeper) run(ctx context.Context, wake <-chan struct{}) error {
	for {
		until, err := k.settle(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case gone(err):
			return err
		case err != nil:
			k.retry(ctx, err)
			continue
		}
		k.pause.reset()
		k.conflicts = 0
		if !sleep(ctx, wake, until) {
			return ctx.Err()
		}
	}
}

// settle takes step after step until only waiting is left, and says until when.
func (k *keeper) settle(ctx context.Context) (time.Time, error) {
	for {
		v, err := k.cluster.Observe(ctx, k.site)
		if errors.Is(err, cluster.ErrNotFound) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		k.metrics.observed(v)
		k.seen(v)
		clock := time.Now()
		k.attendance.stepped(clockStep(cmp.Or(k.clock, clock), clock))
		k.clock = clock
		now := clock.UTC()
		k.attendance.note(v, now)
		if err := k.measure(ctx, v); err != nil { // once an epoch, before the next one
			return time.Time{}, err
		}
		a := decideSeeing(v, k.attendance, now)
		if w, ok := a.(wait); ok {
			return w.until, k.trim(ctx, v)
		}
		if err := k.act(ctx, v, a); err != nil {
			return time.Time{}, err
		}
	}
}

// trim removes what is too old to be kept, after all else is done.
func (k *keeper) trim(ctx context.Context, v *cluster.View) error {
	keys := overdue(v, k.trimmed)
	if len(keys) == 0 {
		return nil
	}
	for some := range slices.Chunk(keys, trimAtOnce) {
		if _, err := k.cluster.Commit(ctx, cluster.TrimHistory(k.fence, k.site, some)); err != nil {
			return err
		}
	}
	if e := v.Active.Value.Epoch; e > keepHistory {
		k.trimmed = e - keepHistory
	}
	k.log.Debug("history trimmed", "keys", len(keys))
	return nil
}

// retry waits as long as an error wants. A conflict wants nothing: the site has
// moved and is observed anew.
func (k *keeper) retry(ctx context.Context, err error) {
	if moved(err) {
		if k.conflicts++; k.conflicts <= patience {
			return
		}
	}
	k.log.Warn("site not settled", "error", err)
	k.pause.sleep(ctx)
}

// sleep waits for wake, for the time until unless that is zero, or for ctx,
// and reports whether ctx goes on.
func sleep(ctx context.Context, wake <-chan struct{}, until time.Time) bool {
	var alarm <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-alarm:
	}
	return true
}
