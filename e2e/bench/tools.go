package main

import (
	"context"
	"os/exec"
	"path/filepath"
)

// site is two versions of a build.
type site struct {
	name string
	v1   string
	v2   string
	big  bool // single files of many megabytes
}

// step is how a tool does what a cell is about.
type step struct {
	before func(context.Context) error           // not measured
	work   func(context.Context) (sample, error) // without the wire and the syncs
	after  func(context.Context) error           // not measured
	// A prefetch leaves a tree, which has to be equal to another one.
	into func() (string, error)
	want string
	// durable says that work does not end before its result is on the disk.
	durable bool
}

// tool is something that publishes and prefetches sites.
type tool interface {
	name() string
	// needs names programs; without them the tool is missing.
	needs() []string
	// open prepares for one site in one run. Cells without a step are not
	// what the tool does.
	open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error)
}

// relmanName is the tool that the others are compared with.
const relmanName = "relman"

// allTools are in the order of the table.
func allTools() []tool {
	return []tool{relmanTool{}, tarTool{}, rcloneTool{}, s3cmdTool{}, resticTool{}, casyncTool{}, ostreeTool{}, rsyncTool{}, rsyncTool{checksum: true}}
}

// toolDir is where -install puts what Go builds; it comes before $PATH.
const toolDir = ".cache/bench/bin"

// find is the path of a program, "" when it is not there.
func find(name string) string {
	if p, err := exec.LookPath(filepath.Join(toolDir, name)); err == nil {
		if abs, err := filepath.Abs(p); err == nil {
			return abs
		}
	}
	p, err := exec.LookPath(name)
	if err != nil { // servers are not in everybody's $PATH
		if p, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return ""
		}
	}
	return p
}

// runStep is the step that runs a program.
func runStep(p program) step { return step{work: p.measure} }

// fetchStep is the step that runs a program which leaves a tree.
func fetchStep(p program, into, want string) step {
	return step{work: p.measure, into: fixed(into), want: want}
}

// first is the step with something done before it.
func (s step) first(before func(context.Context) error) step {
	s.before = before
	return s
}

func fixed(dir string) func() (string, error) {
	return func() (string, error) { return dir, nil }
}
