package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sweepRounds is how often TestSweep_whilePublishing publishes: RELMAN_SWEEP_ROUNDS,
// or few.
func sweepRounds(t *testing.T) int {
	t.Helper()
	s, ok := os.LookupEnv("RELMAN_SWEEP_ROUNDS")
	if !ok {
		return 12
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("RELMAN_SWEEP_ROUNDS=%s: it is a number of rounds", s)
	}
	return n
}

// TestSweep_whilePublishing: builds whose contents come and go are published
// while sweeps without any grace follow each other. Whatever the two do to each
// other, every release that was published is whole in the store.
func TestSweep_whilePublishing(t *testing.T) {
	t.Parallel()
	rounds := sweepRounds(t)
	d := startDev(t, t.TempDir(), "--nodes", "1")
	builds := comingAndGoing(t, 5)
	stop, ended := make(chan struct{}), make(chan swept, 1)
	go func() {
		var all swept
		for {
			select {
			case <-stop:
				ended <- all
				return
			default:
				all.add(d.try(t, "sweep", "--grace", "0s", "--keep", "1", "-o", "json"))
			}
		}
	}()
	random := rand.New(rand.NewPCG(1, uint64(rounds))) //nolint:gosec // only to choose builds
	missing, published, last := 0, 0, -1
	for round := range rounds {
		n := random.IntN(len(builds) - 1)
		if n >= last {
			n++ // never the same again
		}
		last = n
		// Without a cache a pack is looked for in the store.
		args := []string{"publish", builds[n], "-o", "json"}
		if round%2 == 0 {
			args = append(args, "--no-cache")
		}
		var p struct{ Release string }
		r := d.try(t, args...)
		if err := json.Unmarshal([]byte(r.stdout), &p); r.code != 0 || err != nil {
			t.Errorf("round %d: publish: exit %d: %v\n%s%s", round, r.code, err, r.stdout, r.stderr)
			break
		}
		published++
		if v := d.try(t, "verify", p.Release); v.code != 0 {
			missing++
			t.Errorf("round %d: verify %s: exit %d\n%s%s", round, p.Release, v.code, v.stdout, v.stderr)
		}
	}
	close(stop)
	all := <-ended
	if all.failed != "" {
		t.Errorf("a sweep failed:\n%s", all.failed)
	}
	if all.done == 0 || all.objects == 0 || all.forgotten == 0 {
		t.Errorf("the sweeps met nothing: %+v", all)
	}
	t.Logf("%d of %d published, %d of them not whole; %d sweeps (%d more waited for a publisher) forgot %d releases and deleted %d objects",
		published, rounds, missing, all.done, all.busy, all.forgotten, all.objects)
}

// swept counts what sweeps did.
type swept struct {
	done, busy, forgotten, objects int
	failed                         string
}

func (s *swept) add(r result) {
	var said struct {
		Sweep struct {
			Releases       []struct{ Keep bool }
			DeletedObjects int `json:"deleted_objects"`
		}
	}
	err := json.Unmarshal([]byte(r.stdout), &said)
	switch {
	case r.code == 0 && err == nil:
		s.done++
		s.objects += said.Sweep.DeletedObjects
		for _, k := range said.Sweep.Releases {
			if !k.Keep {
				s.forgotten++
			}
		}
	case r.code == 4:
		s.busy++
	default:
		s.failed = fmt.Sprintf("exit %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
}

// comingAndGoing are builds that share a file and otherwise have each some
// contents of a few, so that what one publish brings was there before.
func comingAndGoing(t *testing.T, n int) (dirs []string) {
	t.Helper()
	for i := range n {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "index.html"), strings.Repeat("the same everywhere\n", 100))
		for j := range 3 {
			k := (i + j*j) % n
			writeFile(t, filepath.Join(dir, fmt.Sprintf("part-%d.txt", k)), strings.Repeat(fmt.Sprintf("contents number %d\n", k), 500))
		}
		dirs = append(dirs, dir)
	}
	return dirs
}
