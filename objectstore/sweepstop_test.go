package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowDelete takes its time for each deletion, and counts those that were cut
// off.
type slowDelete struct {
	Store
	takes map[string]time.Duration
	cut   atomic.Int32
	done  atomic.Int32
}

func (s *slowDelete) Delete(ctx context.Context, key string) error {
	select {
	case <-time.After(s.takes[key]):
		s.done.Add(1)
		return nil
	case <-ctx.Done():
		s.cut.Add(1)
		return ctx.Err()
	}
}

// TestSweepRun_stopped: when the sweep is no longer the caller's, or the caller
// is told to stop, what is under way is waited for and nothing else begins: a
// request whose answer nobody waits for could take effect when publishers are
// at work again.
func TestSweepRun_stopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowDelete{Store: NewMemory(), takes: map[string]time.Duration{}}
		var p SweepPlan
		for i := range 2 * deletesAtOnce {
			key := fmt.Sprintf("sites/www/releases/%d/layout.zst", i)
			p.Objects = append(p.Objects, SweepObject{Key: key, Size: 1})
			s.takes[key] = holdFor + time.Duration(i+1)*time.Second/2
		}
		stop := errors.New("stop")
		asked := 0
		stats, err := p.Run(t.Context(), s, func(context.Context) error {
			if asked++; asked > 1 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || s.cut.Load() != 0 || s.done.Load() != deletesAtOnce || stats.DeletedObjects != deletesAtOnce {
			t.Errorf("%v: %d cut off, %d done, counted %+v", err, s.cut.Load(), s.done.Load(), stats)
		}
	})
}

// TestSweepRun_unanswered: what ended without an answer is counted, also when
// something else ended the run.
func TestSweepRun_unanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowDelete{Store: NewMemory(), takes: map[string]time.Duration{}}
		var p SweepPlan
		for i := range deletesAtOnce + 1 {
			key := fmt.Sprintf("sites/www/releases/%d/layout.zst", i)
			p.Objects = append(p.Objects, SweepObject{Key: key, Size: 1})
			s.takes[key] = holdFor + time.Second
		}
		s.takes[p.Objects[0].Key] = time.Hour
		stop := errors.New("stop")
		asked := 0
		stats, err := p.Run(t.Context(), s, func(context.Context) error {
			if asked++; asked > 1 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || s.cut.Load() != 1 || stats.Unanswered != 1 {
			t.Errorf("%v: %d cut off, counted %+v", err, s.cut.Load(), stats)
		}
	})
}
