package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// DefaultConvergeWithin is how long the post-converge hook waits for the nodes.
const DefaultConvergeWithin = 60 * time.Second

// converger tells the operator's program of one site's epochs, each once all
// nodes show it or have had their time to. It is beside the keeper, which never
// waits for it. What was told is written down in etcd after the program has
// succeeded: a leader that dies in between leaves the epoch to the next one, so that
// it is told at least once. An epoch that is followed by another before it was
// told is told with that one.
type converger struct {
	cluster Cluster
	metrics *metrics
	log     *slog.Logger
	site    release.Site
	fence   cluster.Fence
	hook    *hook.Hook
	within  time.Duration
	store   func(context.Context) (objectstore.Store, error) // nil: none

	mu     sync.Mutex    // guards newest
	newest *cluster.View // from the keeper
	news   chan struct{} // holds one when run has not taken it yet

	// owned by run
	epoch release.Epoch // that is waited for
	since time.Time     // when this leader saw it first
	over  release.Epoch // this leader has told of it, or given up
}

func newConverger(m *Manager, site release.Site, f cluster.Fence) *converger {
	return &converger{
		cluster: m.cluster,
		metrics: m.metrics,
		log:     m.log.With("site", string(site)),
		site:    site,
		fence:   f,
		hook:    m.config.PostConverge,
		within:  cmp.Or(m.config.ConvergeWithin, DefaultConvergeWithin),
		store:   m.config.Store,
		news:    make(chan struct{}, 1),
	}
}

// see takes what the keeper has observed. It does not wait.
func (c *converger) see(v *cluster.View) {
	c.mu.Lock()
	c.newest = v
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *converger) seen() *cluster.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// run tells of epochs until ctx or the leadership ends.
func (c *converger) run(ctx context.Context) error {
	var until time.Time
	for {
		var alarm <-chan time.Time
		if !until.IsZero() {
			alarm = time.After(time.Until(until))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.news:
		case <-alarm:
		}
		v := c.seen()
		var now bool
		if now, until = c.due(v, time.Now()); !now {
			continue
		}
		until = time.Time{}
		if err := c.tell(ctx, v); err != nil {
			return err
		}
	}
}

// due says whether the active epoch is to be told of now or, if not, when it will
// be at the latest; zero: not before something changes.
func (c *converger) due(v *cluster.View, now time.Time) (bool, time.Time) {
	epoch := v.Active.Value.Epoch
	if !v.Active.Exists() || epoch <= release.Epoch(v.Told.Value) || epoch == c.over {
		return false, time.Time{}
	}
	if c.epoch != epoch {
		c.epoch, c.since = epoch, now
		if at := v.Active.Value.ActivateAt; at.After(now) {
			c.since = at
		}
	}
	if end := c.since.Add(c.within); now.Before(end) && !v.Showing(epoch).Converged() {
		return false, end
	}
	return true, time.Time{}
}

// tell runs the program and writes down that it did well. When it did not, as
// often as it may, the next leader tries again, or the next epoch.
func (c *converger) tell(ctx context.Context, v *cluster.View) error {
	a := v.Active.Value
	shown := v.Showing(a.Epoch)
	c.over = a.Epoch
	changed, err := c.writeChanged(ctx, v)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.log.Warn("changed paths not known, the hook is told so", "epoch", uint64(a.Epoch), "error", err)
	}
	about := hook.About{Site: c.site, Release: a.Release, Epoch: a.Epoch, More: []string{
		fmt.Sprintf("RELMAN_CONVERGED=%t", shown.Converged()), "RELMAN_CHANGED_PATHS=" + changed,
	}}
	if a.Previous != nil {
		about.Previous = a.Previous.Release
	}
	err = c.hook.Insist(ctx, about, c.log, func(err error) {
		c.metrics.hookRan(c.hook, err)
		c.log.Warn("hook failed", "hook", string(c.hook.Kind), "release", string(a.Release), "epoch", uint64(a.Epoch), "error", err)
	}, func() bool { return c.seen().Active.Value.Epoch > a.Epoch })
	if changed != "" {
		if err := os.Remove(changed); err != nil {
			c.log.Warn("changed paths not removed", "error", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return nil // said above
	}
	c.metrics.hookRan(c.hook, nil)
	return c.note(ctx, a.Epoch)
}

// note writes down that an epoch was told. Only what ends the leadership ends it.
func (c *converger) note(ctx context.Context, epoch release.Epoch) error {
	var pause backoff
	for ctx.Err() == nil {
		v, err := c.cluster.Observe(ctx, c.site)
		if errors.Is(err, cluster.ErrNotFound) || err == nil && release.Epoch(v.Told.Value) >= epoch {
			return nil
		}
		if err == nil {
			_, err = c.cluster.Commit(ctx, cluster.NoteTold(c.fence, v, epoch))
		}
		switch {
		case err == nil:
			return nil
		case gone(err):
			return err
		case ctx.Err() == nil:
			c.log.Warn("not noted that the hook was told", "epoch", uint64(epoch), "error", err)
			pause.sleep(ctx)
		}
	}
	return ctx.Err()
}

// writeChanged writes the changed paths to a file for the program, one on each
// line.
func (c *converger) writeChanged(ctx context.Context, v *cluster.View) (name string, err error) {
	paths, err := c.changed(ctx, v)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", "relman-changed-")
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, p := range paths {
		text.WriteString(p + "\n")
	}
	_, err = f.WriteString(text.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}
