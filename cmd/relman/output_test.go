package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

var update = flag.Bool("update", false, "write the expected outputs anew")

// expectOutput compares with testdata/NAME.
func expectOutput(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update writes it anew). Got:\n%s\nwant:\n%s", path, got, want)
	}
}

// TestOutputs prints one view in every format. The JSON shapes are promised.
func TestOutputs(t *testing.T) {
	v, now := fixedView(), viewTime().Add(3*time.Minute)
	nodes, releases := reportNodes(v), reportReleases(v)
	history := []pastEpoch{{v.Active.Value, &cluster.Skew{MS: 3, Nodes: 3, Off: []release.NodeID{"web-4"}}}}
	for name, c := range map[string]struct {
		report any
		text   func(*tables)
		names  []string
	}{
		"status":   {reportSite(v), func(t *tables) { t.pairs(statusLines(v, true, now)) }, []string{string(rel2)}},
		"nodes":    {nodes, func(t *tables) { nodesTable(t, nodes, now) }, []string{"web-1", "web-2"}},
		"node":     {nodes[1], func(t *tables) { t.pairs(nodeLines(nodes[1], now)) }, []string{"web-2"}},
		"releases": {releases, func(t *tables) { releasesTable(t, releases, now) }, []string{string(rel5)}},
		"release":  {releases[2], func(t *tables) { t.pairs(releaseLines(releases[2])) }, []string{string(rel3)}},
		"history":  {history, func(t *tables) { historyTable(t, history) }, []string{string(rel2)}},
	} {
		for _, f := range []format{formatTable, formatWide, formatJSON, formatYAML, formatName} {
			var out bytes.Buffer
			a := &app{out: &out, cfg: config{Output: string(f)}}
			if err := a.print(c.report, c.text, c.names...); err != nil {
				t.Fatal(err)
			}
			expectOutput(t, name+"."+string(f), out.Bytes())
		}
	}
}

// TestPrintFailure: in words on stderr, and as data on stdout for programs.
func TestPrintFailure(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, cfg: config{Output: "table"}}
	f := &failure{code: exitConflict, class: cluster.ClassConflict, text: "www: too late", hint: "try again", out: &outcome{Site: "www", State: stateFailed, Active: rel1}}
	f.text = "www:\x1b late\nor never"
	a.printFailure(f)
	if got := errs.String(); got != "relman: www:· late\n        or never\n        try again\n" {
		t.Errorf("%q", got)
	}
	errs.Reset()
	f.text = "www: too late"
	a.printFailure(f)
	if got := errs.String(); got != "relman: www: too late\n        try again\n" || out.Len() != 0 {
		t.Errorf("%q %q", got, out.String())
	}
	a.cfg.Output = "json"
	a.printFailure(f)
	var o outcome
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	want := outcome{Site: "www", State: stateFailed, Active: rel1, Exit: 4, Class: "E_CONFLICT", Error: "www: too late", Hint: "try again"}
	got, _ := json.Marshal(o)
	if w, _ := json.Marshal(want); !bytes.Equal(got, w) {
		t.Errorf("%s\nwant\n%s", got, w)
	}
}

func TestDiffManifests(t *testing.T) {
	file := func(path, content string) release.File {
		return release.File{Path: path, Size: int64(len(content)), Digest: release.Sum([]byte(content))}
	}
	manifest := func(seq uint64, files ...release.File) *release.Manifest {
		m, err := release.New("www", seq, viewTime(), nil, files)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a := manifest(1, file("a", "1"), file("b", "1"), file("c", "1"))
	b := manifest(2, file("b", "22"), file("c", "1"), file("d", "1"))
	r := diffManifests(a, b)
	var out bytes.Buffer
	diffText(&tables{out: &out}, r)
	want := "+ d  1 B\n~ b  1 B -> 2 B\n- a  1 B\n" + string(a.ID()) + " to " + string(b.ID()) + ": 1 added, 1 changed, 1 removed, 1 the same\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

func TestShown(t *testing.T) {
	v := fixedView()
	s := shown(v, 2)
	if got, want := s.text(), "3/3 serving, skew 3.0 ms, not live: web-4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s = shown(v, 3)
	if got, want := s.text(), "0/3 serving, not live: web-4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// A node that is ahead shows it, but its swap says nothing about this epoch.
	st := v.Status["web-3"]
	st.Epoch, st.Swapped = 3, viewTime().Add(time.Hour)
	v.Status["web-3"] = st
	s = shown(v, 2)
	if got, want := s.text(), "3/3 serving, skew 1.5 ms, not live: web-4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
