package main

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestStack_stopsInOppositeOrder(t *testing.T) {
	var stopped []string
	ctx, cancel := context.WithCancel(t.Context())
	s := newStack()
	for _, name := range []string{"first", "second"} {
		s.start(ctx, name, func(ctx context.Context) error {
			<-ctx.Done()
			stopped = append(stopped, name)
			return ctx.Err()
		})
	}
	s.onStop(func() error { stopped = append(stopped, "third"); return nil })
	cancel()
	if err := s.wait(ctx); err != nil {
		t.Errorf("wait: %v", err)
	}
	if len(stopped) != 0 {
		t.Errorf("%v stopped with the caller's context", stopped)
	}
	if err := s.close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if want := []string{"third", "second", "first"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped %v, want %v", stopped, want)
	}
}

func TestStack_partEndsByItself(t *testing.T) {
	broken := errors.New("broken")
	for name, run := range map[string]func(context.Context) error{
		"with an error": func(context.Context) error { return broken },
		"without":       func(context.Context) error { return nil },
	} {
		s := newStack()
		s.start(t.Context(), "steady", func(ctx context.Context) error { <-ctx.Done(); return nil })
		s.start(t.Context(), "part", run)
		err := s.wait(t.Context())
		if err == nil || (name == "with an error") != errors.Is(err, broken) {
			t.Errorf("%s: wait: %v", name, err)
		}
		if err := s.close(); err != nil {
			t.Errorf("%s: close says it again: %v", name, err)
		}
	}
}

func TestStack_errorWhileStopping(t *testing.T) {
	broken := errors.New("broken")
	s := newStack()
	s.start(t.Context(), "part", func(ctx context.Context) error { <-ctx.Done(); return broken })
	if err := s.close(); !errors.Is(err, broken) {
		t.Errorf("close: %v", err)
	}
}
