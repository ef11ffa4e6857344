package nodeagent

import (
	"context"
	"time"

	"relman/cluster"
	"relman/release"
)

// A scheduled flip is made like any other, and each node that has heard of it waits
// until it is time by its own clock. Until then it shows what was shown before, and
// answers visitors who have seen the new release elsewhere out of that, which it
// holds as well.

// lookAgain is how often a node that waits looks at its clock: that may be set
// meanwhile, and timers stand still while the machine sleeps.
const lookAgain = time.Second

// target is what a node is to show; the zero one is nothing.
type target struct {
	release  release.ID // that became active with epoch
	epoch    release.Epoch
	shown    release.ID     // by this node: it may be one whose group sees the canary
	manifest release.Digest // of that; zero: the id says it all
	split    *split         // what visitors are shown besides; nil: nothing
}

// atOnce is what a node shows of what is active.
func (s *site) atOnce(a cluster.Active) target {
	id, manifest := s.shownOf(a)
	return target{a.Release, a.Epoch, id, manifest, splitOf(a)}
}

// due is what is to be shown now. It is called with the lock, and sets the alarm for
// the time when it will be something else.
func (s *site) due(a cluster.Active) target {
	if a.ActivateAt.IsZero() {
		s.waiting = false
		return s.atOnce(a)
	}
	now := s.cfg.now()
	before, epoch, waits := a.WaitsAt(now, s.applied.Epoch)
	if s.waiting = waits && !s.clockWrong(a, now); !s.waiting {
		return s.atOnce(a)
	}
	left := min(a.ActivateAt.Sub(now), lookAgain)
	if s.alarm == nil {
		s.alarm = time.AfterFunc(left, s.look)
	} else {
		s.alarm.Reset(left)
	}
	if before == nil {
		return target{epoch: epoch}
	}
	return target{release: before.Release, epoch: epoch, shown: before.Release}
}

// look swaps if it is time.
func (s *site) look() {
	s.mu.Lock()
	was := s.waiting
	if was {
		s.swap()
	}
	news := was && !s.waiting
	s.mu.Unlock()
	if news {
		s.poke()
	}
}

// clockWrong: the node cannot tell when it is time, and does not wait. A clock by
// which the flip is yet to be made is behind.
func (s *site) clockWrong(a cluster.Active, now time.Time) bool {
	return now.Before(a.At.Add(-cluster.MaxClockError)) || s.reg.ClockError() != 0
}

// wants is the epoch that the node is to show now. It is called with the lock.
func (s *site) wants() release.Epoch {
	a := s.view.Active.Value
	if s.waiting {
		return a.Before
	}
	return a.Epoch
}

// waitsFor reports whether the node knows of an epoch and waits until it is time.
func (s *site) waitsFor(epoch release.Epoch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting && epoch <= s.view.Active.Value.Epoch
}

// clockError is the error of the clock for the status, 0 while it is good. It is
// rounded: what changes with every tick is no news.
func (s *site) clockError() int64 {
	return s.reg.ClockError().Round(100 * time.Millisecond).Milliseconds()
}

// watchClock has all sites look, and report, when the clock turns out to be wrong, or
// is right again.
func (a *Agent) watchClock(ctx context.Context) {
	var last time.Duration
	for ctx.Err() == nil {
		if off := a.reg.ClockError().Round(100 * time.Millisecond); off != last {
			last = off
			if off != 0 {
				a.cfg.Log.Warn("this clock is wrong: scheduled flips are shown as soon as they come", "ahead_ms", off.Milliseconds())
			} else {
				a.cfg.Log.Info("this clock agrees with the leader's")
			}
			a.mu.Lock()
			for _, s := range a.sites {
				s.look()
				s.poke()
			}
			a.mu.Unlock()
		}
		sleep(ctx, lookAgain)
	}
}
