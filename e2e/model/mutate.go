package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// misdeed is what an actor does wrong in one exploration.
type misdeed int

const (
	nothing misdeed = iota
	claimUnverified
	dropFirst
	outWithoutFence
	previousAgain
	emptyIsReady
	misdeeds
)

func (m misdeed) String() string {
	return [...]string{
		"nothing", "claim before verifying", "drop before retracting", "out without waiting for the fence",
		"fill the previous buffer", "take an empty range for ready",
	}[m]
}

// size is how much is explored.
type size struct {
	large bool
	limit int // states of one world
	only  string
}

func (s size) worlds() []*world {
	return slices.DeleteFunc(worlds(), func(w *world) bool {
		return w.large && !s.large || !strings.Contains(w.name, s.only)
	})
}

// mutant is one exploration that has to find something.
type mutant struct {
	name    string
	without map[guardID]bool
	wrong   misdeed
	in      []*world // the likely ones first

	found  result
	caught bool
}

// each calls f for all numbers below n, as many at once as there are processors.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// report explores, prints what it finds, and says whether all is well.
func report(out io.Writer, size size, verbose bool) bool {
	began := time.Now()
	all := size.worlds()
	results, met := make([]result, len(all)), make([]map[guardID]bool, len(all))
	each(len(all), func(i int) {
		results[i], met[i] = explore(all[i], newStore(), nil, nothing, false, size.limit)
	})
	states, transitions, violations := 0, 0, 0
	for _, r := range results {
		states, transitions, violations = states+r.states, transitions+r.transitions, violations+len(r.broken)
		fmt.Fprintln(out, r.line())
		if len(r.broken) > 0 {
			fmt.Fprintln(out, "   ", r.words())
		}
	}
	fmt.Fprintf(out, "the protocol: %d worlds, %d states, %d transitions, %d violations, %.1f s\n\n", len(all), states, transitions, violations, time.Since(began).Seconds())
	mutants := plan(all, met, results)
	each(len(mutants), func(i int) { mutants[i].hunt(size.limit) })
	missed := 0
	for _, m := range mutants {
		switch {
		case !m.caught:
			missed++
			fmt.Fprintf(out, "NOT FOUND  %s\n", m.name)
		case verbose:
			fmt.Fprintf(out, "found      %-46s %s (%d steps, %s)\n", m.name, strings.Join(m.found.broken, "; "), len(m.found.trace)-1, m.found.world)
		}
	}
	fmt.Fprintf(out, "mutation score %d/%d, %.1f s in all\n", len(mutants)-missed, len(mutants), time.Since(began).Seconds())
	return violations == 0 && missed == 0
}

// plan lists each guard that some world met, to be deleted once, and what
// actors can do wrong.
func plan(all []*world, met []map[guardID]bool, results []result) (mutants []*mutant) {
	in := map[guardID][]*world{}
	order := make([]int, len(all)) // the smallest worlds first
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return results[a].transitions - results[b].transitions })
	var sorted []*world
	for _, i := range order {
		sorted = append(sorted, all[i])
		for id := range met[i] {
			in[id] = append(in[id], all[i])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(in)) {
		mutants = append(mutants, &mutant{name: string(id), without: map[guardID]bool{id: true}, in: in[id]})
	}
	for m := nothing + 1; m < misdeeds; m++ {
		mutants = append(mutants, &mutant{name: m.String(), wrong: m, in: sorted})
	}
	return mutants
}

// hunt explores worlds until one shows a violation.
func (m *mutant) hunt(limit int) {
	for _, w := range m.in {
		m.found, _ = explore(w, newStore(), m.without, m.wrong, false, limit)
		if m.caught = len(m.found.broken) > 0; m.caught {
			return
		}
	}
}
