package manager

import (
	"context"
	"math/rand/v2"
	"time"
)

// The bounds of the pauses after errors.
const (
	minPause = 200 * time.Millisecond
	maxPause = 10 * time.Second
)

// backoff paces what is tried again and again: each pause is a random part of
// a bound that doubles (full jitter), so that managers which failed together do not
// come back together. The zero value is ready.
type backoff struct{ tries int }

func (b *backoff) reset() { b.tries = 0 }

// next is how long to pause now.
func (b *backoff) next() time.Duration {
	bound := min(maxPause, minPause<<min(b.tries, 10))
	b.tries++
	return rand.N(bound) + 1
}

// sleep pauses, less when ctx ends.
func (b *backoff) sleep(ctx context.Context) {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
