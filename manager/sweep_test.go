package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// sweeper is one that keeps nothing without a reason; work is what it does to
// the store.
func (w *world) sweeper(work func(ctx context.Context, hold func(context.Context) error) error) *Sweeper {
	s := NewSweeper(w.fake, objectstore.NewMemory(), SweepConfig{By: "op"})
	s.look = func(_ context.Context, _ objectstore.Store, kept []objectstore.KeptRelease, _ objectstore.SweepOptions) (*objectstore.SweepPlan, error) {
		return &objectstore.SweepPlan{}, nil
	}
	s.work = func(_ *objectstore.SweepPlan, ctx context.Context, _ objectstore.Store, hold func(context.Context) error) (objectstore.SweepStats, error) {
		if work == nil {
			return objectstore.SweepStats{DeletedObjects: 3}, hold(ctx)
		}
		err := work(ctx, hold)
		var stats objectstore.SweepStats
		if errors.Is(err, objectstore.ErrUnavailable) {
			stats.Unanswered = 1
		}
		return stats, err
	}
	return s
}

func (w *world) gc() cluster.Entry[cluster.GC] {
	w.mu.Lock()
	defer w.mu.Unlock()
	return read[cluster.GC](w.fake, cluster.GCKey)
}

// releases registers some, of which the last is active.
func (w *world) releases(n int) {
	for i := range n {
		w.put(cluster.ReleaseKey(www, rel(i+1)), cluster.ReleaseRecord{Manifest: digest(i + 1)})
	}
	w.put(cluster.ActiveKey(www), cluster.Active{Release: rel(n), Epoch: 1})
}

// left are the releases that there are, by number.
func (w *world) left() []int {
	var all []int
	for id := range w.view().Releases {
		all = append(all, int(id.Seq()))
	}
	slices.Sort(all)
	return all
}

// TestSweeper: what nothing refers to is forgotten, many at once, before
// anything of it goes; the sweep begins, is held, and ends.
func TestSweeper(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const n = 2*cluster.ForgetAtOnce + 5
		w.releases(n)
		s := w.sweeper(func(ctx context.Context, hold func(context.Context) error) error {
			if left := w.left(); !slices.Equal(left, []int{n}) {
				t.Errorf("when objects go, %v are left", left)
			}
			before := w.gc()
			if err := hold(ctx); err != nil {
				return err
			}
			if g := w.gc(); g.Mod == before.Mod || g.Value.Phase != cluster.GCSweep || g.Value.By != "op" {
				t.Errorf("held as %+v", g)
			}
			return nil
		})
		out, err := s.DryRun(w.ctx)
		if err != nil || out.Forgotten() != n-1 || len(w.left()) != n || w.gc().Exists() {
			t.Errorf("dry run: %d, %v, left are %d", out.Forgotten(), err, len(w.left()))
		}
		out, err = s.Run(w.ctx)
		if err != nil || out.Forgotten() != n-1 {
			t.Errorf("%d, %v", out.Forgotten(), err)
		}
		if g := w.gc().Value; g.Phase != cluster.GCIdle || g.Gen != 1 {
			t.Errorf("left as %+v", g)
		}
	})
}

// TestSweeper_askedFor: a release that is asked for between look and act stays,
// and the store is looked at anew.
func TestSweeper_askedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.releases(4)
		s := w.sweeper(nil)
		looks, kept := 0, 0
		s.look = func(_ context.Context, _ objectstore.Store, keep []objectstore.KeptRelease, _ objectstore.SweepOptions) (*objectstore.SweepPlan, error) {
			if looks++; looks == 1 {
				w.put(cluster.DesiredKey(www), cluster.Desired{Request: "R", Mode: cluster.FlipTo, Release: rel(2)})
			}
			kept = len(keep)
			return &objectstore.SweepPlan{}, nil
		}
		out, err := s.Run(w.ctx)
		if err != nil || looks != 2 || kept != 2 || out.Forgotten() != 2 || !slices.Equal(w.left(), []int{2, 4}) {
			t.Errorf("%v after %d looks, %d kept at last, left are %v", err, looks, kept, w.left())
		}
	})
}

