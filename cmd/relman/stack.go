package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// stack holds the running parts of a process in the order in which they were
// started. close stops them in the opposite order, one after the other: each
// part can rely to its end on those that were there before it.
type stack struct {
	parts  []func() error // stops a part and returns when it has stopped
	failed chan struct{}  // closed when a part has ended that nobody stopped
	once   sync.Once      // guards why
	why    error          // read after failed
}

func newStack() *stack { return &stack{failed: make(chan struct{})} }

// start runs a part until close; the end of ctx does not stop it. A part that
// ends before makes wait return.
func (s *stack) start(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			s.fail(name, err)
			err = nil // wait says it
		}
		done <- err
	}()
	s.parts = append(s.parts, func() error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// watch makes wait return when something that runs elsewhere has ended.
func (s *stack) watch(ctx context.Context, name string, done <-chan struct{}, why func() error) {
	s.start(ctx, name, func(ctx context.Context) error {
		select {
		case <-done:
			return why()
		case <-ctx.Done():
			return nil
		}
	})
}

// onStop runs f when close comes to it.
func (s *stack) onStop(f func() error) { s.parts = append(s.parts, f) }

func (s *stack) fail(name string, err error) {
	s.once.Do(func() {
		if err == nil {
			err = errors.New("ended by itself")
		}
		s.why = fmt.Errorf("%s: %w", name, err)
		close(s.failed)
	})
}

// wait returns nil when ctx ends, and an error when a part has ended that
// nobody stopped.
func (s *stack) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.failed:
		return s.why
	}
}

// close stops all parts, the last one first, and returns what went wrong.
func (s *stack) close() error {
	var errs []error
	for len(s.parts) > 0 {
		last := len(s.parts) - 1
		errs = append(errs, s.parts[last]())
		s.parts = s.parts[:last]
	}
	return errors.Join(errs...)
}
