package main

import "fmt"

// mistake is a planted bug with what is to find it.
type mistake struct {
	bug
	breaks []string // what it may break first
}

func planted() []mistake { return nil }

// mostSeeds is after how many runs a planted mistake counts as missed.
const mostSeeds = 2000

// plant looks for each planted mistake, and says which seed found it.
func plant(workers int) (code int) {
	for _, m := range planted() {
		_, bad := explore(0, mostSeeds, workers, &m.bug)
		if len(bad) == 0 {
			fmt.Printf("%-45s NOT FOUND in %d seeds\n", m.name, mostSeeds)
			code = 1
			continue
		}
		fmt.Printf("%-45s seed %-5d %s\n", m.name, bad[0].seed, bad[0].why)
	}
	return code
}