// TestSweeper_alwaysAskedFor: it gives up, with nothing done to the store.
func TestSweeper_alwaysAskedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.releases(4)
		s := w.sweeper(func(context.Context, func(context.Context) error) error {
			t.Error("the store is changed")
			return nil
		})
		s.look = func(context.Context, objectstore.Store, []objectstore.KeptRelease, objectstore.SweepOptions) (*objectstore.SweepPlan, error) {
			w.put(cluster.DesiredKey(www), cluster.Desired{Request: "R", Mode: cluster.FlipTo, Release: rel(2)})
			return &objectstore.SweepPlan{}, nil
		}
		if _, err := s.Run(w.ctx); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("error %v", err)
		}
		if g := w.gc().Value; g.Phase != cluster.GCIdle || len(w.left()) != 4 {
			t.Errorf("left are %v, and %+v", w.left(), g)
		}
	})
}

// TestSweeper_lost: who was taken over does nothing more, and does not end the
// other's sweep.
func TestSweeper_lost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.releases(1)
		other := cluster.GC{Gen: 2, Phase: cluster.GCSweep, By: "other", ID: "01OTHER"}
		s := w.sweeper(func(ctx context.Context, hold func(context.Context) error) error {
			w.put(cluster.GCKey, other)
			if err := hold(ctx); cluster.RefusedBy(err) != cluster.ClassSweeping {
				t.Errorf("held: %v", err)
			}
			return hold(ctx)
		})
		if _, err := s.Run(w.ctx); cluster.RefusedBy(err) != cluster.ClassSweeping || !strings.Contains(err.Error(), "no longer this one's") {
			t.Errorf("error %v", err)
		}
		if g := w.gc().Value; g != other {
			t.Errorf("left as %+v", g)
		}
	})
}

// TestSweeper_slow: while it reads the store for long, nobody takes it over, and
// when it was taken over all the same, it stops reading.
func TestSweeper_slow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		s := w.sweeper(nil)
		s.look = func(ctx context.Context, _ objectstore.Store, _ []objectstore.KeptRelease, _ objectstore.SweepOptions) (*objectstore.SweepPlan, error) {
			if !pauseFor(ctx, time.Hour) {
				return nil, ctx.Err()
			}
			if w.gc().Value.Phase != cluster.GCSweep {
				t.Error("taken over")
			}
			w.put(cluster.GCKey, cluster.GC{Phase: cluster.GCIdle})
			pauseFor(ctx, time.Hour)
			return nil, ctx.Err()
		}
		began := time.Now()
		if _, err := s.Run(w.ctx); cluster.RefusedBy(err) != cluster.ClassSweeping {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > time.Hour+holdEvery {
			t.Errorf("stopped after %v", took)
		}
	})
}

// TestSweeper_ends: a sweep that fails ends at once when nothing of it can be
// under way, and else only when that has ended too.
func TestSweeper_ends(t *testing.T) {
	for name, c := range map[string]struct {
		work  func(stop func()) func(ctx context.Context, hold func(context.Context) error) error
		after time.Duration // until publishers go on
		left  bool          // until it is taken over
	}{
		"told to stop": {func(stop func()) func(context.Context, func(context.Context) error) error {
			return func(ctx context.Context, hold func(context.Context) error) error {
				stop()
				if ctx.Err() != nil {
					t.Error("a request would be cut off")
				}
				return hold(ctx)
			}
		}, 0, false},
		"told to stop when the store does not answer": {func(stop func()) func(context.Context, func(context.Context) error) error {
			return func(context.Context, func(context.Context) error) error {
				stop()
				return fmt.Errorf("delete p: %w", objectstore.ErrUnavailable)
			}
		}, 0, true},
		"the store does not answer": {func(func()) func(context.Context, func(context.Context) error) error {
			return func(context.Context, func(context.Context) error) error {
				return fmt.Errorf("delete p: %w", objectstore.ErrUnavailable)
			}
		}, sweepSettle, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ctx, stop := context.WithCancel(w.ctx)
				defer stop()
				began := time.Now()
				if _, err := w.sweeper(c.work(stop)).Run(ctx); err == nil {
					t.Error("it went well")
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("ended after %v, want %v", took, c.after)
				}
				if g := w.gc().Value; (g.Phase == cluster.GCSweep) != c.left {
					t.Errorf("left as %+v", g)
				}
			})
		})
	}
}

