//go:build !noembed

package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Server is a child process that serves. It ends with this process, however
// this process ends.
type Server struct {
	addr, bucket string
	cmd          *exec.Cmd
	stdin        io.Closer
	done         chan struct{}
	err          error // how it ended; read after done
}

// Start runs `exe store …` as a child process and returns when it answers; ctx
// bounds that wait only. exe is the program itself (os.Executable), or whatever
// calls ServeChild for these arguments.
func Start(ctx context.Context, exe string, c Config) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{bucket: c.Bucket, done: make(chan struct{})}
	args := []string{"store", c.Dir, "--addr", c.Addr, "--bucket", c.Bucket, childFlag}
	if c.Exact {
		args = append(args, "--exact")
	}
	s.cmd = exec.Command(exe, args...)
	s.cmd.Env = append(os.Environ(), accessKeyEnv+"="+c.AccessKey, secretKeyEnv+"="+c.SecretKey)
	s.cmd.SysProcAttr = childAttributes()
	// What inherits the child's pipes must not keep Wait.
	s.cmd.WaitDelay = 5 * time.Second
	hello := &firstLine{line: make(chan string, 1)}
	words := &logLines{to: c.Log}
	s.cmd.Stdout, s.cmd.Stderr = hello, words
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	if err := s.run(); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	select {
	case s.addr = <-hello.line:
		c.Log.Debug("embedded store answers", "addr", s.addr, "dir", c.Dir, "pid", s.cmd.Process.Pid)
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("embedded store ended before it answered: %w%s", s.Wait(), words.last())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("embedded store does not answer: %w", ctx.Err()), s.kill())
	}
}

// run starts the child and waits for it on one OS thread that nobody else
// uses: the kernel's "parent" of the child is the thread, not the process, and
// a thread that ends takes the child with it.
func (s *Server) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.err = s.cmd.Wait()
			close(s.done)
		}
	}()
	return <-started
}

// Addr is where it listens, which is not what was asked for if that was taken.
func (s *Server) Addr() string { return s.addr }

// URL names the bucket for clients on this host.
func (s *Server) URL() string { return storeURL(s.addr, s.bucket) }

// Done is closed when the child has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait returns when the child has ended, with an error unless it ended well.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Stop ends the child and returns when it is gone: in good order, or by force
// when ctx ends first.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return errors.Join(err, s.kill())
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("embedded store did not stop: %w", ctx.Err()), s.kill())
	}
}

func (s *Server) kill() error {
	err := s.cmd.Process.Kill()
	<-s.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// firstLine hands on the first line that is written to it.
type firstLine struct {
	line chan string
	got  bytes.Buffer
	had  bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.had {
		return len(p), nil
	}
	f.got.Write(p)
	if line, err := bufio.NewReader(bytes.NewReader(f.got.Bytes())).ReadString('\n'); err == nil {
		f.had = true
		f.line <- strings.TrimSpace(line)
	}
	return len(p), nil
}
