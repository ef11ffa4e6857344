package nodeagent

import (
	"context"
	"time"

	"relman/cluster"
	"relman/release"
)

// mostCatchUp is how long a visitor waits for a node to learn of a flip that he
// has seen on another one. After a question that was not answered nobody waits for
// askAgain: the visitor's own release is served, if the node holds it.
const (
	mostCatchUp = time.Second
	askAgain    = 2 * time.Second
)

// asking is a question of what is active that is under way. Visitors who come
// meanwhile wait for the same answer, if it was asked after they came: an answer
// to an earlier question may be older than what they saw.
type asking struct {
	done     chan struct{}
	answered bool          // once that is closed, as what follows
	epoch    release.Epoch // that is active
}

// catchUpTo makes the node show what is active with an epoch or a later one, if
// etcd says soon that there is such a thing and the node holds it. Nobody is
// believed but etcd. It reports whether etcd has said that there never was such an
// epoch: it was restored to before that.
func (s *site) catchUpTo(ctx context.Context, epoch release.Epoch) (never bool) {
	ctx, cancel := context.WithTimeout(ctx, mostCatchUp)
	defer cancel()
	var a *asking
	for range 2 { // the question that is under way, then one of its own
		if _, shown := s.front.Shown(); shown >= epoch || s.waitsFor(epoch) {
			return false
		}
		if a = s.ask(); a == nil { //nolint:contextcheck // others wait for the answer, too
			return false
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A node that has just started, and a watch that lags, know less than the answer.
	return a.answered && s.seen && s.refusing == nil && max(a.epoch, s.view.Active.Value.Epoch) < epoch
}

// ask joins the question that is under way or begins one; nil when etcd did not
// answer a moment ago.
func (s *site) ask() *asking {
	s.askMu.Lock()
	defer s.askMu.Unlock()
	if s.asked != nil {
		return s.asked
	}
	if time.Since(s.unanswered) < askAgain {
		return nil
	}
	a := &asking{done: make(chan struct{})}
	s.asked = a
	go func() {
		// Not bound to one visitor: others wait for the answer, too.
		ctx, cancel := context.WithTimeout(context.Background(), mostCatchUp)
		defer cancel()
		active, rev, err := s.reg.Active(ctx, s.name)
		if err == nil {
			s.hear(active, rev)
			a.answered, a.epoch = true, active.Value.Epoch
			s.metrics.catchUps.WithLabelValues("answered").Inc()
		} else {
			s.metrics.catchUps.WithLabelValues("failed").Inc()
			s.log.Debug("not caught up with a visitor", "error", err)
		}
		s.askMu.Lock()
		s.asked = nil
		if err != nil {
			s.unanswered = time.Now()
		}
		s.askMu.Unlock()
		close(a.done)
	}()
	return a
}

// heard is what is active as etcd said it when it was asked: newer than what the
// watch has told, until that has come so far.
type heard struct {
	active   cluster.Entry[cluster.Active]
	revision int64
	until    time.Time
}

// hear takes an answer of etcd's that does not come by the watch.
func (s *site) hear(active cluster.Entry[cluster.Active], revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seen || revision <= s.view.Revision || active.Mod == s.view.Active.Mod {
		return
	}
	s.heard = &heard{active, revision, time.Now().Add(heardFor)}
	s.take(s.view)
	s.poke()
}

// heardFor bounds how long a watch that lags is overruled: it is read anew more
// often than that, and etcd that was restored from an old copy has lower
// revisions for good.
const heardFor = time.Minute

// newest puts what was heard into a view of the watch that is older. It is called
// with the lock.
func (s *site) newest(v cluster.NodeView) cluster.NodeView {
	switch h := s.heard; {
	case h == nil:
	case v.Revision >= h.revision || time.Now().After(h.until):
		s.heard = nil
	default:
		v.Active = h.active
	}
	return v
}
