package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sampleServing has a cell in which relman is as fast, one in which it is not,
// flips that cost nothing, flips that cost nginx as much, and flips that cost
// relman alone.
func sampleServing() serveResults {
	with := func(rate int64, p99 float64) loaded {
		return loaded{Requests: rate, Seconds: 1, Bytes: rate * 1300, P50: 300, P99: p99, Most: 9000, CPU: 15}
	}
	small, flips := serveCell{Size: 1 << 10}, serveCell{Size: 1 << 10, Flips: true}
	medium, closes := serveCell{Size: 16 << 10, Gzip: true}, serveCell{Size: 16 << 10, Close: true}
	closesFlips := closes
	closesFlips.Flips = true
	mediumFlips := medium
	mediumFlips.Flips = true
	return serveResults{
		{relmanName, small}: {with(100, 1000), with(300, 1000), with(210, 3000)},
		{nginxName, small}:  {with(99, 1000), with(400, 1000), with(200, 2000)}, // by rounds 1.01, 0.75, 1.05
		{nginxOpen, small}:  {with(400, 1000)},

		{relmanName, flips}: {with(200, 1200)}, {nginxName, flips}: {with(200, 1000)},
		{relmanName, medium}: {with(50, 1000)}, {nginxName, medium}: {with(100, 1000)}, {nginxOpen, medium}: {with(100, 900)}, {nginxShipped, medium}: {with(40, 900)},
		{relmanName, mediumFlips}: {with(200, 1900)}, {nginxName, mediumFlips}: {with(200, 1600)},
		{relmanName, closes}: {with(200, 1000)}, {nginxName, closes}: {with(200, 1000)},
		{relmanName, closesFlips}: {with(200, 1900)}, {nginxName, closesFlips}: {with(200, 1000)},
	}
}

func TestJudgeServing(t *testing.T) {
	got := map[string]string{}
	for _, v := range judgeServing(sampleServing(), []serveCell{
		{Size: 1 << 10}, {Size: 1 << 10, Flips: true}, {Size: 16 << 10, Gzip: true}, {Size: 16 << 10, Gzip: true, Flips: true}, {Size: 16 << 10, Close: true, Flips: true},
	}) {
		got[v.Cell+": "+v.Goal] = v.State
	}
	for goal, want := range map[string]string{
		"1 KiB: requests/s of nginx":                      "PASS",
		"1 KiB, flips: requests/s of nginx":               "PASS",
		"1 KiB, flips: p99 with flips / without":          "PASS",
		"16 KiB, gzip: requests/s of nginx":               "MISS",
		"16 KiB, gzip, flips: p99 with flips / without":   "PASS",
		"16 KiB, close, flips: p99 with flips / without":  "MISS",
		"16 KiB, gzip, flips: requests/s of nginx":        "PASS",
		"16 KiB, close, flips: requests/s of nginx":       "PASS",
		"1 KiB, gzip: requests/s of nginx, not asked for": "",
	} {
		if got[goal] != want {
			t.Errorf("%s: %s, not %s", goal, got[goal], want)
		}
	}
}

func TestServeReport_table(t *testing.T) {
	r := &serveReport{Command: "bench serve", Machine: "2 × test", Rounds: 3, Seconds: 1, results: sampleServing()}
	r.Goals = judgeServing(r.results, []serveCell{{Size: 1 << 10}, {Size: 1 << 10, Flips: true}})
	var b bytes.Buffer
	r.print(&b)
	golden(t, "serve.md", b.Bytes())
}

func TestServeReport_failures(t *testing.T) {
	r := &serveReport{results: serveResults{{relmanName, serveCell{Size: 1 << 10}}: {{Requests: 9, Seconds: 1, Errors: 2}}}}
	if err := r.failures(); err == nil || !strings.Contains(err.Error(), "1 KiB: 2 requests failed") {
		t.Errorf("two requests failed: %v", err)
	}
}

// TestRunServe compares a node's server with nginx for a second each. Before that
// every answer of both is compared with the build.
func TestRunServe(t *testing.T) {
	long(t)
	for _, p := range []string{"nginx", "wrk"} {
		if find(p) == "" {
			if os.Getenv("RELMAN_NO_SKIP") == "1" {
				t.Fatalf("would be skipped: there is no %s", p)
			}
			t.Skipf("SKIPPED: there is no %s", p)
		}
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	goBuild(t, "-o", in("relman"), "relman/cmd/relman")
	goBuild(t, "-C", "../../tools", "-o", in("etcd"), "go.etcd.io/etcd/server/v3")
	if err := os.Mkdir(in("work"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..")
	err := run(t.Context(), []string{serveVerb, "-relman", in("relman"), "-etcd", in("etcd"), "-dir", in("work"), "-json", in("json"), "-rounds", "1", "-cells", "^1 KiB(, flips)?$"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(in("json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Measured []serveMeasured
		Goals    []serveVerdict
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, m := range got.Measured {
		if m.Median.rate() <= 0 || m.Median.P99 <= 0 || m.Median.CPU <= 0 || m.Median.Errors > 0 {
			t.Errorf("%+v: %+v", m.serveKey, m.Median)
		}
	}
	if len(got.Measured) != 6 || len(got.Goals) != 3 {
		t.Errorf("%d cells were measured, and %d goals judged", len(got.Measured), len(got.Goals))
	}
	left, err := os.ReadDir(in("work"))
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// TestRunServe_missing: missing programs are said, and an error where skipping is
// forbidden.
func TestRunServe_missing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if find("wrk") != "" {
		t.Fatal("it is found without $PATH")
	}
	args := []string{serveVerb, "-relman", dir, "-etcd", dir, "-dir", dir}
	for name, c := range map[string]struct {
		ci, noSkip string
		fails      bool
	}{"here": {}, "in the CI": {ci: "true", fails: true}, "no skips": {noSkip: "1", fails: true}} {
		t.Setenv("CI", c.ci)
		t.Setenv("RELMAN_NO_SKIP", c.noSkip)
		err := run(t.Context(), args)
		if c.fails && (err == nil || !strings.Contains(err.Error(), "there is no wrk")) || !c.fails && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
