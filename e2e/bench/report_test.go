package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sampleReport has what a run can bring: a tool that is best, one that is
// fewest, one that failed, one that left files wrong, and cells that a tool
// does not have.
func sampleReport() *report {
	r := &report{
		Command: "bench -on docs", Machine: "2 × test", Runs: 3, Missing: []string{"ostree"},
		tools: []string{relmanName, "tar.zst", "restic", "rsync", "rclone"},
		cells: []cell{firstPublish, updatePrefetch, noopPrefetch},
	}
	r.results = results{
		{"docs", relmanName, firstPublish}: {
			{Wall: 3, CPU: 2, RSS: 90 << 20, Up: 39e6, Down: 1e6, Requests: 9},
			{Wall: 1, CPU: 1.5, RSS: 80 << 20, Up: 39e6, Down: 1e6, Requests: 7},
			{Wall: 1.2, CPU: 1.8, RSS: 99 << 20, Up: 39e6, Down: 1e6, Requests: 8},
		},
		{"docs", "tar.zst", firstPublish}:          {{Wall: 1, Up: 43e6, Requests: 3, RSS: 20 << 20}},
		{"docs", "restic", firstPublish}:           {{Wall: 3.5, Up: 30e6, Requests: 16}},
		{"docs", "rclone", firstPublish}:           {{Wall: 0.1}, {Error: "not within 3m0s", Late: true}},
		{"docs", relmanName, updatePrefetch}:       {{Wall: 0.9, Down: 5e6, RSS: 200 << 20, Idle: 40 << 20}},
		{"docs", "tar.zst", updatePrefetch}:        {{Wall: 0.7, Sync: 0.5, Down: 43e6}},
		{"docs", "rsync", updatePrefetch}:          {{Wall: 0.5, Sync: 0.1, Down: 8e6, Wrong: 6}, {Wall: 0.5, Down: 8e6}},
		{"docs", relmanName, noopPrefetch}:         {{Wall: 0.05, Down: 1000}},
		{"docs", floorName, floorOf[firstPublish]}: {{Wall: 0.6}},
	}
	r.Sites = []siteReport{{Name: "docs", Files: 15429, Bytes: 189e6, Changed: 3197, Goals: judge(r.results, "docs", false, false, r.peers())}}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("not as in %s; look at it, then run with -update:\n%s", path, got)
	}
}

func TestReport_table(t *testing.T) {
	var b bytes.Buffer
	sampleReport().print(&b)
	golden(t, "table.md", b.Bytes())
}

func TestReport_plot(t *testing.T) {
	var b bytes.Buffer
	sampleReport().plot(&b)
	golden(t, "plot.svg", b.Bytes())
}

func TestReport_json(t *testing.T) {
	b, err := json.Marshal(sampleReport().complete())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Command  string
		Measured []struct {
			Site, Tool, Cell string
			Median           sample
			Samples          []sample
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	first := got.Measured[1] // after rclone's
	if got.Command != "bench -on docs" || first.Tool != relmanName || first.Cell != "first publish" || len(first.Samples) != 3 || first.Median.Wall != 1.2 {
		t.Errorf("it begins with %+v", first)
	}
}

func TestMedian(t *testing.T) {
	got := median([]sample{
		{Wall: 5, RSS: 1, Requests: 10, Wrong: 2},
		{Wall: 1, RSS: 3, Requests: 30},
		{Wall: 2, RSS: 2, Requests: 20, Error: "late"},
	})
	if want := (sample{Wall: 2, RSS: 2, Requests: 20, Wrong: 2, Error: "late"}); got != want {
		t.Errorf("median is %+v, want %+v", got, want)
	}
	if got := median([]sample{{Wall: 1}, {Wall: 2}}); got.Wall != 1.5 {
		t.Errorf("median of 1 and 2 is %v", got.Wall)
	}
	if got := median(nil); got != (sample{}) {
		t.Errorf("median of nothing is %+v", got)
	}
}

func TestResults_best(t *testing.T) {
	r := sampleReport()
	for _, test := range []struct {
		cell  cell
		of    func(sample) float64
		tool  string
		least float64
	}{
		{firstPublish, sample.durable, "tar.zst", 1}, // rclone failed once
		{firstPublish, inBytes.of, "restic", 30e6},
		{updatePrefetch, sample.durable, "tar.zst", 1.2}, // rsync left files wrong once
		{noopPrefetch, sample.durable, "", 0},
	} {
		if tool, least := r.results.best("docs", test.cell, r.peers(), test.of); tool != test.tool || least != test.least {
			t.Errorf("%s: best is %q with %v, want %q with %v", test.cell, tool, least, test.tool, test.least)
		}
	}
}

func TestJudge(t *testing.T) {
	r := sampleReport()
	states := map[string]string{}
	for _, v := range r.Sites[0].Goals {
		states[string(v.Cell)+" "+v.Of] = v.State
	}
	for what, want := range map[string]string{
		"first publish time":                   "PASS", // 1.2 of 1.3 s
		"first publish bytes":                  "PASS",
		"update prefetch time":                 "PASS", // than tar.zst's 1.2 s
		"update prefetch bytes":                "-",    // rsync is no measure
		"update prefetch memory":               "MISS", // 160 MiB above idle
		"no-op prefetch requests to the store": "PASS",
		"publish of an update time":            "-", // was not measured
	} {
		if states[what] != want {
			t.Errorf("%s: %q, want %q", what, states[what], want)
		}
	}
	r.results.add(key{"docs", relmanName, firstPublish}, sample{Error: "it failed"})
	for _, v := range judge(r.results, "docs", false, true, r.peers()) {
		if v.Cell == firstPublish && v.State != "MISS" {
			t.Errorf("relman failed at %s, which is %+v", v.Cell, v)
		}
	}
	if err := r.failures(); err == nil || !strings.Contains(err.Error(), "it failed") {
		t.Errorf("the failure is reported as %v", err)
	}
}

func TestSending(t *testing.T) {
	tools := []string{"restic", "casync", "ostree"}
	if got := sending(tools, updatePublish); len(got) != 1 || got[0] != "restic" {
		t.Errorf("%q send what they publish", got)
	}
	if got := sending(tools, updatePrefetch); len(got) != 3 {
		t.Errorf("%q fetch over the wire", got)
	}
}

func TestGoals_cells(t *testing.T) {
	for _, g := range goals {
		if (g.factor == 0) != (g.than == nil && (g.of.name == inMemory.name || g.of.name == inRequests.name)) {
			t.Errorf("%s, %s: it needs either a factor or a limit", g.cell, g.of.name)
		}
	}
}

func TestChooseCells(t *testing.T) {
	o := &options{cells: "first prefetch,first publish"}
	list, err := o.chooseCells()
	if err != nil || len(list) != 2 || list[0] != firstPublish || list[1] != firstPrefetch {
		t.Errorf("chosen are %q, %v", list, err)
	}
	o.cells = "first publish,lunch"
	if _, err := o.chooseCells(); err == nil || !strings.Contains(err.Error(), `"lunch"`) {
		t.Errorf("lunch is a cell: %v", err)
	}
}
