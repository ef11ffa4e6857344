package cluster

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// session is a lease that is kept alive until end, however long the context
// lasts that it was made with. Its own context ends when it is known that the
// lease is kept alive no more: late, so it is a reason to hurry and never a
// proof of anything.
type session struct {
	*concurrency.Session
	c    *Client
	stop context.CancelFunc
}

func (c *Client) session(ctx context.Context, ttl time.Duration) (*session, error) {
	cctx, cancel := c.call(ctx)
	defer cancel()
	g, err := c.ev.Grant(cctx, max(1, int64(ttl/time.Second)))
	if err != nil {
		return nil, c.translate(ctx, "grant a lease", err)
	}
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s, err := concurrency.NewSession(c.ev, concurrency.WithLease(g.ID), concurrency.WithContext(clientv3.WithRequireLeader(sctx)))
	if err != nil {
		stop()
		return nil, c.translate(ctx, "keep a lease alive", err)
	}
	return &session{Session: s, c: c, stop: stop}, nil
}

// end revokes the lease, and with it every key under it. It does so also when
// ctx has ended, but takes no longer than one call: a lease that cannot be
// revoked runs out.
func (s *session) end(ctx context.Context) error {
	s.stop()
	s.Orphan()
	ctx, cancel := s.c.call(context.WithoutCancel(ctx))
	defer cancel()
	if _, err := s.c.ev.Revoke(ctx, s.Lease()); err != nil && judge(err) != leaseGone {
		return s.c.translate(ctx, "revoke a lease", err)
	}
	return nil
}
