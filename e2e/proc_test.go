package e2e

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
	"testing"
	"time"
)

// binaries are built once for all tests of the package.
type binaries struct{ relman, etcd, etcdctl, sitecheck string }

var build = sync.OnceValues(func() (binaries, error) {
	dir, err := os.MkdirTemp("", "relman-e2e-bin-")
	if err != nil {
		return binaries{}, err
	}
	built = dir
	in := func(name string) string { return filepath.Join(dir, name) }
	b := binaries{in("relman"), in("etcd"), in("etcdctl"), in("sitecheck")}
	for _, args := range [][]string{
		{"build", "-tags", "failpoints", "-o", b.relman, "relman/cmd/relman"},
		{"build", "-o", b.sitecheck, "relman/e2e/sitecheck"},
		{"build", "-C", "../tools", "-o", b.etcd, "go.etcd.io/etcd/server/v3"},
		{"build", "-C", "../tools", "-o", b.etcdctl, "go.etcd.io/etcd/etcdctl/v3"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return b, nil
})

var built string // the folder of the binaries, once a test wanted them

func programs(t testing.TB) binaries {
	t.Helper()
	b, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		if err := os.RemoveAll(built); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// process is a program that a test started, with what it printed.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // why it ended; read after done

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs a program until the test ends; then it is killed if it still
// runs, and what it printed is shown if the test failed.
func start(t testing.TB, name string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.Env = append(cleanEnv(t), env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("--- %s ---\n%s", name, tail(p.output(), 6000))
		}
	})
	return p
}

// kill is SIGKILL, and waits until the process is gone.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err)
	}
	<-p.done
}

// stop is SIGTERM: the process has to end by itself, and well.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not end within 30 s of SIGTERM", p.name)
	}
	if p.err != nil {
		t.Fatalf("%s ended badly: %v", p.name, p.err)
	}
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func run(t testing.TB, env []string, program string, args ...string) result {
	t.Helper()
	return runAs(t, nil, env, program, args...)
}

// runAs runs a command as another user; nil is the own one.
func runAs(t testing.TB, user *syscall.Credential, env []string, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(cleanEnv(t), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs a command that has to succeed.
func must(t testing.TB, env []string, program string, args ...string) result {
	t.Helper()
	r := run(t, env, program, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit %d\n%s%s", filepath.Base(program), strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// cleanEnv is the environment without anything that would configure relman,
// and with a home of its own.
func cleanEnv(t testing.TB) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "RELMAN_") && !strings.HasPrefix(name, "ETCDCTL_") && !strings.HasPrefix(name, "XDG_") && !strings.HasPrefix(name, "AWS_") {
			env = append(env, e)
		}
	}
	return append(env, "HOME="+os.TempDir()+"/relman-e2e-no-home", "XDG_CACHE_HOME="+t.TempDir())
}

// eventually polls a condition; the last reason is the failure's text.
func eventually(t testing.TB, within time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}
