package main

import (
	"runtime"
	"slices"
	"testing"
)

// TestRuns: no run breaks anything, and the faults and the work meet.
func TestRuns(t *testing.T) {
	t.Parallel()
	const seeds = 100
	sum, bad := explore(0, seeds, runtime.GOMAXPROCS(0), nil)
	for _, f := range bad {
		t.Errorf("make sim SEED=%d: %s", f.seed, f.why)
	}
	for what, n := range map[string]int{
		"flips": sum.Flips, "rollouts": sum.Rollouts, "crashes": sum.Crashes, "terms": sum.Terms, "answers lost": sum.LostAnswers,
		"events lost": sum.LostEvents, "late questions": sum.LateQuestions, "copies recognised": sum.Recognised, "nodes put out": sum.Outs,
		"refusals": sum.Refused, "visits": sum.Visits, "managers killed": sum.ManagersKilled,
	} {
		if n < seeds/5 {
			t.Errorf("only %d %s in %d runs: it does not show much", n, what, seeds)
		}
	}
	t.Logf("%d seeds\n%s", seeds, sum.lines())
}

// TestReplay: a seed is always the same run, step by step.
func TestReplay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		var first []string
		for try := range 2 {
			var lines []string
			w := newWorld(seed, nil)
			w.tell = func(line string) { lines = append(lines, line) }
			w.live()
			if try == 0 {
				first = lines
			} else if !slices.Equal(first, lines) {
				i := 0
				for i < min(len(first), len(lines)) && first[i] == lines[i] {
					i++
				}
				t.Fatalf("seed %d: the runs differ from line %d of %d and %d on", seed, i, len(first), len(lines))
			}
		}
		if len(first) < 20 {
			t.Errorf("seed %d tells only %d lines", seed, len(first))
		}
	}
}

// TestPlanted: the runs find what they are for. What is rare is left to make sim.
func TestPlanted(t *testing.T) {
	t.Parallel()
	most := 400
	all := planted()
	for i := range all {
		b := &all[i]
		if b.rare {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			for seed := range uint64(most) {
				w := newWorld(seed, b)
				w.live()
				if w.broken != nil {
					t.Logf("seed %d: %s", seed, w.broken)
					return
				}
			}
			t.Errorf("not found in %d seeds", most)
		})
	}
}
