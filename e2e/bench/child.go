package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// program is how to run a program.
type program struct {
	dir  string // where; "" is here
	env  []string
	argv []string
}

// command makes it ready. When ctx ends, it and what it started are killed:
// they are a process group of their own.
func (p program) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Env = p.dir, append(cleanEnv(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (p program) String() string {
	return filepath.Base(p.argv[0]) + " " + strings.Join(p.argv[1:], " ")
}

// cleanEnv is the environment without anything that would configure a tool.
func cleanEnv() []string {
	var env []string
next:
	for _, e := range os.Environ() {
		for _, prefix := range []string{"RELMAN_", "ETCD", "XDG_", "AWS_", "RCLONE_", "RESTIC_", "RSYNC_", "HOME=", "CASYNC_"} {
			if strings.HasPrefix(e, prefix) {
				continue next
			}
		}
		env = append(env, e)
	}
	return env
}

// run runs it to its end.
func (p program) run(ctx context.Context) error {
	_, err := p.measure(ctx)
	return err
}

// output runs it to its end and returns what it printed.
func (p program) output(ctx context.Context) (string, error) {
	cmd := p.command(ctx)
	var errs tail
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", p.failed(ctx, err, errs.String())
	}
	return string(out), nil
}

// measure runs it to its end and says what it took.
func (p program) measure(ctx context.Context) (sample, error) {
	cmd := p.command(ctx)
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	peak := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	s := sample{Wall: time.Since(began).Seconds(), RSS: peak()}
	s.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if err != nil {
		return s, p.failed(ctx, err, said.String())
	}
	return s, nil
}

func (p program) failed(ctx context.Context, err error, said string) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w: %s", p, err, strings.TrimSpace(said))
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 4000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - tailSize; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// daemon is a program that runs until it is stopped.
type daemon struct {
	program
	cmd  *exec.Cmd
	said tail
	done chan struct{}
	err  error // why it ended; read after done
}

// start starts a daemon. It is killed at the latest when ctx ends.
func (p program) start(ctx context.Context) (*daemon, error) {
	d := &daemon{program: p, cmd: p.command(ctx), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.said, &d.said
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// stopLimit is how long a daemon may take to stop.
const stopLimit = 15 * time.Second

// stop asks it to end, and kills it when it does not.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(stopLimit):
	}
	err := d.cmd.Cancel()
	<-d.done
	return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM", d, stopLimit), err)
}

// until polls until a daemon does what it is for, or has ended.
func (d *daemon) until(ctx context.Context, cond func(context.Context) error) error {
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.done:
			return errors.Join(fmt.Errorf("%s ended: %s", d, d.said.String()), d.err)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w: %s", d, context.Cause(ctx), err, d.said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
