package nodeagent

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// aside is how a node does what nobody waits for: one thing at a time, in
// small pieces with rests between them, and nothing while a buffer is filled.
// It rests instead of being given a lower priority by the kernel: a thread that
// gets no processor would keep one of Go's from those who answer requests, and
// hold up the collector.
type aside struct {
	turn  chan struct{}
	fills atomic.Int32 // under way, of all sites
}

const (
	pieceTime = 2 * time.Millisecond // work at a time
	restTimes = 3                    // as long is the rest after it
	longRest  = time.Second
	fillPoll  = 20 * time.Millisecond
)

func newAside() *aside { return &aside{turn: make(chan struct{}, 1)} }

// filling says that a fill begins or has ended.
func (a *aside) filling(yes bool) {
	if yes {
		a.fills.Add(1)
	} else {
		a.fills.Add(-1)
	}
}

// do waits for its turn and does something then.
func (a *aside) do(ctx context.Context, f func() error) error {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-a.turn }()
	return f()
}

// pace is the pace of one who works aside.
type pace struct {
	aside *aside
	since time.Time // it has worked
}

// rest rests when it is time to.
func (p *pace) rest(ctx context.Context) error {
	worked := time.Since(p.since)
	if worked >= pieceTime {
		sleep(ctx, min(restTimes*worked, longRest))
		p.since = time.Now()
	}
	if p.aside.fills.Load() > 0 {
		for p.aside.fills.Load() > 0 && ctx.Err() == nil {
			sleep(ctx, fillPoll)
		}
		p.since = time.Now()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// copy copies at this pace.
func (p *pace) copy(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := copyBuffers.Get().(*[128 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		if err := p.rest(ctx); err != nil {
			return err
		}
		n, err := r.Read(buf[:])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
