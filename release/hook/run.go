package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Between the runs of Insist.
const (
	leastPause = time.Second
	mostPause  = time.Minute
)

// busyPause is between looks at a file that somebody writes.
const busyPause = 50 * time.Millisecond

// Insist runs the hook until it succeeds, 1+Retries times at most. Between two
// runs it gives up when stale says that there is something newer to tell. Each
// run's error is handed to failed; the last one is returned.
func (h *Hook) Insist(ctx context.Context, a About, log *slog.Logger, failed func(error), stale func() bool) error {
	for try, limit := 0, h.pause; ; try, limit = try+1, min(2*limit, mostPause) {
		err := h.Run(ctx, a, log)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failed(err)
		if try >= h.Retries {
			return err
		}
		sleep(ctx, rand.N(limit))
		if ctx.Err() != nil || stale() {
			return err
		}
	}
}

// Run runs the program once. The error is a *Failure or, when ctx has ended,
// what it ended by. The program ends with its process group: it is asked to (SIGTERM)
// when ctx ends or its time is over, and killed 5 s later; what it leaves
// running when it exits has as long to go by itself.
func (h *Hook) Run(ctx context.Context, a About, log *slog.Logger) error {
	if _, err := h.Check(); err != nil {
		return err
	}
	log = log.With("hook", string(h.Kind), "release", string(a.Release), "epoch", uint64(a.Epoch))
	limited, cancel := context.WithTimeout(ctx, h.Limit)
	defer cancel()
	began := time.Now()
	r, w, err := os.Pipe()
	if err != nil {
		return h.fails("cannot be started: " + err.Error())
	}
	defer r.Close() // only read
	cmd, err := h.start(limited, a, w)
	_ = w.Close() // the program has its own
	if err != nil {
		if ctx.Err() != nil {
			return h.stopped(ctx)
		}
		return h.fails("cannot be started: " + err.Error())
	}
	out := &output{log: log}
	exit, cut := h.attend(limited, cmd, r, out)
	switch {
	case exit == nil && !cut:
		log.Info("hook done", "duration_ms", time.Since(began).Milliseconds())
		return nil
	case cut && ctx.Err() != nil:
		return h.stopped(ctx)
	}
	f := h.fails(fmt.Sprintf("killed after %v, its time limit", h.Limit))
	f.Tail = out.last()
	if ended, ok := errors.AsType[*exec.ExitError](exit); ok && !cut {
		f.Code = ended.ExitCode()
		f.Why = ended.String() // "signal: killed"
		if f.Code >= 0 {
			f.Why = fmt.Sprintf("exit code %d", f.Code)
		}
	} else if !cut {
		f.Why = exit.Error()
	}
	return f
}

func (h *Hook) stopped(ctx context.Context) error {
	return fmt.Errorf("%s hook stopped: %w", h.Kind, context.Cause(ctx))
}

// start starts the program. A file that somebody is just writing is tried again:
// a hook that is being mended.
func (h *Hook) start(ctx context.Context, a About, out *os.File) (*exec.Cmd, error) {
	for {
		// Not CommandContext, which kills the program alone.
		cmd := exec.Command(h.Path)
		cmd.Dir, cmd.Env = "/", h.environment(a)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || ctx.Err() != nil {
			return cmd, err
		}
		sleep(ctx, busyPause)
	}
}

// attend waits for the end of a program and of its process group, and says how the
// program exited, and whether that was because ctx had ended.
func (h *Hook) attend(ctx context.Context, cmd *exec.Cmd, r *os.File, out *output) (exit error, cut bool) {
	exited, drained := make(chan error, 1), make(chan struct{})
	go func() { exited <- cmd.Wait() }()
	go func() {
		defer close(drained)
		_, _ = io.Copy(out, r) // ends with the last writer, or by the deadline below
		out.flush()
	}()
	group := -cmd.Process.Pid
	running := true
	select {
	case exit = <-exited:
		running = false
	case <-ctx.Done():
		cut = true
		_ = syscall.Kill(group, syscall.SIGTERM) // fails when all have ended
	}
	grace := time.NewTimer(h.grace)
	defer grace.Stop()
	for open, late := drained, false; !late && (running || open != nil); {
		select {
		case exit = <-exited:
			running = false
		case <-open:
			open = nil
		case <-grace.C:
			late = true
		}
	}
	// The number stands for this group as long as anything is in it, and is
	// given to another one only after all others have been used.
	_ = syscall.Kill(group, syscall.SIGKILL)
	if running {
		exit = <-exited
	}
	// Only what has left the group can still hold the pipe.
	_ = r.SetReadDeadline(time.Now().Add(time.Second)) // pipes can do that
	<-drained
	return exit, cut
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
