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
	believeDoubtful
	misdeeds
)

func (m misdeed) String() string {
	return [...]string{
		"nothing", "claim before verifying", "drop before retracting", "out without waiting for the fence",
		"fill the previous buffer", "take an empty range for ready",
		"believe claims of which it does not know what is under way",
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
	same := slices.DeleteFunc(redundants(), func(e *redundant) bool {
		return !slices.ContainsFunc(all, func(w *world) bool { return w.name == e.world })
	})
	wrong := make([]error, len(same))
	each(len(same), func(i int) { wrong[i] = same[i].show(all, size.limit) })
	missed, shown := 0, 0
	for i, e := range same {
		if wrong[i] != nil {
			fmt.Fprintf(out, "NOT SHOWN  %s: %v\n", e.guard, wrong[i])
			continue
		}
		shown++
		fmt.Fprintf(out, "redundant  %s: %s; together with %v: %s\n", e.guard, e.reason, e.given, strings.Join(e.breaks, "; "))
	}
	for _, m := range mutants {
		switch {
		case !m.caught:
			missed++
			fmt.Fprintf(out, "NOT FOUND  %s\n", m.name)
		case verbose:
			fmt.Fprintf(out, "found      %-46s %s (%d steps, %s)\n", m.name, strings.Join(m.found.broken, "; "), len(m.found.trace)-1, m.found.world)
		}
	}
	fmt.Fprintf(out, "mutation score %d/%d, besides %d/%d redundant guards shown to be so; %.1f s in all\n", len(mutants)-missed, len(mutants), shown, len(same), time.Since(began).Seconds())
	return violations == 0 && missed == 0 && shown == len(same)
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
		if slices.ContainsFunc(redundants(), func(e *redundant) bool { return e.guard == id }) {
			continue
		}
		mutants = append(mutants, &mutant{name: string(id), without: map[guardID]bool{id: true}, in: in[id]})
	}
	for m := nothing + 1; m < misdeeds; m++ {
		mutants = append(mutants, &mutant{name: m.String(), wrong: m, in: sorted})
	}
	return mutants
}

// redundant is a guard that no invariant needs while others stand: given that
// those are deleted, deleting it, too, breaks one more.
type redundant struct {
	guard  guardID
	given  []guardID
	world  string
	reason string

	breaks []string
}

func redundants() []*redundant {
	r := func(kind, guard string, given []string, world, reason string) *redundant {
		e := &redundant{guard: guardID(kind + ": " + guard), world: world, reason: reason}
		for _, g := range given {
			e.given = append(e.given, guardID(kind+": "+g))
		}
		return e
	}
	return []*redundant{
		r("Flip", "rollout unchanged", []string{"desired unchanged", "results absent"}, "flip and abort", "a rollout ends only with its request"),
		r("StartRollout", "active unchanged", []string{"results absent"}, "flip and abort", "a flip ends the request, and a revert fills no buffer"),
		r("Retract", "active unchanged", []string{"rollout unchanged", "ready unchanged"}, "rollouts that follow each other", "a flip to the rollout's buffer ends the rollout"),
		r("Drain", "members unchanged", []string{"roster unchanged"}, "drain, out, and back", "who stops being in changes the roster"),
		r("Out", "members unchanged", []string{"roster unchanged"}, "drain, out, and back", "who is not in any more changes the roster"),
		r("Out", "live absent", []string{"last unchanged"}, "out after the fence", "a session writes both"),
		r("Admit", "join present", []string{"live present"}, "admission", "who lives has joined"),
		r("CreateSite", "config absent", []string{"catalog unchanged"}, "sites are created", "a new site changes the catalog"),
		r("Register", "releases absent", []string{"seq unchanged"}, "two register", "a release has the number that it takes"),
		r("Register", "uploads present", []string{"gc unchanged"}, "publish and sweep", "without a marker a sweep has to begin before it does harm"),
		r("Forget", "rollout unchanged", []string{"desired unchanged"}, "rollout and sweep", "what is rolled out was asked for before"),
		r("Forget", "active unchanged", []string{"desired unchanged", "rollout unchanged"}, "rollout and sweep", "what becomes active was asked for before"),
		r("Forget", "releases the same", []string{"gc unchanged"}, "two who sweep", "only the owner of the sweep forgets"),
	}
}

// show explores its world without the others, and without it, too.
func (e *redundant) show(all []*world, limit int) error {
	for _, w := range all {
		if w.name != e.world {
			continue
		}
		without := map[guardID]bool{e.guard: true}
		if alone, _ := explore(w, newStore(), without, nothing, true, limit); len(alone.broken) > 0 {
			return fmt.Errorf("it is no redundant one: %s", strings.Join(alone.broken, "; "))
		}
		for _, g := range e.given {
			without[g] = true
		}
		both, _ := explore(w, newStore(), without, nothing, true, limit)
		delete(without, e.guard)
		given, _ := explore(w, newStore(), without, nothing, true, limit)
		e.breaks = slices.DeleteFunc(both.broken, func(b string) bool { return slices.Contains(given.broken, b) })
		if len(e.breaks) == 0 {
			return fmt.Errorf("deleting it together with %v breaks nothing more", e.given)
		}
		return nil
	}
	return fmt.Errorf("there is no world %q", e.world)
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
