package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestTwoPublishers_oneWins: of two publishers at once, one wins in every
// round; the other one changes nothing and names the winner.
func TestTwoPublishers_oneWins(t *testing.T) {
	const rounds = 50
	d := startDev(t, t.TempDir())
	wins, refusals := 0, 0
	for round := range rounds {
		a, b := d.race(t, round)
		if a.code != 0 {
			a, b = b, a
		}
		if a.code != 0 || b.code != 4 {
			t.Fatalf("round %d: exit codes %d and %d\n%s\n%s", round, a.code, b.code, a.stderr, b.stderr)
		}
		wins, refusals = wins+1, refusals+1
		var won struct{ Release string }
		if err := json.Unmarshal([]byte(a.stdout), &won); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, a.stdout)
		}
		if !strings.Contains(b.stdout+b.stderr, won.Release) {
			t.Fatalf("round %d: the loser does not name %s:\n%s%s", round, won.Release, b.stdout, b.stderr)
		}
		live := strings.TrimSpace(d.relman(t, "releases", "show", "@"+fmt.Sprint(round+1), "-o", "name").stdout)
		if live != won.Release {
			t.Fatalf("round %d: epoch %d is %s, the winner was %s", round, round+1, live, won.Release)
		}
	}
	t.Logf("%d rounds: %d won, %d refused with exit 4 naming the winner", rounds, wins, refusals)
	verifyHistory(t, d.env)
}

// TestTwoPublishers_queue: with --queue the second one waits, and then wins.
func TestTwoPublishers_queue(t *testing.T) {
	t.Parallel()
	const rounds = 10
	d := startDev(t, t.TempDir())
	for round := range rounds {
		a, b := d.race(t, round, "--queue")
		if a.code != 0 || b.code != 0 {
			t.Fatalf("round %d: exit codes %d and %d\n%s\n%s", round, a.code, b.code, a.stderr, b.stderr)
		}
	}
	var history []json.RawMessage
	if err := json.Unmarshal([]byte(d.relman(t, "history", "-n", "1000", "-o", "json").stdout), &history); err != nil {
		t.Fatal(err)
	}
	if len(history) != 2*rounds {
		t.Fatalf("%d flips after %d publishes", len(history), 2*rounds)
	}
	verifyHistory(t, d.env)
}

// race runs two publishers of different builds at once: each knows what is
// active before the other one asks for anything.
func (d *dev) race(t *testing.T, round int, flags ...string) (a, b result) {
	t.Helper()
	results := [2]result{}
	env := append([]string{"RELMAN_FAILPOINTS=publish.after-base=meet:2:" + t.TempDir()}, d.env...)
	var wg sync.WaitGroup
	for i := range results {
		build := filepath.Join(t.TempDir(), "build")
		writeFile(t, filepath.Join(build, "index.html"), fmt.Sprintf("round %d, publisher %d", round, i))
		wg.Go(func() {
			results[i] = run(t, env, programs(t).relman, append([]string{"publish", build, "-o", "json"}, flags...)...)
		})
	}
	wg.Wait()
	return results[0], results[1]
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
