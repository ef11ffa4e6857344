package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// serveVerb measures how a node's own server answers, beside nginx.
const serveVerb = "serve"

// serveOptions say how the servers are compared.
type serveOptions struct {
	bin, etcd string
	dir       string
	rounds    int
	seconds   int
	quick     bool
	cells     *regexp.Regexp
	install   bool
	json      string
	profile   string
}

func parseServe(args []string) (*serveOptions, error) {
	o := &serveOptions{}
	f := flag.NewFlagSet("bench serve", flag.ContinueOnError)
	f.StringVar(&o.bin, "relman", "bin/relman", "the relman to measure")
	f.StringVar(&o.etcd, "etcd", "bin/etcd", "the etcd that it uses")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where the releases are")
	f.IntVar(&o.rounds, "rounds", 3, "how often each cell is measured")
	f.IntVar(&o.seconds, "seconds", 1, "how long each time")
	f.BoolVar(&o.quick, "quick", false, "one round, idle, and nginx only as it is compared with")
	f.Func("cells", "the cells whose name matches this expression, such as '^1 KiB' (default: all)", func(s string) (err error) {
		o.cells, err = regexp.Compile(s)
		return err
	})
	f.BoolVar(&o.install, "install", false, "install nginx and wrk when they are missing")
	f.StringVar(&o.json, "json", "", "write all measurements to this file")
	f.StringVar(&o.profile, "profile", "", "write profiles of the agent's processor, one for each size, to this directory")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is one argument too many", f.Arg(0))
	}
	if o.rounds < 1 || o.seconds < 1 {
		return nil, errors.New("-rounds and -seconds are at least 1")
	}
	if o.quick {
		o.rounds = 1
	}
	var errs [3]error
	o.bin, errs[0] = existing(o.bin)
	o.etcd, errs[1] = existing(o.etcd)
	o.dir, errs[2] = existing(o.dir)
	return o, errors.Join(errs[:]...)
}

// runServe compares the servers. Without nginx or wrk there is nothing to
// compare; where skipping is forbidden that is an error.
func runServe(ctx context.Context, args []string) (err error) {
	o, err := parseServe(args)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if err := o.programs(ctx, say); err != nil {
		if os.Getenv("RELMAN_NO_SKIP") == "1" || os.Getenv("CI") == "true" {
			return err
		}
		say("*** SKIPPED: the own server is not compared with nginx: %v (-install fetches what is missing) ***", err)
		return nil
	}
	b, err := newBed(ctx, o.dir, o.bin, o.etcd, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	s, err := openServing(ctx, b)
	if err != nil {
		return err
	}
	r := &serveReport{
		Command: strings.Join(append([]string{"bench", serveVerb}, args...), " "), Machine: machine(),
		Rounds: o.rounds, Seconds: o.seconds, results: serveResults{},
	}
	cells := o.chosen()
	if o.quick {
		s.servers = s.servers[:2]
	}
	if err := s.measure(ctx, o, cells, r, say); err != nil {
		return err
	}
	if o.profile != "" {
		if err := s.profile(ctx, o.profile, cells, say); err != nil {
			return err
		}
	}
	r.Goals = judgeServing(r.results, cells)
	r.print(os.Stdout)
	return errors.Join(o.write(r), r.failures())
}

// programs finds nginx and wrk.
func (o *serveOptions) programs(ctx context.Context, say func(string, ...any)) error {
	var missing error
	for _, p := range []string{"nginx", "wrk"} {
		if find(p) == "" && o.install {
			missing = errors.Join(missing, install(ctx, p, say))
		}
		if find(p) == "" {
			missing = errors.Join(missing, fmt.Errorf("there is no %s", p))
		}
	}
	return missing
}

func (o *serveOptions) write(r *serveReport) error {
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(r.complete(), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(o.json), append(b, '\n'), 0o644)
}

// serveCell is one way to ask for one file.
type serveCell struct {
	Size  int  `json:"size"`  // of the body, in bytes
	Close bool `json:"close"` // a connection for each request
	Gzip  bool `json:"gzip"`  // the client takes it, and the build has it beside the file
	Flips bool `json:"flips"` // one each second
}

var serveSizes = []int{1 << 10, 16 << 10, 1 << 20}

// allServeCells are in the order of the table.
var allServeCells = func() (list []serveCell) {
	for _, size := range serveSizes {
		for _, closes := range []bool{false, true} {
			for _, gzip := range []bool{false, true} {
				for _, flips := range []bool{false, true} {
					list = append(list, serveCell{size, closes, gzip, flips})
				}
			}
		}
	}
	return list
}()

// chosen are the cells that are measured.
func (o *serveOptions) chosen() (list []serveCell) {
	for _, c := range allServeCells {
		if o.quick && c.Flips || o.cells != nil && !o.cells.MatchString(c.String()) {
			continue
		}
		list = append(list, c)
	}
	return list
}

func (c serveCell) String() string {
	text := fmt.Sprintf("%d KiB", c.Size>>10)
	if c.Size >= 1<<20 {
		text = fmt.Sprintf("%d MiB", c.Size>>20)
	}
	for _, w := range []struct {
		is  bool
		say string
	}{{c.Gzip, ", gzip"}, {c.Close, ", close"}, {c.Flips, ", flips"}} {
		if w.is {
			text += w.say
		}
	}
	return text
}

// measure takes the cells round by round and the servers in turn, so that what
// else the machine does meets them all.
func (s *serving) measure(ctx context.Context, o *serveOptions, cells []serveCell, r *serveReport, say func(string, ...any)) error {
	for round := range o.rounds {
		for _, c := range cells {
			for i := range s.servers {
				w := s.servers[(i+round)%len(s.servers)]
				if !w.takesPart(c) {
					continue
				}
				m, err := s.measureOne(ctx, w, c, time.Duration(o.seconds)*time.Second)
				if err != nil {
					return err
				}
				say("round %d, %s, %s: %.0f requests/s, p99 %v", round+1, c, w.name, m.rate(), time.Duration(m.P99)*time.Microsecond)
				r.results.add(serveKey{w.name, c}, m)
			}
		}
	}
	return nil
}

func (s *serving) measureOne(ctx context.Context, w *webServer, c serveCell, d time.Duration) (loaded, error) {
	if !c.Flips {
		return s.load(ctx, w, c, d)
	}
	stop := s.flipEachSecond(ctx)
	m, err := s.load(ctx, w, c, d)
	return m, errors.Join(err, stop())
}
