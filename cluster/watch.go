package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errWatchEnded: a watch ended for a reason that a new one gets over, after a
// new read.
var errWatchEnded = errors.New("watch ended")

// target is what to watch: one key, or all that begin with it.
type target struct {
	key    string
	prefix bool
}

// watch hands over what happens to the targets from revision rev on, in the
// order of each target, until deliver returns false, ctx ends or the watch
// breaks. Then it returns errWatchEnded or ctx's error: what was missed must be
// read anew, and a compaction cannot be told from a cut. All targets share one
// stream.
func (c *Client) watch(ctx context.Context, rev int64, targets []target, deliver func([]*clientv3.Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(targets) == 1 {
		return c.drain(ctx, c.open1(ctx, rev, targets[0]), deliver)
	}
	var (
		mu    sync.Mutex // one call of deliver at a time
		wg    sync.WaitGroup
		first = make(chan error, len(targets))
	)
	for _, t := range targets {
		events := c.open1(ctx, rev, t)
		wg.Go(func() {
			first <- c.drain(ctx, events, func(evs []*clientv3.Event) bool {
				mu.Lock()
				defer mu.Unlock()
				return ctx.Err() == nil && deliver(evs)
			})
			cancel() // one has ended: all end
		})
	}
	wg.Wait()
	return <-first
}

// open1 starts one watch. WithRequireLeader: on a member that is cut off from
// the others it would hang silently without.
func (c *Client) open1(ctx context.Context, rev int64, t target) clientv3.WatchChan {
	opts := []clientv3.OpOption{clientv3.WithRev(rev)}
	if t.prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	return c.watcher.Watch(clientv3.WithRequireLeader(ctx), t.key, opts...)
}

// drain reads one watch to its end.
func (c *Client) drain(ctx context.Context, events clientv3.WatchChan, deliver func([]*clientv3.Event) bool) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-events:
			if !ok {
				return fmt.Errorf("%w: its channel closed", errWatchEnded)
			}
			// Before anything else: old servers set other marks on errors too.
			if err := r.Err(); err != nil {
				return fmt.Errorf("%w: %s", errWatchEnded, text(err))
			}
			if len(r.Events) > 0 && !deliver(r.Events) {
				return nil
			}
		}
	}
}

// kvOf is the key as an event leaves it: a deletion has revision and no value.
func kvOf(e *clientv3.Event) (kv *mvccpb.KeyValue, rev int64, exists bool) {
	return e.Kv, e.Kv.ModRevision, e.Type == clientv3.EventTypePut
}
