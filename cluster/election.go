package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Leadership is what Campaign wins. It may be lost at any time and Done may
// tell of it late: only the fence, which each transaction of a leader
// compares, tells whether it still leads.
type Leadership struct {
	c       *Client
	fence   Fence
	session *session
	done    chan struct{}

	once sync.Once
	err  error // of Resign
}

// Leader is the value of the leading key, "" when nobody leads.
func (c *Client) Leader(ctx context.Context) (string, error) {
	r, err := c.read(ctx, "ask who leads", clientv3.OpGet(ElectionPrefix+"/", clientv3.WithFirstCreate()...))
	if err != nil {
		return "", err
	}
	for _, kv := range ranged(r, 0) {
		return string(kv.Value), nil
	}
	return "", nil
}

// Campaign waits until this manager leads, over every fault of etcd, or until
// ctx ends. The leadership then lasts beyond ctx, until Resign or its loss.
func (c *Client) Campaign(ctx context.Context, id string, ttl time.Duration) (*Leadership, error) {
	first := true
	for try := 0; ; try++ {
		began := time.Now()
		l, err := c.campaign(ctx, id, ttl)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("campaign as %s: %w", id, ctx.Err())
		}
		// Later a password's token may have run out while others led
		// (etcd#17623): the next try logs in anew.
		if first && errors.Is(err, ErrDenied) {
			return nil, err
		}
		first = false
		if time.Since(began) > mostPause {
			try = 0
		}
		c.log.Warn("campaign broken off, beginning again", "manager", id, "error", err)
		pause(ctx, try, leastPause, mostPause)
	}
}

// campaign is one try, with a session of its own.
func (c *Client) campaign(ctx context.Context, id string, ttl time.Duration) (_ *Leadership, err error) {
	s, err := c.session(ctx, ttl)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.end(ctx)
		}
	}()

	// Campaign looks at older keys only, neither at its own nor at the
	// session: without a session it would wait for ever, and then win without
	// holding a key (etcd#19597).
	cctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.Ctx(), cancel)() //nolint:contextcheck // two contexts end this one
	e := concurrency.NewElection(s.Session, ElectionPrefix)
	if err := campaignUntil(cctx, e, id); err != nil {
		if s.Ctx().Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("campaign as %s: %w", id, errLeaseGone)
		}
		return nil, c.translate(ctx, "campaign as "+id, err)
	}
	fence := Fence{Key: e.Key(), Create: e.Rev()}
	rev, err := c.holds(ctx, fence)
	if err != nil {
		return nil, err
	}
	l := &Leadership{c: c, fence: fence, session: s, done: make(chan struct{})}
	go l.watch(rev) //nolint:contextcheck // leadership outlives the campaign; Resign ends it
	return l, nil
}

// campaignUntil is e.Campaign that ends with ctx. Campaign itself, when it is
// cancelled, resigns on the client's own context: for as long as etcd is away.
// The key goes with the session.
func campaignUntil(ctx context.Context, e *concurrency.Election, id string) error {
	won := make(chan error, 1)
	go func() { won <- e.Campaign(clientv3.WithRequireLeader(ctx), id) }()
	select {
	case err := <-won:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// holds returns the revision at which the key of a fence still stood.
func (c *Client) holds(ctx context.Context, f Fence) (int64, error) {
	r, err := c.read(ctx, "look at the own election key", clientv3.OpGet(f.Key))
	if err != nil {
		return 0, err
	}
	for _, kv := range ranged(r, 0) {
		if kv.CreateRevision == f.Create {
			return r.Header.Revision, nil
		}
	}
	return 0, fmt.Errorf("won the election without a key: %w", ErrNotLeader)
}

// watch closes done when the session ends or the key goes, whichever is seen
// first. A watch that breaks is of no account: the fence is what counts.
func (l *Leadership) watch(rev int64) {
	defer close(l.done)
	ctx := l.session.Ctx()
	events := l.c.watcher.Watch(clientv3.WithRequireLeader(ctx), l.fence.Key, clientv3.WithRev(rev+1), clientv3.WithFilterPut())
	for {
		select {
		case r, ok := <-events:
			if !ok || r.Err() != nil {
				events = nil // for ever silent
			}
			if len(r.Events) > 0 {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Fence is what every transaction of this leader is guarded by.
func (l *Leadership) Fence() Fence { return l.fence }

// Done is closed when leadership is known to be lost, or was resigned.
func (l *Leadership) Done() <-chan struct{} { return l.done }

// Resign lets another manager lead at once. It must be called by whoever won,
// also after a loss; later calls do nothing.
func (l *Leadership) Resign(ctx context.Context) error {
	l.once.Do(func() {
		l.err = l.session.end(ctx)
		<-l.done
	})
	return l.err
}
