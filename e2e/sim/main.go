// Command sim runs relman in simulated time: managers, nodes, publishers, sweepers
// and operators against an etcd, a store and disks in memory, with faults, each run
// decided by its seed. docs/design.md says what in it is the program's own.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	seeds := flag.Int("seeds", 10000, "how many `runs`")
	from := flag.Uint64("from", 0, "the first `seed`")
	one := flag.Int64("seed", -1, "replay this `seed`, and tell what happens")
	planted := flag.String("bug", "", "plant a mistake, by its `name`, in the replay")
	workers := flag.Int("j", runtime.NumCPU(), "runs at once")
	flag.Parse()
	if *one >= 0 {
		os.Exit(replay(uint64(*one), *planted))
	}
	began := time.Now()
	sum, bad := explore(*from, *seeds, *workers, nil)
	took := time.Since(began)
	fmt.Printf("%d seeds in %v (%.0f a minute), %d violations\n%s", *seeds, took.Round(time.Millisecond),
		float64(*seeds)/took.Minutes(), len(bad), sum.lines())
	for _, f := range bad[:min(len(bad), 20)] {
		fmt.Printf("seed %d: %s\n", f.seed, f.why)
	}
	if len(bad) > 0 {
		fmt.Printf("replay: make sim SEED=%d\n", bad[0].seed)
		os.Exit(1)
	}
	os.Exit(plant(*workers))
}

// found is a seed that broke an invariant.
type found struct {
	seed uint64
	why  *breach
}

// explore runs seeds, several at once; each run is one goroutine's. With a planted
// mistake it stops at the first seed that finds it.
func explore(from uint64, seeds, workers int, b *bug) (sum tally, bad []found) {
	var next atomic.Uint64
	next.Store(from)
	end := from + uint64(seeds)
	var mu sync.Mutex // guards sum and bad
	var wg sync.WaitGroup
	for range max(1, workers) {
		wg.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= end {
					return
				}
				w := newWorld(seed, b)
				w.live()
				mu.Lock()
				sum.add(&w.sum)
				if w.broken != nil {
					bad = append(bad, found{seed, w.broken})
					if b != nil {
						next.Store(end)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum, bad
}

// replay runs one seed and tells it.
func replay(seed uint64, name string) int {
	var b *bug
	for _, p := range planted() {
		if p.name == name {
			b = &p
		}
	}
	if name != "" && b == nil {
		fmt.Fprintf(os.Stderr, "no planted mistake is called %q\n", name)
		return 2
	}
	w := newWorld(seed, b)
	w.tell = func(line string) { fmt.Println(line) }
	w.live()
	fmt.Print(w.sum.lines())
	if w.broken != nil {
		fmt.Println("seed", seed, "breaks", w.broken)
		return 1
	}
	fmt.Println("seed", seed, "breaks nothing")
	return 0
}
