package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devProcess is a running `relman dev`.
type devProcess struct {
	cmd    *exec.Cmd
	done   chan error
	stderr bytes.Buffer // read after done
	up     devReady
	env    []string
}

// startDev starts `relman dev` and waits for its ready file.
func startDev(t *testing.T, env []string, args ...string) *devProcess {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")
	d := &devProcess{cmd: self(env, append([]string{"dev", "--ready-file", ready}, args...)...), done: make(chan error, 1), env: env}
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		d.done <- d.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended already, if the test went well
		<-ended
		if t.Failed() {
			t.Logf("relman dev said:\n%s", d.stderr.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		raw, err := os.ReadFile(ready)
		if err == nil {
			if err := json.Unmarshal(raw, &d.up); err != nil {
				t.Fatal(err)
			}
			return d
		}
		select {
		case <-ended:
			t.Fatal("relman dev ended")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("relman dev is not ready within a minute")
		}
	}
}

// self is a command that runs this program, in the form of the test binary.
// With the race detector every process would sleep for a second at its end.
func self(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), append([]string{"RELMAN_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0"}, env...)...)
	return cmd
}

// stop is Ctrl-C, and waits for the end.
func (d *devProcess) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("relman dev ended with %v", err)
		}
		t.Logf("stopped in %v", time.Since(began).Round(time.Millisecond))
	case <-time.After(15 * time.Second):
		t.Fatal("relman dev did not end within 15 s of an interrupt")
	}
}

// run runs another command, as from a second terminal.
func run(t *testing.T, env []string, args ...string) {
	t.Helper()
	if out, err := self(env, args...).CombinedOutput(); err != nil {
		t.Fatalf("relman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// expectPage asks the front and every node for the start page.
func (d *devProcess) expectPage(t *testing.T, want string) {
	t.Helper()
	for _, url := range append([]string{d.up.Front}, d.up.Nodes...) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != want || resp.Header.Get("Relman-Release") == "" {
			t.Errorf("%s: %s %q, want %q: %v", url, resp.Status, got, want, err)
		}
	}
}

// build writes a small site.
func build(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// childOf finds the store, which runs in a process of its own.
func (d *devProcess) child(t *testing.T) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(dirs) == 0 {
		t.Skip("no /proc")
	}
	for _, p := range dirs {
		args, err := os.ReadFile(p)
		if err == nil && bytes.Contains(args, []byte("\x00store\x00"+d.up.State)) {
			var pid int
			if _, err := fmt.Sscanf(p, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("the store does not run")
	return 0
}

// expectGone waits for the end of a process that is not our child.
func expectGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || bytes.Contains(state, []byte(") Z ")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs: %s", pid, state)
		}
	}
}

// occupy takes ports, so that relman dev cannot have them, and returns how
// URLs with them end. One that somebody else has is left out: that one may go.
func occupy(t *testing.T, ports ...int) (taken []string) {
	t.Helper()
	for _, p := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
			taken = append(taken, fmt.Sprintf(":%d", p))
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	return taken
}

// TestDev is the life of a cluster in one process: publish from a second
// terminal, stop, start again, be killed, start again. All the ports that it
// would like to have are taken.
func TestDev(t *testing.T) {
	taken := occupy(t, 2379, 9000, 7070, 8080, 8081, 8082)
	state, home := filepath.Join(t.TempDir(), "state"), t.TempDir()
	env := []string{"XDG_STATE_HOME=" + home, "RELMAN_ENDPOINTS=", "ETCDCTL_ENDPOINTS="}

	d := startDev(t, env, "--state", state, "--nodes", "2", build(t, "one"))
	d.expectPage(t, "one")
	for _, url := range append([]string{d.up.Etcd, d.up.Front, d.up.Manager}, d.up.Nodes...) {
		for _, port := range taken {
			if strings.HasSuffix(url, port) {
				t.Errorf("%s was taken", url)
			}
		}
	}
	run(t, env, "publish", build(t, "two"))
	d.expectPage(t, "two")
	if err := healthcheck(t.Context(), d.up.Manager+"/readyz"); err != nil {
		t.Error(err)
	}

	second := self(env, "dev", "--state", state)
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("another relman dev runs on it (process %d)", d.cmd.Process.Pid)) {
		t.Errorf("a second one on the same state: %v\n%s", err, out)
	}

	store := d.child(t)
	d.stop(t)
	expectGone(t, store)
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}

	d = startDev(t, env, "--state", state, "--nodes", "2")
	d.expectPage(t, "two")
	run(t, env, "rollback")
	d.expectPage(t, "one")
	if info, err := os.Readlink(filepath.Join(state, "nodes", "node-1", "sites", "www", "current")); err != nil {
		t.Errorf("current: %q %v", info, err)
	}

	store = d.child(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	expectGone(t, store)
	if err := <-d.done; err == nil {
		t.Error("it was killed, and ended well")
	}
	d = startDev(t, env, "--state", state, "--nodes", "2")
	d.expectPage(t, "one")
	d.stop(t)
}

// TestDev_temporary: what is not kept is removed, and a front of several sites
// goes by the host.
func TestDev_temporary(t *testing.T) {
	tmp := t.TempDir()
	env := []string{"XDG_STATE_HOME=" + t.TempDir(), "TMPDIR=" + tmp, "RELMAN_ENDPOINTS=", "ETCDCTL_ENDPOINTS="}
	d := startDev(t, env, "--nodes", "1", "--site", "www,mkt", build(t, "one"))
	if d.up.Site != "www" || !strings.HasPrefix(d.up.State, tmp) {
		t.Errorf("ready file: %+v", d.up)
	}
	d.expectPage(t, "one")
	d.stop(t)
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
