package nodeagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"relman/cluster"
	"relman/release/hook"
)

// program is a hook's script with the files that it uses, which are called as
// it is with something after it.
type program struct {
	t    testing.TB
	path string
}

func newProgram(t testing.TB, body string) program {
	t.Helper()
	dir := t.TempDir()
	p := program{t, filepath.Join(dir, "hook")}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(p.path, []byte("#!/bin/sh\n"+body+"\n"), 0o755), os.Chmod(p.path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p program) hook(kind hook.Kind, retries int) *hook.Hook {
	p.t.Helper()
	h, err := hook.New(hook.Hook{Kind: kind, Path: p.path, Limit: time.Minute, Retries: retries})
	if err != nil {
		p.t.Fatal(err)
	}
	return h
}

func (p program) touch(suffix string) {
	p.t.Helper()
	if err := os.WriteFile(p.path+suffix, nil, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// lines is what the program has written to one of its files.
func (p program) lines(suffix string) []string {
	p.t.Helper()
	raw, err := os.ReadFile(p.path + suffix)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	return strings.Fields(string(raw))
}

func (n *node) claim(buffer int) string {
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	return string(n.etcd.claims[buffer])
}

// refused waits until the status says what a program said of the rollout.
func (n *node) refused(said string) {
	n.t.Helper()
	n.until("the hook refuses", func() error {
		if e := n.status().Error; e == nil || e.Class != cluster.ClassHook || e.Text != said {
			return fmt.Errorf("error %+v, want %q", e, said)
		}
		return nil
	})
}

// picky refuses everything until it is told otherwise.
const picky = `echo x$(tr -cd a-z < "$RELMAN_TREE/index.html") >> $0.runs; [ -e $0.ok ] || { echo broken link; exit 3; }`

// TestNode_verifyHook: what the program refuses is not claimed, and the status
// says so; once it passes it is, and the program is not asked again.
func TestNode_verifyHook(t *testing.T) {
	t.Parallel()
	p := newProgram(t, picky)
	n := newNode(t)
	n.verifyHook = p.hook(hook.Verify, 0)
	n.start()
	b := firstBuild()
	p.touch(".ok")
	r1 := n.rollOut(b)
	if err := os.Remove(p.path + ".ok"); err != nil {
		t.Fatal(err)
	}
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.refused("verify hook: exit code 3: broken link")
	n.until("it is tried again", func() error {
		if runs := len(p.lines(".runs")); runs < 3 {
			return fmt.Errorf("%d runs", runs)
		}
		return nil
	})
	if runs := p.lines(".runs"); runs[0] == "xtwo" || runs[1] != "xtwo" {
		t.Errorf("the program saw %q", runs)
	}
	n.until("serves on", func() error { return n.asks(r1) })
	if got := n.claim(1); got != "" {
		t.Fatalf("claimed %q", got)
	}
	p.touch(".ok")
	n.claimed()
	n.etcd.flip(t)
	n.serves(r2)
	if st := n.status(); st.Error != nil || st.Preparing != nil {
		t.Errorf("status %+v", st)
	}

	runs := len(p.lines(".runs"))
	n.etcd.startRollout(r1.Manifest.ID())
	n.claimed()
	n.etcd.flip(t)
	n.serves(r1)
	if now := len(p.lines(".runs")); now != runs {
		t.Errorf("%d runs more for a release that had passed", now-runs)
	}
}

// TestNode_verifyHookEnters: a release that has not passed is not claimed by
// the way in either.
func TestNode_verifyHookEnters(t *testing.T) {
	t.Parallel()
	p := newProgram(t, picky)
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	n.halt()
	n.verifyHook = p.hook(hook.Verify, 0)
	n.start()
	n.serves(r1)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.refused("verify hook: exit code 3: broken link")
	n.holds(r1, r2)
	n.halt()

	// Its other claims have to be made anew.
	n.etcd.change(func(int64) { n.etcd.claims[0] = "" })
	n.start()
	n.until("claims what is active", func() error {
		if got := n.claim(0); got != string(r1.Manifest.ID()) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	n.refused("verify hook: exit code 3: broken link")
	if got := n.claim(1); got != "" {
		t.Errorf("claimed %q", got)
	}
	n.halt()

	// It does not count at all any more.
	n.etcd.change(func(int64) { clear(n.etcd.claims) })
	n.start()
	n.refused("verify hook: exit code 3: broken link")
	if got := n.claim(0) + n.claim(1); got != "" {
		t.Errorf("entered with %q", got)
	}
	p.touch(".ok")
	n.claimed()
	n.etcd.flip(t)
	n.serves(r2)
}

// TestNode_verifyHookStopped: a program that runs is killed when the rollout is
// withdrawn, and when the agent stops.
func TestNode_verifyHookStopped(t *testing.T) {
	t.Parallel()
	p := newProgram(t, `[ "$(cat $RELMAN_TREE/index.html)" = slow ] || exit 0; sleep 600 & echo $! >> $0.pids; wait`)
	n := newNode(t)
	n.verifyHook = p.hook(hook.Verify, 0)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	slow := n.publish(b.with("index.html", "slow"))
	for i, withdraw := range []func(){n.etcd.abort, n.halt} {
		n.etcd.startRollout(slow.Manifest.ID())
		n.until("the program runs, and the status says so", func() error {
			if p := n.status().Preparing; len(pidsOf(t, n, i)) == 0 || p == nil || p.Hook != "verify" {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
		pid := pidsOf(t, n, i)[0]
		withdraw()
		n.until("the program is gone", func() error { return gonePid(pid) })
		if got := n.claim(1); got != "" {
			t.Errorf("claimed %q", got)
		}
	}
}

func pidsOf(t *testing.T, n *node, from int) []string {
	t.Helper()
	all := program{t, n.verifyHook.Path}.lines(".pids")
	return all[min(from, len(all)):]
}

func gonePid(text string) error {
	pid, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || strings.Contains(string(stat), ") Z ") {
		return nil
	}
	return fmt.Errorf("process %d still runs", pid)
}

// TestNode_postFlipHook: the program hears of every epoch after it is on disk,
// again when it fails and after a restart; nothing waits for it.
func TestNode_postFlipHook(t *testing.T) {
	t.Parallel()
	p := newProgram(t, `
epoch=$RELMAN_EPOCH:$RELMAN_PREVIOUS:$(cat $RELMAN_TREE/index.html):$(cat $RELMAN_TREE/../../state.json | tr -d '\n' | sed 's/.*"epoch":\([0-9]*\).*/\1/')
echo $epoch >> $0.runs
while [ -e $0.wait ]; do sleep 0.02; done
if [ $RELMAN_EPOCH = 1 ] && [ $(grep -c ^1: $0.runs) = 1 ]; then exit 1; fi`)
	n := newNode(t)
	n.postFlip = p.hook(hook.PostFlip, 1)
	n.start()
	told := func(want ...string) {
		t.Helper()
		n.until("told", func() error {
			if got := p.lines(".runs"); strings.Join(got, " ") != strings.Join(want, " ") {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
	b := firstBuild().with("index.html", "one")
	r1 := n.rollOut(b)
	told("1::one:1", "1::one:1")
	p.touch(".wait")
	n.rollOut(b.with("index.html", "two"))
	second := fmt.Sprintf("2:%s:two:2", r1.Manifest.ID())
	told("1::one:1", "1::one:1", second)
	n.rollOut(b.with("index.html", "three")) // while the program still runs
	r4 := n.rollOut(b.with("index.html", "four"))
	if err := os.Remove(p.path + ".wait"); err != nil {
		t.Fatal(err)
	}
	fourth := fmt.Sprintf("4:%s:four:4", r4.Manifest.Prev)
	told("1::one:1", "1::one:1", second, fourth)
	reg := prometheus.NewRegistry()
	reg.MustRegister(n.agent.metrics.hooks)
	n.until("counted", func() error {
		_, text := get(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "/metrics")
		for _, want := range []string{"done\"} 3", "failed\"} 1", "skipped\"} 1"} {
			if !strings.Contains(text, `relman_hook_runs_total{hook="post-flip",result="`+want+"\n") {
				return fmt.Errorf("no %s in\n%s", want, text)
			}
		}
		return nil
	})
	n.halt()
	n.start()
	told("1::one:1", "1::one:1", second, fourth, fourth)
	if e := n.status().Error; e != nil {
		t.Errorf("status %+v", e)
	}
	n.rollOut(b.with("index.html", "five"))
	told("1::one:1", "1::one:1", second, fourth, fourth, fmt.Sprintf("5:%s:five:5", r4.Manifest.ID()))
}
