package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadInput: each kind of bad input has its own exit code and an error that
// names what is wrong, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	good := filepath.Join("sample", "v1")
	d := startDev(t, t.TempDir(), good)
	before := d.active(t)
	nowhere := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	dir := func(files ...string) string {
		build := t.TempDir()
		for _, f := range files {
			writeFile(t, filepath.Join(build, f), f)
		}
		return build
	}
	symlink := dir("index.html")
	if err := os.Symlink("/etc/hostname", filepath.Join(symlink, "host.txt")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		env  []string
		code int
		says []string
	}{
		{"no arguments", []string{"publish"}, nil, 2, []string{"DIR"}},
		{"no such directory", []string{"publish", "/nowhere/dist"}, nil, 2, []string{"/nowhere/dist"}},
		{"a file instead of a directory", []string{"publish", filepath.Join(good, "index.html")}, nil, 2, []string{"index.html"}},
		{"empty directory", []string{"publish", dir()}, nil, 2, []string{"no files"}},
		{"symlink leaving the tree", []string{"publish", symlink}, nil, 2, []string{"host.txt", "/etc/hostname"}},
		{"symlink leaving the tree, followed", []string{"publish", symlink, "--follow-symlinks"}, nil, 2, []string{"host.txt"}},
		{"names that collide", []string{"publish", dir("a.html", "A.html")}, nil, 2, []string{"a.html", "A.html"}},
		{"a secret", []string{"publish", dir("index.html", ".env")}, nil, 2, []string{".env"}},
		{"unknown site", []string{"publish", good, "-s", "shop"}, nil, 2, []string{"shop", "www"}},
		{"bad site name", []string{"publish", good, "-s", "Shop!"}, nil, 2, []string{"Shop!"}},
		{"unknown release", []string{"flip", "000042-3f9ac1d2e4b5"}, nil, 2, []string{"000042-3f9ac1d2e4b5"}},
		{"nothing to roll back to", []string{"rollback"}, nil, 2, []string{"previous"}},
		{"unknown flag", []string{"publish", good, "--fast"}, nil, 2, []string{"--fast"}},
		{"etcd down", []string{"publish", good, "--endpoints", "http://" + nowhere}, nil, 3, []string{nowhere}},
		{"store down", []string{"publish", filepath.Join("sample", "v2"), "--store", "s3://relman?endpoint=http://" + nowhere}, []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=bbbbbbbb"}, 3, []string{nowhere}},
		{"wrong credentials", []string{"publish", filepath.Join("sample", "v2"), "--store", d.Ready.Store}, []string{"AWS_ACCESS_KEY_ID=wrong", "AWS_SECRET_ACCESS_KEY=wrong-secret"}, 3, []string{"credentials"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, append(d.env, c.env...), programs(t).relman, c.args...)
			d.expectRefused(t, r, c.code, c.says, before)
		})
	}
	t.Run("unreadable file", func(t *testing.T) {
		build := dir("index.html", "secret/plan.html")
		if err := os.Chmod(filepath.Join(build, "secret", "plan.html"), 0); err != nil {
			t.Fatal(err)
		}
		for dir := build; dir != os.TempDir(); dir = filepath.Dir(dir) { // nobody may come this far
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		d.expectRefused(t, d.tryAsNobody(t, "publish", build), 2, []string{"plan.html", "permission denied"}, before)
	})
	t.Run("file changed while it is read", func(t *testing.T) {
		build := dir("index.html", "news.html")
		p := start(t, "publish", append(d.env, "RELMAN_FAILPOINTS=publish.after-scan=sleep:2s"), programs(t).relman, "publish", build)
		eventually(t, 10*time.Second, "the scan is over", func() error {
			if !strings.Contains(p.output(), "publish.after-scan") {
				return errors.New("not yet")
			}
			return nil
		})
		writeFile(t, filepath.Join(build, "news.html"), "longer than before")
		<-p.done
		d.expectRefused(t, result{p.cmd.ProcessState.ExitCode(), "", p.output()}, 2, []string{"news.html", "changed"}, before)
	})
}

// expectRefused: the exit code and the words are as they should be, nothing
// says LIVE, and the active release is the one from before.
func (d *dev) expectRefused(t *testing.T, r result, code int, says []string, before string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	for _, s := range says {
		if !strings.Contains(r.stderr, s) {
			t.Errorf("the error does not say %q:\n%s", s, r.stderr)
		}
	}
	if strings.Contains(r.stdout, "LIVE") {
		t.Errorf("it says LIVE:\n%s", r.stdout)
	}
	if now := d.active(t); now != before {
		t.Errorf("active changed:\n%s\n%s", before, now)
	}
	t.Logf("exit %d: %s", r.code, strings.TrimSpace(r.stderr))
}

// active is the value of the active key.
func (d *dev) active(t testing.TB) string {
	t.Helper()
	return must(t, d.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/active", "--print-value-only").stdout
}

// tryAsNobody runs a command without root's right to read everything.
func (d *dev) tryAsNobody(t *testing.T, args ...string) result {
	t.Helper()
	if os.Getuid() != 0 {
		return d.try(t, args...)
	}
	const nobody = 65534
	p := programs(t).relman
	if err := os.Chmod(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	return runAs(t, &syscall.Credential{Uid: nobody, Gid: nobody}, d.env, p, args...)
}
