package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Change is what a revision did to one key. Create and Mod are etcd's revisions
// of the key; of a key that was deleted all but the key is zero.
type Change struct {
	Key     string
	Value   string
	Deleted bool
	Create  int64
	Mod     int64
	Lease   int64
}

// Revision is all that one revision of etcd did to relman's keys: what one
// transaction wrote, or what went with one lease.
type Revision struct {
	Number int64
	// Base says that this is no change but the state as a whole: every key that
	// there was at that revision. What led to it etcd has forgotten.
	Base    bool
	Changes []Change
}

// Replay hands over how relman's keys came to be what they are: first the oldest
// state that etcd knows, as a base (the empty one of revision 0, if nothing was
// compacted), and then every revision that changed one of them, up to the
// current one. When etcd compacts what was not read yet, another base comes in
// between. An error of each ends it.
//
// In the end it compares what the revisions have led to with what etcd says that
// there is, and it is an error if they differ: then what was handed over was not
// the history.
func (c *Client) Replay(ctx context.Context, each func(Revision) error) error {
	r, err := c.read(ctx, "read what there is", clientv3.OpGet(Prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if err != nil {
		return err
	}
	p := &replay{c: c, each: each, next: 1, end: r.Header.Revision}
	if err := p.run(ctx); err != nil {
		return err
	}
	there := map[string]int64{}
	for _, kv := range ranged(r, 0) {
		there[string(kv.Key)] = kv.ModRevision
	}
	return p.compare(there)
}

const (
	// askEvery is how often a replay asks the watch how far it is.
	askEvery = 100 * time.Millisecond
	// replayTries is how often a watch may break without having brought
	// anything.
	replayTries = 5
)

// replay is the state of one call of Replay.
type replay struct {
	c    *Client
	each func(Revision) error
	next int64 // the first revision that was not handed over
	end  int64 // the last one that is to be

	based bool             // the base was handed over
	mods  map[string]int64 // the keys that there are after the last revision that was
}

// errForgotten: what was to be read next was compacted.
type errForgotten struct{ at int64 } // the oldest state that is there still

func (e errForgotten) Error() string { return fmt.Sprintf("compacted at revision %d", e.at) }

// run watches until the end, anew when the watch breaks.
func (p *replay) run(ctx context.Context) error {
	// A watch of what has not happened yet does not say how far it is.
	for try := 0; !p.based || p.next <= p.end; try++ {
		before := p.next
		err := p.watch(ctx)
		if p.next > before {
			try = 0
		}
		forgotten, is := errors.AsType[errForgotten](err)
		switch {
		case is:
			if err := p.rebase(ctx, forgotten.at); err != nil {
				return err
			}
		case err == nil || !errors.Is(err, errWatchEnded):
			return err
		case try >= replayTries || !pause(ctx, try, leastPause, mostPause):
			return p.c.translate(ctx, "read etcd's history", err)
		}
	}
	return nil
}

// rebase hands over the state at a revision. When that has been compacted by
// now, the next watch will say so.
func (p *replay) rebase(ctx context.Context, at int64) error {
	cctx, cancel := p.c.call(ctx)
	defer cancel()
	// No transaction: etcd's members may differ about one that reads the past
	// (etcd#18667).
	r, err := p.c.kv.Get(cctx, Prefix, clientv3.WithPrefix(), clientv3.WithRev(at))
	if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		return nil
	}
	if err != nil {
		return p.c.translate(ctx, fmt.Sprintf("read the state at revision %d", at), err)
	}
	rev := Revision{Number: at, Base: true}
	for _, kv := range r.Kvs {
		rev.Changes = append(rev.Changes, changed(kv))
	}
	return p.hand(rev)
}

// watch hands over revisions until the last one. Events come in the order of
// their revisions, and those of one revision one after the other.
func (p *replay) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := p.c.watcher.Watch(ctx, Prefix, clientv3.WithPrefix(), clientv3.WithRev(p.next))
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	patience := 4 * p.c.cfg.Timeout
	silent := time.NewTimer(patience)
	defer silent.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silent.C:
			return fmt.Errorf("%w: it said nothing for %v", errWatchEnded, patience)
		case <-ask.C:
			if err := p.c.watcher.RequestProgress(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%w: %s", errWatchEnded, text(err))
			}
		case r, ok := <-events:
			if !ok {
				return fmt.Errorf("%w: its channel closed", errWatchEnded)
			}
			silent.Reset(patience)
			if done, err := p.take(r); done || err != nil {
				return err
			}
		}
	}
}

// take hands over what a response brings, and says whether that was all.
func (p *replay) take(r clientv3.WatchResponse) (done bool, err error) {
	if r.CompactRevision > 0 {
		return false, errForgotten{r.CompactRevision}
	}
	if err := r.Err(); err != nil {
		return false, fmt.Errorf("%w: %s", errWatchEnded, text(err))
	}
	// The base of a history of which nothing was compacted, now that it is
	// known that nothing was.
	if !p.based {
		if err := p.hand(Revision{Base: true}); err != nil {
			return false, err
		}
	}
	for i := 0; i < len(r.Events); {
		rev := Revision{Number: r.Events[i].Kv.ModRevision}
		for ; i < len(r.Events) && r.Events[i].Kv.ModRevision == rev.Number; i++ {
			kv, _, exists := kvOf(r.Events[i])
			if exists {
				rev.Changes = append(rev.Changes, changed(kv))
			} else {
				rev.Changes = append(rev.Changes, Change{Key: string(kv.Key), Deleted: true})
			}
		}
		switch {
		case rev.Number > p.end:
			return true, nil
		case rev.Number < p.next:
			return false, fmt.Errorf("etcd's watch went back from revision %d to %d", p.next-1, rev.Number)
		}
		if err := p.hand(rev); err != nil {
			return false, err
		}
	}
	// Without events it says how far the watch is: nothing comes any more that
	// is not newer.
	return p.next > p.end || r.IsProgressNotify() && r.Header.Revision >= p.end, nil
}

func (p *replay) hand(r Revision) error {
	if r.Base {
		p.based, p.mods = true, map[string]int64{}
	}
	for _, ch := range r.Changes {
		if ch.Deleted {
			delete(p.mods, ch.Key)
		} else {
			p.mods[ch.Key] = ch.Mod
		}
	}
	p.next = r.Number + 1
	return p.each(r)
}

// compare says how what was handed over differs from what there is.
func (p *replay) compare(there map[string]int64) error {
	if maps.Equal(p.mods, there) || p.next > p.end+1 { // a base from after the end
		return nil
	}
	for key, mod := range there {
		if p.mods[key] != mod {
			return fmt.Errorf("etcd's history up to revision %d leads to %s of revision %d, and etcd has it of revision %d: a member has lost changes", p.end, key, p.mods[key], mod)
		}
	}
	for key := range p.mods {
		if _, is := there[key]; !is {
			return fmt.Errorf("etcd's history up to revision %d leads to %s, which etcd does not have: a member has lost changes", p.end, key)
		}
	}
	return nil
}

func changed(kv *mvccpb.KeyValue) Change {
	return Change{Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Lease: kv.Lease}
}
