package nodeagent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"relman/cluster"
)

// work goes round after round, level-triggered: each compares what etcd says
// with what the disk holds, does what is missing in the order of its
// importance, and ends early when etcd says something new.
func (s *site) work(ctx context.Context) {
	limit := backoffMin
	for ctx.Err() == nil {
		v, seen, roundCtx := s.begin(ctx)
		if !seen {
			s.wait(ctx, recheck)
			continue
		}
		err := s.round(roundCtx, v)
		cause := context.Cause(roundCtx)
		s.end(err, cause)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(cause, errNewView):
			limit = backoffMin
		case err != nil:
			s.fail(ctx, v, err)
			s.wait(ctx, rand.N(limit))
			limit = min(2*limit, backoffMax)
		default:
			limit = backoffMin
			if !s.wait(ctx, recheck/2+rand.N(recheck)) {
				s.known = false
			}
		}
	}
}

// begin takes the newest view and the context in which to obey it.
func (s *site) begin(ctx context.Context) (cluster.NodeView, bool, context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, s.stopWork = context.WithCancelCause(ctx)
	if s.forgotten {
		s.forgotten, s.known = false, false
	}
	return s.view, s.seen, ctx
}

func (s *site) end(err, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWork(nil)
	s.stopWork = nil
	if cause != nil {
		err = cause // what failed by it says nothing
	}
	s.roundErr = err
	close(s.roundEnded)
	s.roundEnded = make(chan struct{})
}

// wait waits for something new, for d at most. It reports whether there is.
func (s *site) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-s.wake:
		return true
	}
	return false
}

// fail notes what went wrong, for the log and the status.
func (s *site) fail(ctx context.Context, v cluster.NodeView, err error) {
	if errors.Is(err, cluster.ErrConflict) {
		// The view was old; the next one comes by itself.
		s.log.Debug("transaction refused", "error", err)
		return
	}
	info := problem(err)
	if s.trouble == nil || s.trouble.Text != info.Text {
		s.log.Warn("work interrupted", "class", info.Class, "error", err)
	}
	s.trouble = info
	s.report(ctx, v)
}

// round does what v calls for. The order is the point.
func (s *site) round(ctx context.Context, v cluster.NodeView) error {
	n, err := places(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.disk.grow(n)
	s.mu.Unlock()
	s.mu.Lock()
	refusing := s.refusing
	s.mu.Unlock()
	if refusing != nil {
		s.report(ctx, v)
		return refusing
	}
	// What is shown has changed before this; now its links and its memory.
	if err := s.settle(v); err != nil {
		return err
	}
	s.report(ctx, v)
	s.unclaim(v)
	for _, step := range []func(context.Context, cluster.NodeView) error{
		s.examine, // what is suspect is looked at
		s.obey,
		s.patrol, // and at last what nobody asked for
	} {
		if err := step(ctx, v); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	s.trouble = nil
	s.holdVariants()
	err = s.settle(v)
	s.report(ctx, v)
	return err
}
