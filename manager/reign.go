package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"relman/cluster"
	"relman/release"
)

// errLost ends a reign whose lease is gone.
var errLost = fmt.Errorf("%w: the lease has ended", cluster.ErrNotLeader)

// reign is what one leadership runs: one watch and one slow clock that mark
// sites, and a keeper per site that looks whenever its site is marked. Marks say where
// to look and nothing else: what there is to do is read from the site itself.
type reign struct {
	*Manager
	leadership Leadership
	group      *errgroup.Group

	mu    sync.Mutex // guards wakes
	wakes map[release.Site]chan struct{}
}

// reign leads all sites until ctx ends or the leadership does, and says why.
func (m *Manager) reign(ctx context.Context, l Leadership) error {
	group, ctx := errgroup.WithContext(ctx)
	r := &reign{Manager: m, leadership: l, group: group, wakes: map[release.Site]chan struct{}{}}
	group.Go(func() error {
		select {
		case <-l.Done():
			return errLost
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	group.Go(func() error { return r.watch(ctx) })
	group.Go(func() error { return r.resync(ctx) })
	group.Go(func() error { return r.tick(ctx) })
	return group.Wait()
}

// watch marks the sites that something happened to.
func (r *reign) watch(ctx context.Context) error {
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := r.cluster.Changes(ctx, func(s release.Site) { r.mark(ctx, s) })
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > maxPause {
			pause.reset()
		}
		r.log.Warn("watch ended", "error", err)
		pause.sleep(ctx)
	}
	return ctx.Err()
}

// resync marks every site, now and again, so that a lost event costs seconds.
func (r *reign) resync(ctx context.Context) error {
	tick := time.NewTicker(r.config.Resync)
	defer tick.Stop()
	for {
		sites, err := r.cluster.Sites(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("list sites", "error", err)
		}
		for _, s := range sites {
			r.mark(ctx, s)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// mark wakes the site's keeper. Marks that come while it looks already count as
// one, and it looks again at once.
func (r *reign) mark(ctx context.Context, site release.Site) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wake, ok := r.wakes[site]
	if !ok {
		wake = make(chan struct{}, 1)
		r.wakes[site] = wake
		k := newKeeper(r.Manager, site, r.leadership.Fence())
		if r.config.PostConverge != nil {
			c := newConverger(r.Manager, site, r.leadership.Fence())
			k.seen = c.see
			r.group.Go(func() error { return c.run(ctx) })
		}
		// Called by goroutines of the group, so that it is not at its end.
		r.group.Go(func() error { return k.run(ctx, wake) })
	}
	select {
	case wake <- struct{}{}:
	default:
	}
}

// gone reports whether an error means that another manager may lead.
func gone(err error) bool { return errors.Is(err, cluster.ErrNotLeader) }
