package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestScheduledFlips: nodes swap at a time, each by its own clock. One whose clock is
// an hour off swaps as soon as it hears of the flip, and is listed everywhere. It
// prints how far apart the others swap, beside flips that are not scheduled.
func TestScheduledFlips(t *testing.T) {
	patient(t)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			s := newScheduled(t, off)
			s.listed(t)
			for range scheduledRounds {
				s.flip(t, 0)
				s.flip(t, scheduledLead)
			}
			s.skews(t)
			s.restarted(t)
			s.takenBack(t)
			verifyHistory(t, s.env)
		})
	}
}

const (
	scheduledRounds = 10
	scheduledLead   = 2 * time.Second // long enough to tell, on a busy machine, a swap at once from one in time
)

// scheduled is a lab with two releases and four nodes, of which the clock of the last
// one is wrong.
type scheduled struct {
	*lab
	off      time.Duration
	releases [2]string // the first is shown now
	epochs   map[bool][]release.Epoch
}

func newScheduled(t *testing.T, off time.Duration) *scheduled {
	t.Helper()
	s := &scheduled{lab: newLab(t), off: off, epochs: map[bool][]release.Epoch{}}
	s.manager(t, "m1")
	nodes := []string{"n1", "n2", "n3", "n4"}
	for _, n := range nodes[:3] {
		s.agent(t, n)
	}
	s.agent(t, "n4", "RELMAN_CLOCK_OFFSET="+off.String())
	s.waitNodes(t, nodes)
	s.releases[1] = s.publish(t, filepath.Join("sample", "v1"))
	s.releases[0] = s.publish(t, filepath.Join("sample", "v2"))
	s.waitReady(t, nodes...)
	return s
}

// listed waits until the node knows that its clock is wrong, and looks where it is
// said.
func (s *scheduled) listed(t *testing.T) {
	t.Helper()
	way := map[bool]string{true: "behind", false: "ahead"}[s.off < 0]
	eventually(t, 60*time.Second, "the status lists the node", func() error {
		out := s.relman(t, "status").stdout
		for line := range strings.Lines(out) {
			if strings.Contains(line, "CLOCK WRONG") && strings.Contains(line, "n4 (") && strings.Contains(line, way) && !strings.Contains(line, "n1") {
				return nil
			}
		}
		return fmt.Errorf("%s", out)
	})
	if out := run(t, s.env, programs(t).relman, "doctor").stdout; !strings.Contains(out, "n4: its clock is ") || !strings.Contains(out, way) {
		t.Errorf("the doctor does not say it:\n%s", out)
	}
}

// swaps are when nodes were first seen to show a release, from outside.
type swaps struct {
	mu   sync.Mutex
	seen map[string]time.Time
	wg   sync.WaitGroup
	stop chan struct{}
}

// watch asks all nodes, again and again, until each shows a release or stop is
// closed.
func (s *scheduled) watch(id string) *swaps {
	w := &swaps{seen: map[string]time.Time{}, stop: make(chan struct{})}
	for n, addr := range s.addrs {
		w.wg.Go(func() {
			c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for {
				select {
				case <-w.stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				resp, err := c.Get("http://" + addr + "/")
				if err != nil {
					continue // it is being started again
				}
				_ = resp.Body.Close()
				if resp.Header.Get("Relman-Release") == id {
					w.mu.Lock()
					w.seen[n] = time.Now()
					w.mu.Unlock()
					return
				}
			}
		})
	}
	return w
}

// first is when a node was first seen to show it; the zero time, not yet.
func (w *swaps) first(n string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[n]
}

// flip makes the other release active, at once or so long after the flip, and checks
// from outside when the nodes show it.
func (s *scheduled) flip(t *testing.T, in time.Duration) {
	t.Helper()
	to := s.releases[1]
	w := s.watch(to)
	args := []string{"flip", to, "-o", "json"}
	if in > 0 {
		args = append(args, "--swap-at", "+"+in.String())
	}
	var out struct {
		Epoch      release.Epoch
		SkewMS     *float64 `json:"skew_ms"`
		ClockWrong []string `json:"clock_wrong"`
	}
	if err := json.Unmarshal([]byte(s.relman(t, args...).stdout), &out); err != nil {
		t.Fatal(err)
	}
	w.wg.Wait()
	s.releases[0], s.releases[1] = to, s.releases[0]
	s.epochs[in > 0] = append(s.epochs[in > 0], out.Epoch)
	if out.SkewMS == nil || !slices.Equal(out.ClockWrong, []string{"n4"}) {
		t.Errorf("the publisher is told of a skew of %v, and of wrong clocks of %v", out.SkewMS, out.ClockWrong)
	}
	a := s.active(t)
	if got := a.Since().Sub(a.At); got != in {
		t.Errorf("scheduled for %v after the flip, not %v", got, in)
	}
	s.timely(t, w, a, "n1", "n2", "n3")
}

// timely: these nodes showed a release not before its time, and n4 before it, where
// there was one to wait for.
func (s *scheduled) timely(t *testing.T, w *swaps, a cluster.Active, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		if late := w.first(n).Sub(a.Since()); late < 0 || late > scheduledLead {
			t.Errorf("epoch %d: %s showed it %v after it was due", a.Epoch, n, late)
		}
	}
	if late := w.first("n4").Sub(a.At); late < 0 || late > scheduledLead {
		t.Errorf("epoch %d: n4 showed it %v after the flip, with a wrong clock", a.Epoch, late)
	}
}

