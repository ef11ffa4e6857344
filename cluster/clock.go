package cluster

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	// TickEvery is how often the leader says what time it is.
	TickEvery = 10 * time.Second
	// MaxClockError is how far a node's clock may be from the leader's before it is
	// called wrong: then the node waits for no time, and its times do not count.
	MaxClockError = 500 * time.Millisecond
	// mostTicks are compared: what was slow under way a minute ago is forgotten.
	mostTicks = 6
	// leastTicks say that a clock is ahead.
	leastTicks = 3
)

// Clock is what time it is by the leader's clock.
type Clock struct {
	At     time.Time `json:"at"`
	Leader int64     `json:"leader"` // create revision of its election key
}

// Tick says what time it is. No decision rests on it but whether a node's clock is
// good enough to wait by.
func Tick(f Fence, now time.Time) Txn {
	return Txn{
		Name:   "say what time it is",
		Guards: []Guard{f.guard()},
		Ops:    []Op{put(ClockKey, Clock{At: now, Leader: f.Create})},
	}
}

// clockError estimates how far the own clock is ahead of the leader's. Each tick
// arrives after it was sent: the difference of the two clocks at its arrival is the
// error and the way, and the least of several has the least of the way in it. So one
// tick proves that a clock is behind, and none that it is ahead: what was read when
// the node began may be old, and one may have been slow. The third says it well enough.
type clockError struct {
	mu     sync.Mutex // guards what follows
	leader int64
	last   time.Time
	diffs  []time.Duration // the newest last
}

// hear takes a tick that arrives now, nil for none.
func (c *clockError) hear(kv *mvccpb.KeyValue, now time.Time) error {
	if kv == nil {
		return nil
	}
	var tick Clock
	if err := decode(ClockKey, kv.Value, &tick); err != nil {
		return err
	}
	if tick.At.IsZero() {
		return fmt.Errorf("read %s: it has no time", ClockKey)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if tick.Leader != c.leader { // another clock
		c.leader, c.diffs = tick.Leader, nil
	}
	if tick.At.Equal(c.last) {
		return nil
	}
	c.last = tick.At
	c.diffs = append(c.diffs, now.Sub(tick.At))
	c.diffs = c.diffs[max(0, len(c.diffs)-mostTicks):]
	return nil
}

// estimate is the error, 0 while the clock is good or nothing says that it is not.
func (c *clockError) estimate() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.diffs) == 0 {
		return 0
	}
	least := slices.Min(c.diffs)
	if least.Abs() <= MaxClockError || least > 0 && len(c.diffs) < leastTicks {
		return 0
	}
	return least
}

// Clock says by which clock the node goes; the machine's own if it is not called. It
// is called before Run.
func (n *Node) Clock(now func() time.Time) { n.now = now }

// ClockError is how far the node's clock is ahead of the leader's, if that is more
// than MaxClockError as far as is known, and 0 otherwise.
func (n *Node) ClockError() time.Duration { return n.clock.estimate() }
