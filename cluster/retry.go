package cluster

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause waits a little before try number n, counted from 0: a random time up
// to least·2ⁿ, at most `most`. It reports false when ctx has ended.
func pause(ctx context.Context, n int, least, most time.Duration) bool {
	d := most
	if n < 20 {
		d = min(most, least<<n)
	}
	return sleep(ctx, rand.N(d)+time.Millisecond)
}

// sleep waits, and reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleepUntil is sleep that again ends sooner.
func sleepUntil(ctx context.Context, d time.Duration, again <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-again:
	case <-ctx.Done():
		return false
	}
	return true
}

// Between tries of what goes on for ever, as a node's watches do.
const (
	leastPause = 200 * time.Millisecond
	mostPause  = 10 * time.Second
)

// jittered is d, give or take a fifth: what many do at an interval should not
// be done by all at once.
func jittered(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5+1)
}
