package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// daemon is a manager or an agent as a process of its own.
type daemon struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error        // read after ended
	stderr bytes.Buffer // read after ended
}

func startDaemon(t *testing.T, env []string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: self(env, args...), ended: make(chan struct{})}
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended already, if the test went well
		<-d.ended
		if t.Failed() {
			t.Logf("relman %s said:\n%s", args[0], d.stderr.String())
		}
	})
	return d
}

// stop is SIGTERM: it has to end by itself, and well.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.ended:
		if d.err != nil {
			t.Errorf("%v ended with %v", d.cmd.Args, d.err)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("%v did not end within 15 s of SIGTERM", d.cmd.Args)
	}
}

// freeAddr is an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually polls until f is content; the last reason is the failure's text.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// page gets a page and its Relman-State.
func page(url string) (body, state string, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %q", url, resp.Status, raw)
	}
	return string(raw), resp.Header.Get("Relman-State"), err
}

// TestDaemons runs the small real cluster: a manager with everything embedded,
// and an agent that begins before it, and later begins without it.
func TestDaemons(t *testing.T) {
	dir := t.TempDir()
	etcd, api, store, sites, admin := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	env := []string{"RELMAN_ENDPOINTS=http://" + etcd, "ETCDCTL_ENDPOINTS=", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}
	agent := func() *daemon {
		return startDaemon(t, env, "agent", "--node-id", "n1", "--dir", filepath.Join(dir, "n1"), "--addr", sites, "--admin-addr", admin)
	}
	manager := func() *daemon {
		return startDaemon(t, env, "manager", "--id", "m1", "--addr", api,
			"--embedded-etcd", "--etcd-dir", filepath.Join(dir, "etcd"), "--etcd-client-url", "http://"+etcd,
			"--embedded-store", filepath.Join(dir, "store"), "--store-addr", store)
	}
	node := agent()
	eventually(t, "the agent is alive, and says that it is not ready", func() error {
		if err := healthcheck(t.Context(), "http://"+admin+"/healthz"); err != nil {
			return err
		}
		if healthcheck(t.Context(), "http://"+admin+"/readyz") == nil {
			return fmt.Errorf("ready without a cluster")
		}
		return nil
	})
	m := manager()
	eventually(t, "the manager is ready", func() error { return healthcheck(t.Context(), "http://"+api+"/readyz") })
	run(t, env, "admin", "site", "add", "www")
	run(t, env, "admin", "site", "add", "www") // it stays as it is
	eventually(t, "the node is ready", func() error { return healthcheck(t.Context(), "http://"+admin+"/readyz") })
	run(t, env, "publish", build(t, "one"))
	if body, state, err := page("http://" + sites); body != "one" || state != "" || err != nil {
		t.Errorf("%q %q %v", body, state, err)
	}
	for _, url := range []string{"http://" + admin + "/metrics", "http://" + api + "/metrics"} {
		if err := healthcheck(t.Context(), url); err != nil {
			t.Error(err)
		}
	}
	if err := node.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-node.ended
	m.stop(t)

	// All of it is down. A node that starts now serves what it has.
	node = agent()
	eventually(t, "the agent serves without etcd", func() error {
		body, state, err := page("http://" + sites)
		if err == nil && (body != "one" || state != "unconfirmed") {
			err = fmt.Errorf("%q, Relman-State %q", body, state)
		}
		return err
	})
	m = manager()
	eventually(t, "the node is ready again", func() error { return healthcheck(t.Context(), "http://"+admin+"/readyz") })
	run(t, env, "publish", build(t, "two"))
	if body, state, err := page("http://" + sites); body != "two" || state != "" || err != nil {
		t.Errorf("%q %q %v", body, state, err)
	}
	node.stop(t)
	m.stop(t)
	if info, err := os.Stat(filepath.Join(dir, "store", "credentials.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials: %v %v", info, err)
	}
}
