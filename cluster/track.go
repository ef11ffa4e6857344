package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// follow calls each with the state of some keys, now and after every change,
// always from this goroutine and always with the newest; states that pass
// while each runs are skipped. It gets over every fault of etcd and returns
// when ctx ends. seen gets what its reads tell, once each has had it.
func (c *Client) follow(ctx context.Context, log *slog.Logger, seen *sightings, keys []string, each func(revision int64, kvs []*mvccpb.KeyValue)) {
	t, f := newTracker(keys...), seen.begin()
	defer seen.end(f)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.keepTracking(ctx, t, log, seen, f.again) })
	defer wg.Wait()
	defer cancel()

	var last []*mvccpb.KeyValue
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.news:
		}
		rev, kvs, asked, lived := t.state()
		if first || !slices.EqualFunc(last, kvs, sameKey) {
			first, last = false, kvs
			each(rev, kvs)
		}
		seen.note(f, asked, lived)
	}
}

// keepTracking reads and watches until ctx ends; whatever breaks, it begins
// again with a read (rule N8).
func (c *Client) keepTracking(ctx context.Context, t *tracker, log *slog.Logger, seen *sightings, again <-chan struct{}) {
	for try := 0; ; try++ {
		began := time.Now()
		err := c.track(ctx, t, log, seen, again)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > mostPause {
			try = 0
		}
		log.Debug("watch broken off, reading anew", "error", err)
		pause(ctx, try, leastPause, mostPause)
	}
}

// track reads the keys and then watches them from the next revision on.
func (c *Client) track(ctx context.Context, t *tracker, log *slog.Logger, seen *sightings, again <-chan struct{}) error {
	var (
		gets    []clientv3.Op
		targets []target
	)
	for _, k := range t.keys {
		gets = append(gets, clientv3.OpGet(k))
		targets = append(targets, target{key: k})
	}
	gets = append(gets, clientv3.OpGet(seen.live.key))
	asked := Boottime()
	r, err := c.read(ctx, "read what to watch", gets...)
	if err != nil {
		return err
	}
	t.reset(r, asked, seen.finds(r, len(t.keys)))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { cancel(c.recheck(ctx, t, log, seen, gets, again)) })
	err = c.watch(ctx, r.Header.Revision+1, targets, func(evs []*clientv3.Event) bool {
		for _, e := range evs {
			t.event(e)
		}
		return true
	})
	cancel(err)
	return context.Cause(ctx)
}

// mostGrace is how long a watch may lag behind a read.
const mostGrace = 2 * time.Second

// recheck is rule N7: every now and then, and when it is told to, it reads the keys, and returns when
// the watch has not delivered what the read found.
func (c *Client) recheck(ctx context.Context, t *tracker, log *slog.Logger, seen *sightings, gets []clientv3.Op, again <-chan struct{}) error {
	grace := min(mostGrace, 10*c.cfg.Reread)
	for sleepUntil(ctx, seen.pause(c.cfg.Reread), again) {
		before, asked := t.newest(), Boottime()
		r, err := c.read(ctx, "read what is watched", gets...)
		if err != nil {
			continue // a later one will do; the watch has its own ways to notice
		}
		if r.Header.Revision < before { // restored from a backup
			return fmt.Errorf("%w: etcd went back from revision %d to %d", errWatchEnded, before, r.Header.Revision)
		}
		if !t.compare(r, asked, seen.finds(r, len(t.keys))) || !sleep(ctx, grace) {
			continue
		}
		if n := t.unpaid(); n > 0 {
			seen.missed.Add(uint64(n))
			log.Warn("the watch did not deliver what a read found", "changes", n, "revision", r.Header.Revision)
			return fmt.Errorf("%w: it lost %d changes", errWatchEnded, n)
		}
	}
	return ctx.Err()
}
