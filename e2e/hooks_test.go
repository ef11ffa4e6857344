package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeHook writes a program that only its owner can change.
func writeHook(t testing.TB, name, body string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	writeFile(t, path, "#!/bin/sh\n"+body+"\n")
	for _, p := range []string{dir, path} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// hooked waits until a program has written these lines to its file.
func hooked(t testing.TB, program string, want ...string) {
	t.Helper()
	eventually(t, 30*time.Second, filepath.Base(program)+" has been told", func() error {
		raw, err := os.ReadFile(program + ".runs")
		if err != nil {
			return err
		}
		if got := strings.Split(strings.TrimSpace(string(raw)), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("it was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
}

// TestHooks: one node of three has a program that refuses a release. Nothing
// flips, and publish and status say which node it is and what the program
// said; once the program is content the rollout goes on. A program of the
// leader is told what changed, once for each flip, also when another manager leads.
func TestHooks(t *testing.T) {
	t.Parallel()
	check := writeHook(t, "check", `if grep -q broken "$RELMAN_TREE/index.html" && [ ! -e $0.ok ]; then echo "$RELMAN_NODE: looking at $RELMAN_RELEASE"; echo "index.html: a broken link" >&2; exit 3; fi`)
	reload := writeHook(t, "reload", `echo "$RELMAN_HOOK $RELMAN_SITE $RELMAN_NODE $RELMAN_EPOCH $(cat "$RELMAN_TREE/index.html")" >> $0.runs`)
	purge := writeHook(t, "purge", `echo "$RELMAN_EPOCH $RELMAN_CONVERGED $RELMAN_PREVIOUS $RELMAN_RELEASE $(tr '\n' ' ' < $RELMAN_CHANGED_PATHS)" | sed 's/ *$//' >> $0.runs`)

	l := newLab(t)
	l.env = append(l.env, "RELMAN_MANAGER_HOOK_POST_CONVERGE="+purge)
	l.manager(t, "m1")
	l.manager(t, "m2")
	nodes := []string{"n1", "n2", "n3"}
	l.agent(t, "n1")
	l.agent(t, "n2", "RELMAN_AGENT_HOOK_VERIFY="+check)
	l.agent(t, "n3", "RELMAN_AGENT_HOOK_POST_FLIP="+reload)
	l.waitNodes(t, nodes)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.html"), "one")
	writeFile(t, filepath.Join(dir, "about", "index.html"), "us")
	writeFile(t, filepath.Join(dir, "app.css"), "a{}")
	first := l.publish(t, dir)
	told := []string{"1 true  " + first + " / /about /about/ /about/index.html /app.css /index.html"}
	hooked(t, purge, told...)
	hooked(t, reload, "post-flip www n3 1 one")

	writeFile(t, filepath.Join(dir, "index.html"), "broken")
	r := run(t, l.env, programs(t).relman, "publish", dir, "-s", "www", "--timeout", "4s")
	said := r.stdout + r.stderr
	if r.code != 6 || !strings.Contains(said, "2/3 ready (n2: verify hook: exit code 3: n2: looking at 000002-") ||
		!strings.Contains(said, "| index.html: a broken link)") || strings.Contains(r.stdout, "LIVE") {
		t.Fatalf("exit %d, want 6 and the node with what its hook said\n%s", r.code, said)
	}
	t.Logf("exit %d: %s", r.code, said)
	for _, n := range nodes {
		l.expectRelease(t, n, first)
	}

	publisher := start(t, "publisher", l.env, programs(t).relman, "publish", dir, "-s", "www", "--timeout", "60s")
	eventually(t, 30*time.Second, "status names the node and the reason", func() error {
		s := l.relman(t, "status", "-s", "www", "--why").stdout
		if !strings.Contains(s, "index.html: a broken link") || !strings.Contains(s, "n2") {
			return fmt.Errorf("it says\n%s", s)
		}
		return nil
	})
	writeFile(t, check+".ok", "")
	select {
	case <-publisher.done:
	case <-time.After(time.Minute):
	}
	if publisher.err != nil || !strings.Contains(publisher.output(), "LIVE") {
		t.Fatalf("publish after the hook was mended: %v\n%s", publisher.err, publisher.output())
	}
	second := l.activeRelease(t)
	for _, n := range nodes {
		l.expectRelease(t, n, second)
	}
	told = append(told, fmt.Sprintf("2 true %s %s / /index.html", first, second))
	hooked(t, purge, told...)
	hooked(t, reload, "post-flip www n3 1 one", "post-flip www n3 2 broken")

	leader := l.leader(t)
	eventually(t, 30*time.Second, "the epoch is written down as told", func() error {
		if e := must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/hooks/post-converge", "--print-value-only").stdout; e != "2\n" {
			return fmt.Errorf("it is %q", e)
		}
		return nil
	})
	l.managers[leader].kill()
	writeFile(t, filepath.Join(dir, "app.css"), "b{}")
	third := l.publish(t, dir)
	hooked(t, purge, append(told, fmt.Sprintf("3 true %s %s /app.css", second, third))...)
}
