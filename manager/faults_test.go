package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// deaf hears of no change.
type deaf struct{ *fake }

func (deaf) Changes(ctx context.Context, _ func(release.Site)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) setFault(fault func(cluster.Txn) error) {
	f.faulty.Lock()
	defer f.faulty.Unlock()
	f.fault = fault
}

func (f *fake) setOutage(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outage = err
	close(f.news)
	f.news = make(chan struct{})
}

func (f *fake) looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.observed
}

// TestCrashTable breaks each commit of a manager, once before and once after
// it took effect; then the manager goes on, or has lost its leadership with
// the answer. The end is always the same.
func TestCrashTable(t *testing.T) {
	steps := []string{"admit web-1", "admit web-4", "start the rollout", "flip", "end request"}
	for _, step := range steps {
		for _, applied := range []bool{false, true} {
			for _, deposed := range []bool{false, true} {
				name := fmt.Sprintf("%s, applied %v, deposed %v", step, applied, deposed)
				t.Run(name, func(t *testing.T) {
					inWorld(t, func(t *testing.T, w *world) { crash(t, w, step, applied, deposed) })
				})
			}
		}
	}
}

// crash is the story of every row: two publishes, one that fails and a
// rollback, while the named step breaks at every second try.
func crash(t *testing.T, w *world, step string, applied, deposed bool) {
	lost := errors.Join(cluster.ErrUnknown, errors.New("injected"))
	broken, tries := 0, 0
	w.setFault(func(txn cluster.Txn) error {
		if !strings.HasPrefix(txn.Name, step) {
			return nil
		}
		if tries++; tries%2 == 0 {
			return nil
		}
		broken++
		if applied {
			_, _ = w.commit(txn)
		}
		if deposed {
			w.drop(txn.Guards[0].Key) // its fence
		}
		return lost
	})
	w.manager("m1")
	w.manager("m2")
	w.nodes(4, time.Second)
	first := w.publish(1)
	w.ended(first, cluster.StateActive, 1, 1)
	second := w.publish(2)
	w.ended(second, cluster.StateActive, 2, 2)
	w.register(3)
	w.put(cluster.VerdictKey(www, rel(4)), "bad 404s")
	third := w.ask(cluster.Desired{Mode: cluster.FlipTo, Release: rel(2)})
	w.ended(third, cluster.StateActive, 2, 2)
	fourth := w.ask(cluster.Desired{Mode: cluster.Rollback, Release: rel(1)})
	w.ended(fourth, cluster.StateActive, 1, 3)
	w.setFault(nil)
	if broken == 0 {
		t.Errorf("%s was never broken", step)
	}
	if n := len(w.view().Results); n != 4 {
		t.Errorf("%d results of 4 requests", n)
	}
}

// TestConflict: a refusal is no error. The site is observed anew and the right
// thing done at once, without a pause.
func TestConflict(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(4, time.Second)
		refusals := 0
		w.setFault(func(txn cluster.Txn) error {
			if strings.HasPrefix(txn.Name, "flip") && refusals < 5 {
				refusals++
				return &cluster.Refusal{Txn: txn.Name, Guard: cluster.Guard{Key: "k", Class: cluster.ClassRosterChanged}}
			}
			return nil
		})
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		w.setFault(nil)
		claimed, flipped := w.lastTouch(cluster.ReadyPrefix(www)), w.lastTouch(cluster.ActiveKey(www))
		if flipped.at != claimed.at || refusals != 5 {
			t.Errorf("after %d refusals the flip came %s after the last claim", refusals, flipped.at.Sub(claimed.at))
		}
	})
}

// TestConflict_forEver: what is refused again and again is not tried without
// a pause.
func TestConflict_forEver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		w.nodes(1, time.Second)
		tries := 0
		w.setFault(func(txn cluster.Txn) error {
			if strings.HasPrefix(txn.Name, "flip") {
				tries++
				return &cluster.Refusal{Txn: txn.Name, Guard: cluster.Guard{Key: "k", Class: cluster.ClassRosterChanged}}
			}
			return nil
		})
		w.publish(1)
		time.Sleep(5 * time.Minute)
		w.setFault(nil)
		if tries < patience || tries > 200 {
			t.Errorf("it was tried %d times in five minutes", tries)
		}
	})
}

func TestBackoff(t *testing.T) {
	var b backoff
	longest := time.Duration(0)
	for range 2000 {
		d := b.next()
		if d <= 0 || d > maxPause {
			t.Fatalf("pause %s", d)
		}
		longest = max(longest, d)
	}
	if longest < maxPause/2 {
		t.Errorf("the longest of 2,000 pauses is %s", longest)
	}
	b.reset()
	if d := b.next(); d > minPause {
		t.Errorf("the first pause after a success is %s", d)
	}
}
