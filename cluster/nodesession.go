package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// nodeTTL is how long a node that says nothing is taken for alive.
const nodeTTL = 15 * time.Second

// errDuplicate: another process with the same node id is alive.
var errDuplicate = errors.New(string(ClassDuplicateNode))

// Run keeps the node known as alive, with its statuses, until ctx ends: a
// session that is lost is made anew. Faults of etcd never end it; a join that
// contradicts the first one does.
func (n *Node) Run(ctx context.Context) error {
	for try := 0; ; try++ {
		began := time.Now()
		err := n.session(ctx)
		n.trouble.Store(&err)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errJoined):
			return err
		case errors.Is(err, errDuplicate):
			n.log.Error("another process with this node id is alive; waiting for it to end", "class", ClassDuplicateNode, "error", err)
		case errors.Is(err, errOtherCluster):
			n.log.Error("not registered", "error", err)
		default:
			n.log.Warn("session lost, registering anew", "error", err)
		}
		if time.Since(began) > nodeTTL {
			try = 0
		}
		pause(ctx, min(try, 3), leastPause, mostPause)
	}
}

// session registers the node and returns why it is not registered any more.
func (n *Node) session(ctx context.Context) error {
	s, err := n.c.session(ctx, nodeTTL)
	if err != nil {
		return err
	}
	// Whatever the reason: keys of a session that has ended must go.
	defer func() { _ = s.end(ctx) }()
	rev, err := n.register(ctx, s)
	if err != nil {
		return err
	}
	n.alive.Store(true)
	n.seen.askAgain()
	defer n.alive.Store(false)
	n.log.Debug("registered", "boot", n.live.Boot, "revision", rev)

	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.Ctx(), func() { cancel(errLeaseGone) })() //nolint:contextcheck // two contexts end this one
	guard := make(chan struct{})
	go func() { // a lost key shows sooner than a lost lease
		defer close(guard)
		cancel(n.guardLive(sctx, rev+1))
	}()
	defer func() { cancel(nil); <-guard }()
	if err := n.writeReports(sctx, s); err != nil && sctx.Err() == nil {
		return err
	}
	return context.Cause(sctx)
}

// guardLive returns when the node's live key is gone or somebody else's. A
// watch that breaks is made anew; what it missed shows in the end of the lease.
func (n *Node) guardLive(ctx context.Context, rev int64) error {
	var lost error
	for try := 0; lost == nil && ctx.Err() == nil; try++ {
		_ = n.c.watch(ctx, rev, []target{{key: LiveKey(n.self.Node)}}, func(evs []*clientv3.Event) bool {
			for _, e := range evs {
				kv, at, exists := kvOf(e)
				rev = at + 1
				switch {
				case !exists:
					lost = errLeaseGone
				case string(kv.Value) != encode(n.live):
					lost = fmt.Errorf("%w: %s was taken over: %s", errDuplicate, n.self.Node, kv.Value)
				}
			}
			return lost == nil
		})
		if lost == nil && !pause(ctx, try, leastPause, mostPause) {
			return ctx.Err()
		}
	}
	return lost
}

// errJoined: the node joined with other words before.
var errJoined = errors.New("the node has joined otherwise before")

// register puts the node's live key and, the first time ever, its join.
func (n *Node) register(ctx context.Context, s *session) (revision int64, err error) {
	id := n.self.Node
	r, err := n.c.read(ctx, "register "+string(id), clientv3.OpGet(LiveKey(id)), clientv3.OpGet(JoinKey(id)), clientv3.OpGet(InfoKey))
	if err != nil {
		return 0, err
	}
	if err := n.belongs(only(ranged(r, 2))); err != nil {
		return 0, err
	}
	live := only(ranged(r, 0))
	if err := n.mayTake(ctx, live); err != nil {
		return 0, err
	}
	join, err := entryAt[Join](r, 1)
	if err != nil {
		return 0, err
	}
	t := Txn{
		Name:   "register " + string(id),
		Guards: []Guard{unchanged(LiveKey(id), modOf(live), ClassDuplicateNode)},
		Ops: []Op{
			put(LiveKey(id), n.live).leased(),
			put(LastKey(id), Last{Boot: n.live.Boot, FenceMS: n.fence.Milliseconds()}),
		},
	}
	switch {
	case !join.Exists():
		t.Guards = append(t.Guards, absent(JoinKey(id), ClassExists))
		t.Ops = append(t.Ops, put(JoinKey(id), n.join))
	case join.Value.Group != n.join.Group:
		return 0, fmt.Errorf("%w: %s is in group %q, not %q; its claims stand there", errJoined, id, join.Value.Group, n.join.Group)
	case !slices.Equal(join.Value.Sites, n.join.Sites):
		n.log.Warn("the sites given when the node first joined are those that count", "joined", join.Value.Sites, "given", n.join.Sites)
	}
	ctx, cancel := n.c.call(ctx) // not longer: the lease runs meanwhile
	defer cancel()
	revision, err = n.c.commit(ctx, t, s.Lease())
	if err == nil && n.cluster.Load() == nil {
		id, _ := clusterID(only(ranged(r, 2))) // it was read above
		n.Belong(id)
	}
	return revision, err
}

// mayTake says whether a live key may be replaced: it is this boot's own, that
// of one which is known to have ended, or its owner has missed a renewal. A
// process that was killed and started again so waits for some seconds at most
// and not for the whole lease.
func (n *Node) mayTake(ctx context.Context, kv *mvccpb.KeyValue) error {
	if kv == nil {
		return nil
	}
	var other Live
	if err := decode(string(kv.Key), kv.Value, &other); err != nil {
		return err
	}
	if other.Boot == n.live.Boot || n.before != "" && other.Boot == n.before {
		return nil
	}
	cctx, cancel := n.c.call(ctx)
	defer cancel()
	l, err := n.c.ev.TimeToLive(cctx, clientv3.LeaseID(kv.Lease))
	if err != nil {
		return n.c.translate(ctx, "look at the lease of "+string(n.self.Node), err)
	}
	// Renewed at every third of the time to live; two seconds for slowness.
	if left := l.GrantedTTL - l.GrantedTTL/3 - 2; l.TTL <= 0 || l.TTL < left {
		return nil
	}
	return fmt.Errorf("%w: %s is held by boot %s at %s", errDuplicate, n.self.Node, other.Boot, other.Addr)
}
