// Command bench measures relman and other tools that publish and prefetch
// sites, on the same sites, against the same S3 server, over the same wire, in
// one run. docs/performance.md says what is measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	bin, etcd    string
	dir          string
	in           inputs
	on           string
	tools, cells string
	runs         int
	rate         string
	limit        time.Duration
	install      bool
	json, svg    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 4 && args[0] == putVerb {
		return putTar(ctx, args[1], args[2], args[3])
	}
	if len(args) == 4 && args[0] == getVerb {
		return getTar(ctx, args[1], args[2], args[3])
	}
	if len(args) > 0 && args[0] == serveVerb {
		return runServe(ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return o.run(ctx, "bench "+strings.Join(args, " "))
}

func parse(args []string) (*options, error) {
	o := &options{in: inputs{trees: map[string]string{}}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.bin, "relman", "bin/relman", "the relman to measure")
	f.StringVar(&o.etcd, "etcd", "bin/etcd", "the etcd that it uses")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where all trees and the store are: one file system")
	f.StringVar(&o.in.archives, "sites", or(os.Getenv("RELMAN_SITES"), "../shared/sites"), "where the archives of the real sites are")
	f.Func("tree", "a site of your own, NAME=DIR1,DIR2: two versions; may be repeated", func(s string) error {
		name, dirs, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("it looks like NAME=DIR1,DIR2")
		}
		o.in.trees[name] = dirs
		return nil
	})
	f.StringVar(&o.on, "on", "", "the sites: docs, mkt, etcdio, many100k, many10k, big500, exe, and those of -tree (default: docs,mkt, and many10k where there are no archives)")
	f.StringVar(&o.tools, "tools", "relman,tar.zst,rclone,restic,casync,rsync,rsync -c", "the tools, or all (s3cmd and ostree, too)")
	f.StringVar(&o.cells, "cells", "all", "the cells; most stand on those before them, as a prefetch on its publish")
	f.IntVar(&o.runs, "runs", 3, "how often")
	f.StringVar(&o.rate, "rate", "", "the rate of the wire in each direction, such as 1Gbit or 100Mbit (default: no limit)")
	f.DurationVar(&o.limit, "limit", 3*time.Minute, "how long a tool may take in a cell")
	f.BoolVar(&o.install, "install", false, "install tools that are missing")
	f.StringVar(&o.json, "json", "", "write all measurements to this file")
	f.StringVar(&o.svg, "svg", "", "draw them into this file")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is one argument too many", f.Arg(0))
	}
	if o.runs < 1 {
		return nil, errors.New("-runs is at least 1")
	}
	if o.on == "" {
		o.on = "docs,mkt"
		if _, err := os.Stat(o.in.archives); err != nil {
			fmt.Fprintf(os.Stderr, "*** MISSING: the real sites (%v): a generated one is measured ***\n", err)
			o.on = "many10k"
		}
	}
	var errs [3]error
	o.bin, errs[0] = existing(o.bin)
	o.etcd, errs[1] = existing(o.etcd)
	o.dir, errs[2] = existing(o.dir)
	return o, errors.Join(errs[:]...)
}

func (o *options) run(ctx context.Context, command string) (err error) {
	rate, err := parseRate(o.rate)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	r := &report{Command: command, Machine: machine(), Rate: o.rate, Runs: o.runs, results: results{}}
	tools, err := o.chooseTools(ctx, r, say)
	if err != nil {
		return err
	}
	if r.cells, err = o.chooseCells(); err != nil {
		return err
	}
	b, err := newBed(ctx, o.dir, o.bin, o.etcd, rate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	o.in.dir = b.dir
	m := &bench{bed: b, tools: tools, cells: r.cells, limit: o.limit, results: r.results, say: say, trees: map[string]tree{}}
	for name := range strings.SplitSeq(o.on, ",") {
		if err := o.measure(ctx, m, r, name, rate > 0); err != nil {
			return err
		}
	}
	r.print(os.Stdout)
	return errors.Join(o.write(r), r.failures())
}

func (o *options) measure(ctx context.Context, m *bench, r *report, name string, limited bool) error {
	m.say("making the site %s", name)
	s, err := o.in.site(ctx, name)
	if err != nil {
		return err
	}
	v1, err := m.input(s.v1)
	if err != nil {
		return err
	}
	v2, err := m.input(s.v2)
	if err != nil {
		return err
	}
	for run := range o.runs {
		if err := m.run(ctx, s, run); err != nil {
			return err
		}
	}
	r.Sites = append(r.Sites, siteReport{
		Name: name, Files: len(v2.digests), Bytes: v2.bytes, Changed: v1.differs(v2),
		Goals: judge(r.results, name, s.big, limited, r.peers()),
	})
	return nil
}

// chooseTools finds the tools, and says which are missing.
func (o *options) chooseTools(ctx context.Context, r *report, say func(string, ...any)) ([]tool, error) {
	wanted := strings.Split(o.tools, ",")
	var list []tool
	for _, t := range allTools() {
		if o.tools != "all" && !slices.Contains(wanted, t.name()) {
			continue
		}
		wanted = slices.DeleteFunc(wanted, func(n string) bool { return n == t.name() })
		var missing error
		for _, p := range t.needs() {
			if find(p) == "" && o.install {
				missing = errors.Join(missing, install(ctx, p, say))
			}
			if find(p) == "" {
				missing = errors.Join(missing, fmt.Errorf("there is no %s", p))
			}
		}
		if missing != nil {
			say("*** MISSING: %s: %v", t.name(), missing)
			r.Missing = append(r.Missing, t.name())
			continue
		}
		list = append(list, t)
		r.tools = append(r.tools, t.name())
	}
	if o.tools != "all" && len(wanted) > 0 {
		return nil, fmt.Errorf("there is no tool %q", wanted[0])
	}
	return list, nil
}

// chooseCells keeps the order of a run: a cell stands on those before it.
func (o *options) chooseCells() ([]cell, error) {
	if o.cells == "all" {
		return allCells, nil
	}
	wanted := strings.Split(o.cells, ",")
	var list []cell
	for _, c := range allCells {
		if slices.Contains(wanted, string(c)) {
			list = append(list, c)
			wanted = slices.DeleteFunc(wanted, func(n string) bool { return n == string(c) })
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("there is no cell %q: they are %q", wanted[0], allCells)
	}
	return list, nil
}

// write writes the files that were asked for.
func (o *options) write(r *report) error {
	if o.svg != "" {
		f, err := os.Create(o.svg)
		if err != nil {
			return err
		}
		r.plot(f)
		if err := f.Close(); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(r.complete(), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(o.json), append(b, '\n'), 0o644)
}
