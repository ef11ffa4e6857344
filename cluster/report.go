package cluster

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// How often a status is written: progress once a second; what tells of a step,
// at once.
const (
	progressEvery = time.Second
	stepEvery     = 20 * time.Millisecond
)

// mostReports is how many statuses go into one transaction.
const mostReports = 100

// report is what a node has to say of one site.
type report struct {
	want    Status
	sent    Status // what stands under the session's lease
	written bool   // sent is something
	mod     int64  // revision of what stands; -1: not known
	at      time.Time
}

// due is when a report is to be written, and whether it is.
func (r *report) due() (time.Time, bool) {
	if !r.written {
		return time.Time{}, true
	}
	if encode(r.want) == encode(r.sent) {
		return time.Time{}, false
	}
	if encode(r.want.step()) == encode(r.sent.step()) {
		return r.at.Add(progressEvery), true
	}
	return r.at.Add(stepEvery), true
}

// step is a status without its progress.
func (s Status) step() Status {
	if s.Preparing != nil {
		p := *s.Preparing
		p.Done = 0
		s.Preparing = &p
	}
	return s
}

// Report says what the node does for a site. It does not wait: Run writes it
// under the session's lease, the newest in the end, and again when the session
// was lost.
func (n *Node) Report(ctx context.Context, site release.Site, s Status) error {
	if s.Preparing != nil { // the caller may go on changing its own
		p := *s.Preparing
		s.Preparing = &p
	}
	n.mu.Lock()
	r := n.reports[site]
	if r == nil {
		r = &report{mod: -1}
		n.reports[site] = r
	}
	r.want = s
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return ctx.Err()
}

// writeReports writes what is due until ctx ends or the session is lost.
func (n *Node) writeReports(ctx context.Context, s *session) error {
	n.mu.Lock()
	for _, r := range n.reports {
		r.written, r.mod = false, -1
	}
	n.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		next, err := n.writeDue(ctx, s)
		switch {
		case RefusedBy(err) == ClassConflict: // another one stands than was known
			next = time.Now().Add(stepEvery)
		case errors.Is(err, errLeaseGone), errors.Is(err, ErrConflict):
			return err
		case err != nil:
			n.log.Debug("status not written, trying again", "error", err)
			next = time.Now().Add(jittered(progressEvery))
		}
		if !next.IsZero() {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// writeDue writes the reports that are due now and says when to look again,
// never if that is zero.
func (n *Node) writeDue(ctx context.Context, s *session) (next time.Time, err error) {
	now := time.Now()
	t := Txn{
		Name:   "write the statuses of " + string(n.self.Node),
		Guards: []Guard{valueIs(LiveKey(n.self.Node), encode(n.live), ClassDuplicateNode)},
	}
	if err := n.readReports(ctx); err != nil {
		return next, err
	}
	sent := map[*report]Status{}
	n.mu.Lock()
	for site, r := range n.reports {
		at, is := r.due()
		switch {
		case !is:
		case at.After(now) || len(t.Ops) == mostReports:
			if next.IsZero() || at.Before(next) {
				next = at
			}
		case r.mod < 0: // more than are read at once
			next = now
		default:
			// A copy that comes late does not put an older status in its place: nobody
			// would write the newer one again.
			t.Guards = append(t.Guards, unchanged(StatusKey(n.self.Node, site), r.mod, ClassConflict))
			t.Ops = append(t.Ops, put(StatusKey(n.self.Node, site), r.want).leased())
			sent[r] = r.want
		}
	}
	n.mu.Unlock()
	if len(t.Ops) == 0 {
		return next, nil
	}
	ctx, cancel := n.c.call(ctx)
	defer cancel()
	rev, err := n.c.commit(ctx, t, s.Lease())
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		for r := range sent {
			r.mod = -1
		}
		return next, err
	}
	for r, status := range sent {
		r.sent, r.written, r.at, r.mod = status, true, now, rev
	}
	if len(t.Ops) == mostReports {
		next = now
	}
	return next, nil
}

// readReports reads the revisions of the statuses that are not known.
func (n *Node) readReports(ctx context.Context) error {
	n.mu.Lock()
	var sites []release.Site
	for site, r := range n.reports {
		if r.mod < 0 && len(sites) < mostReports {
			sites = append(sites, site)
		}
	}
	n.mu.Unlock()
	if len(sites) == 0 {
		return nil
	}
	var gets []clientv3.Op
	for _, site := range sites {
		gets = append(gets, clientv3.OpGet(StatusKey(n.self.Node, site)))
	}
	resp, err := n.c.read(ctx, "read the statuses of "+string(n.self.Node), gets...)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, site := range sites {
		n.reports[site].mod = modOf(only(ranged(resp, i)))
	}
	return nil
}
