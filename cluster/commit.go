package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Between copies of a transaction.
const (
	leastRetry = 50 * time.Millisecond
	mostRetry  = 2 * time.Second
)

// Commit sends a transaction and returns the revision at which it committed.
//
// An error is one of: a *Refusal, nothing changed; ErrUnavailable, ErrDenied,
// nothing changed; ErrUnknown, ctx ended while a copy may have been, or may yet
// be, carried out. While the outcome is unknown, the same transaction is sent
// again until ctx ends: its guards let at most one copy commit, and the
// later ones recognise the earlier by the transaction's Mark. A transaction
// without a Mark can be committed twice, which does no harm; a refusal behind a
// copy whose outcome is unknown may be its own work, and is ErrUnknown.
func (c *Client) Commit(ctx context.Context, t Txn) (revision int64, err error) {
	return c.commit(ctx, t, clientv3.NoLease)
}

func (c *Client) commit(ctx context.Context, t Txn, lease clientv3.LeaseID) (int64, error) {
	unknown := false // a copy may have been carried out
	began := time.Now()
	for try := 0; ; try++ {
		resp, sent, err := c.send(ctx, t, lease)
		if err == nil {
			rev, err := outcome(t, resp)
			return rev, uncertain(err, unknown, t.Mark != nil)
		}
		v := judge(err)
		if v == full && sent {
			return c.afterFull(ctx, t, err, unknown)
		}
		unknown = unknown || v == lost && sent
		switch {
		case unknown:
			if pause(ctx, try, leastRetry, mostRetry) {
				c.log.Debug("outcome unknown, sending again", "txn", t.Name, "error", text(err))
				continue
			}
			return 0, fmt.Errorf("%s: %w: %s (%s)", t.Name, ErrUnknown, text(err), c.endpoints())
		case v == lost || v == busy:
			// Nothing has left. A connection may come back within a call's time.
			if time.Since(began) < c.cfg.Timeout && pause(ctx, try, leastRetry, mostRetry) {
				continue
			}
		}
		return 0, c.translate(ctx, t.Name, err)
	}
}

// uncertain: a refusal says of an earlier copy, whose fate is unknown, that it
// cannot commit any more only if the guard will never hold again, which is so for
// a revision that has passed. A freeze can be lifted while the copy is on its way.
// And a transaction without a mark may be refused by what its own copy has done.
func uncertain(err error, unknown, marked bool) error {
	r, refused := errors.AsType[*Refusal](err)
	if !unknown || !refused {
		return err
	}
	if never := r.Guard.Field == Mod && r.Guard.Rev != 0 || r.Guard.Class == ClassNotLeader; never && marked {
		return err
	}
	return fmt.Errorf("%w of an earlier copy, after a refusal: %w", ErrUnknown, err)
}

// afterFull finds out what became of a transaction that etcd answered with "no
// space": the one that crosses the quota is carried out and answered so all the
// same. Of an earlier copy, whose fate is unknown, only its mark tells.
func (c *Client) afterFull(ctx context.Context, t Txn, cause error, unknown bool) (int64, error) {
	full := c.translate(ctx, t.Name, cause)
	if unknown {
		full = fmt.Errorf("%w of an earlier copy: %w", ErrUnknown, full)
	}
	if t.Mark == nil {
		return 0, full
	}
	r, err := c.read(ctx, t.Name, clientv3.OpGet(t.Mark.Key))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnknown, full)
	}
	for _, kv := range ranged(r, 0) {
		if string(kv.Value) == t.Mark.Value {
			return kv.ModRevision, nil
		}
	}
	return 0, full
}

// send sends one copy. clientv3 does not send it again by itself unless
// nothing of it has left.
func (c *Client) send(ctx context.Context, t Txn, lease clientv3.LeaseID) (*clientv3.TxnResponse, bool, error) {
	ctx, sent := withSent(ctx)
	ctx, cancel := c.call(ctx)
	defer cancel()
	cmps, then, otherwise := t.build(lease)
	resp, err := c.kv.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	return resp, sent.Load(), err
}

// build makes etcd's transaction. Otherwise it reads what each guard looked
// at, in the order of the guards, and the mark: so a refusal is explained as of
// the very revision at which it happened.
func (t Txn) build(lease clientv3.LeaseID) (cmps []clientv3.Cmp, then, otherwise []clientv3.Op) {
	for _, g := range t.Guards {
		cmps = append(cmps, g.compare())
		otherwise = append(otherwise, g.get())
	}
	for _, o := range t.Ops {
		then = append(then, o.op(lease))
	}
	if t.Mark != nil {
		otherwise = append(otherwise, clientv3.OpGet(t.Mark.Key))
	}
	return cmps, then, otherwise
}

func (g Guard) compare() clientv3.Cmp {
	op := "="
	if g.Not {
		op = "!="
	}
	var cmp clientv3.Cmp
	switch g.Field {
	case Create:
		cmp = clientv3.Compare(clientv3.CreateRevision(g.Key), op, g.Rev)
	case Value:
		cmp = clientv3.Compare(clientv3.Value(g.Key), op, g.Value)
	default:
		cmp = clientv3.Compare(clientv3.ModRevision(g.Key), op, g.Rev)
	}
	if g.Prefix {
		cmp = cmp.WithPrefix()
	}
	return cmp
}

func (g Guard) get() clientv3.Op {
	if g.Prefix {
		return clientv3.OpGet(g.Key, clientv3.WithPrefix())
	}
	return clientv3.OpGet(g.Key)
}

func (o Op) op(lease clientv3.LeaseID) clientv3.Op {
	switch {
	case o.Delete:
		return clientv3.OpDelete(o.Key)
	case o.Leased:
		return clientv3.OpPut(o.Key, o.Value, clientv3.WithLease(lease))
	default:
		return clientv3.OpPut(o.Key, o.Value)
	}
}

// outcome reads what became of a transaction that was answered.
func outcome(t Txn, resp *clientv3.TxnResponse) (int64, error) {
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	if t.Mark != nil {
		for _, kv := range ranged(resp, len(t.Guards)) {
			if string(kv.Value) == t.Mark.Value {
				return kv.ModRevision, nil // an earlier copy committed
			}
		}
	}
	for i, g := range t.Guards {
		pairs := toPairs(ranged(resp, i))
		if !g.Holds(pairs) {
			return 0, &Refusal{Txn: t.Name, Guard: g, Found: g.found(pairs)}
		}
	}
	return 0, fmt.Errorf("%s: refused at revision %d, where every guard holds", t.Name, resp.Header.Revision)
}

func ranged(resp *clientv3.TxnResponse, i int) []*mvccpb.KeyValue {
	if r, ok := resp.Responses[i].Response.(*etcdserverpb.ResponseOp_ResponseRange); ok {
		return r.ResponseRange.Kvs
	}
	return nil
}

func toPairs(kvs []*mvccpb.KeyValue) []Pair {
	pairs := make([]Pair, len(kvs))
	for i, kv := range kvs {
		pairs[i] = Pair{Key: string(kv.Key), Value: string(kv.Value), Mod: kv.ModRevision, Create: kv.CreateRevision}
	}
	return pairs
}

// transient reports whether it makes sense to try a read or a watch again.
func transient(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, errWatchEnded)
}