// skews reads what the leader noted of each epoch, and prints it.
func (s *scheduled) skews(t *testing.T) {
	t.Helper()
	var history []struct {
		Epoch release.Epoch
		Skew  *cluster.Skew
	}
	var found map[bool][]float64
	eventually(t, 10*time.Second, "the history has every skew", func() error {
		if err := json.Unmarshal([]byte(s.relman(t, "history", "-n", "100", "-o", "json").stdout), &history); err != nil {
			return err
		}
		found = map[bool][]float64{}
		for _, h := range history {
			for is, epochs := range s.epochs {
				if !slices.Contains(epochs, h.Epoch) {
					continue
				}
				if h.Skew == nil || h.Skew.Nodes != 3 || !slices.Equal(h.Skew.Off, []release.NodeID{"n4"}) {
					return fmt.Errorf("epoch %d: %+v", h.Epoch, h.Skew)
				}
				found[is] = append(found[is], h.Skew.MS)
			}
		}
		return nil
	})
	for is, name := range map[bool]string{false: "unscheduled", true: "scheduled"} {
		ms := found[is]
		if len(ms) != scheduledRounds {
			t.Fatalf("%d %s flips are in the history", len(ms), name)
		}
		slices.Sort(ms)
		t.Logf("n4 %v: skew of n1 to n3 over %d %s flips, by the nodes: p50 %.2f ms, max %.2f ms", s.off, len(ms), name, ms[len(ms)/2], ms[len(ms)-1])
	}
}

// later asks for a scheduled flip to the other release, and waits until it is made.
func (s *scheduled) later(t *testing.T, in time.Duration) (w *swaps, a cluster.Active) {
	t.Helper()
	was := s.active(t).Epoch
	w = s.watch(s.releases[1])
	s.relman(t, "flip", s.releases[1], "--swap-at", "+"+in.String(), "--wait=false")
	eventually(t, 10*time.Second, "it is flipped", func() error {
		if a = s.active(t); a.Epoch == was {
			return fmt.Errorf("epoch %d", was)
		}
		return nil
	})
	return w, a
}

// restarted: a node that is killed while a flip is pending comes back with what all
// others show, ready, and swaps in time.
func (s *scheduled) restarted(t *testing.T) {
	t.Helper()
	w, a := s.later(t, 8*time.Second)
	s.agents["n1"].kill()
	s.agent(t, "n1")
	s.waitReady(t, "n1")
	if left := time.Until(a.ActivateAt); left < 0 || !w.first("n1").IsZero() {
		t.Errorf("n1 was ready %v before it was due, and showed it at %s", left, w.first("n1"))
	}
	s.expectRelease(t, "n1", s.releases[0])
	w.wg.Wait()
	s.timely(t, w, a, "n1", "n2", "n3")
	s.releases[0], s.releases[1] = s.releases[1], s.releases[0]
	s.relman(t, "wait", "--for=converged")
}

// takenBack: a rollback before the time is there at once, and only a node with a
// wrong clock has ever shown what was pending.
func (s *scheduled) takenBack(t *testing.T) {
	t.Helper()
	w, a := s.later(t, 3*time.Second)
	s.expectRelease(t, "n4", s.releases[1])
	s.relman(t, "rollback", "--no-freeze")
	if left := time.Until(a.ActivateAt); left < 0 {
		t.Errorf("the rollback took %v too long", -left)
	}
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		s.expectRelease(t, n, s.releases[0])
	}
	eventually(t, 10*time.Second, "its time has passed", func() error {
		if left := time.Until(a.ActivateAt.Add(200 * time.Millisecond)); left > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
	close(w.stop)
	w.wg.Wait()
	if w.first("n4").IsZero() || !w.first("n1").IsZero() || !w.first("n2").IsZero() || !w.first("n3").IsZero() {
		t.Errorf("what was taken back was seen: %v", w.seen)
	}
	if now := s.active(t); string(now.Release) != s.releases[0] || now.Epoch != a.Epoch+1 || !now.ActivateAt.IsZero() {
		t.Errorf("active is %+v", now)
	}
}