// TestSweeper_busy: beside publishers, and beside another sweep that lives.
func TestSweeper_busy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.put(cluster.UploadKey(www, "01REQ"), "{}")
		_, err := w.sweeper(nil).Run(w.ctx)
		b, ok := errors.AsType[*Busy](err)
		if !ok || b.Class != cluster.ClassUploading || !strings.Contains(err.Error(), "publishers are at work: www by ci-1") || !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("error %v", err)
		}
		w.drop(cluster.UploadKey(www, "01REQ"))

		living := cluster.GC{Phase: cluster.GCSweep, By: "ann", Since: time.Now()}
		w.put(cluster.GCKey, living)
		w.wg.Go(func() {
			pauseFor(w.ctx, 50*time.Second)
			living.Holds++
			w.put(cluster.GCKey, living)
		})
		_, err = w.sweeper(nil).Run(w.ctx)
		if b, ok = errors.AsType[*Busy](err); !ok || b.Class != cluster.ClassSweeping || !strings.Contains(err.Error(), "by ann") {
			t.Errorf("error %v", err)
		}
		began := time.Now() // now it is dead
		if _, err = w.sweeper(nil).Run(w.ctx); err != nil {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took < sweepQuiet || took > sweepQuiet+2*sweepLook {
			t.Errorf("taken over after %v", took)
		}
	})
}

// TestSweeper_strangeStore: a cluster sweeps nothing out of a store that has
// objects while it knows of no release, or that has another cluster's sites.
func TestSweeper_strangeStore(t *testing.T) {
	for _, c := range []struct {
		name     string
		releases int
		plan     objectstore.SweepPlan
	}{
		{"no release", 0, objectstore.SweepPlan{Packs: []objectstore.SweepPack{{Key: "packs/x"}}}},
		{"another site", 1, objectstore.SweepPlan{Sites: []release.Site{"shop", www}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if c.releases > 0 {
					w.releases(c.releases)
				}
				s := w.sweeper(func(context.Context, func(context.Context) error) error {
					t.Error("the store is changed")
					return nil
				})
				s.look = func(context.Context, objectstore.Store, []objectstore.KeptRelease, objectstore.SweepOptions) (*objectstore.SweepPlan, error) {
					return &c.plan, nil
				}
				if _, err := s.Run(w.ctx); !errors.Is(err, errStrange) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestSweeps_deadOwner: the leader ends a sweep whose owner is dead, also when it
// sweeps nothing itself, and not one that goes on.
func TestSweeps_deadOwner(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.manager("m1")
		g := cluster.GC{Gen: 3, Phase: cluster.GCSweep, By: "ann"}
		for range 10 {
			w.put(cluster.GCKey, g)
			g.Holds++
			if pauseFor(w.ctx, 50*time.Second); w.gc().Value.Phase != cluster.GCSweep {
				t.Fatal("taken over while it goes on")
			}
		}
		pauseFor(w.ctx, 9*time.Second)
		if w.gc().Value.Phase != cluster.GCSweep {
			t.Error("taken over too early")
		}
		pauseFor(w.ctx, 8*time.Second)
		if got := w.gc().Value; got.Phase != cluster.GCIdle || got.Gen != 3 {
			t.Errorf("left as %+v", got)
		}
	})
}

// TestSweeps_interval: the leader sweeps every day, whoever leads; beside a
// publisher it waits, a minute at a time.
func TestSweeps_interval(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const day = 24 * time.Hour
		store := objectstore.NewMemory()
		start := func(id string) (*Manager, func()) {
			m := New(w.fake, Config{ID: id, SweepEvery: day, Store: func(context.Context) (objectstore.Store, error) { return store, nil }})
			return m, w.start(func(ctx context.Context) {
				if err := m.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		gens := func(after time.Duration, want int) {
			t.Helper()
			pauseFor(w.ctx, after)
			synctest.Wait()
			if g := w.gc().Value; g.Gen != want || g.Phase != cluster.GCIdle {
				t.Errorf("%+v, want %d sweeps", g, want)
			}
		}
		_, stop := start("m1")
		gens(time.Minute, 0)
		gens(day-2*time.Minute, 0)
		stop()
		_, stop = start("m2") // goes on counting where m1 was
		gens(2*time.Minute, 1)
		stop()
		m, stop := start("m3")
		gens(day-5*time.Minute, 1)
		w.put(cluster.UploadKey(www, "01REQ"), "{}")
		gens(7*time.Minute, 1)
		w.drop(cluster.UploadKey(www, "01REQ"))
		gens(70*time.Second, 2)
		stop()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(m.Collectors()...)
		expect(t, registry, `
			relman_sweep_runs_total{result="done"} 1
			relman_sweep_runs_total{result="failed"} 0`)
		if text := exposition(t, registry); strings.Contains(text, `result="busy"} 0`) || strings.Contains(text, "\nrelman_sweep_last_success_timestamp_seconds 0\n") {
			t.Errorf("metrics %s", text)
		}
	})
}
