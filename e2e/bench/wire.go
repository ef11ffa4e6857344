package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wire is what lies between the clients and the servers of a run: everything
// that crosses it is counted, and at a rate it is as slow as such a line. The
// two directions do not take from each other.
type wire struct {
	up, down lane // up: from a client to a server
	requests atomic.Int64
}

func newWire(bitsPerSecond float64) *wire {
	w := &wire{}
	w.up.rate, w.down.rate = bitsPerSecond/8, bitsPerSecond/8
	return w
}

// crossed is what went over a wire.
type crossed struct{ Up, Down, Requests int64 }

func (w *wire) crossed() crossed {
	return crossed{w.up.bytes.Load(), w.down.bytes.Load(), w.requests.Load()}
}

func (c crossed) since(b crossed) crossed {
	return crossed{c.Up - b.Up, c.Down - b.Down, c.Requests - b.Requests}
}

// lane is one direction: a token bucket that all connections share.
type lane struct {
	rate  float64 // bytes in a second; 0 is no limit
	bytes atomic.Int64

	mu   sync.Mutex
	free time.Time // when all that was let through so far is over
}

// slack is how far the line may be ahead of its rate. It covers a timer that
// comes late; over longer times the rate is exact.
const slack = 5 * time.Millisecond

// pass counts n bytes and returns when they may go on.
func (l *lane) pass(n int) {
	if wait := l.wait(time.Now(), n); wait > 0 {
		time.Sleep(wait)
	}
	l.bytes.Add(int64(n))
}

func (l *lane) wait(now time.Time, n int) time.Duration {
	if l.rate == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-slack); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.free.Sub(now)
}

// parseRate reads "1Gbit", "100Mbit" or "" for no limit.
func parseRate(s string) (bitsPerSecond float64, err error) {
	if s == "" {
		return 0, nil
	}
	for unit, factor := range map[string]float64{"Gbit": 1e9, "Mbit": 1e6, "kbit": 1e3} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseFloat(number, 64)
			if err == nil && n > 0 {
				return n * factor, nil
			}
		}
	}
	return 0, fmt.Errorf("rate %q: it looks like 1Gbit or 100Mbit", s)
}
