package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"relman/cluster"
)

// TestBakeFlags: flags change what is given, and nothing else.
func TestBakeFlags(t *testing.T) {
	was := cluster.DefaultPolicy()
	was.Bake.Seconds, was.Bake.Probes = 60, []cluster.Probe{{Path: "/was"}}
	for _, c := range []struct {
		args []string
		want func(b *cluster.Bake)
		err  string
	}{
		{nil, func(*cluster.Bake) {}, ""},
		{[]string{"--bake", "0"}, func(b *cluster.Bake) { b.Seconds = 0 }, ""},
		{[]string{"--bake", "2m", "--bake-probe", "/a 301", "--bake-probe", "//h/b 200 x, y"}, func(b *cluster.Bake) {
			b.Seconds, b.Probes = 120, []cluster.Probe{{Path: "/a", Status: 301}, {Host: "h", Path: "/b", Status: 200, Text: "x, y"}}
		}, ""},
		{[]string{"--bake-probe", ""}, func(b *cluster.Bake) { b.Probes = nil }, ""},
		{[]string{"--bake-max-bad-nodes", "5%", "--bake-max-5xx", "0", "--bake-max-404", "2.5", "--bake-min-answers", "7"}, func(b *cluster.Bake) {
			b.MostBadNodes, b.Most5xx, b.Most404, b.LeastAnswers = "5%", 0, 2.5, 7
		}, ""},
		{[]string{"--bake", "1500ms"}, nil, "--bake 1.5s: give whole seconds"},
		{[]string{"--bake", "1s"}, nil, "bake.bake_s is 1"},
		{[]string{"--bake-probe", "a"}, nil, `probe "a": path is "a"`},
		{[]string{"--bake-max-bad-nodes", "x"}, nil, `bake.max_bad_nodes is "x"`},
	} {
		var given policyFlags
		f := pflag.NewFlagSet("set", pflag.ContinueOnError)
		given.add(f)
		if err := f.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		got := was
		err := given.apply(f.Changed, &got)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.args, err, c.err)
			}
			continue
		}
		want := was
		c.want(&want.Bake)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", c.args, got.Bake, err)
		}
	}
}

// TestBakeLines: what a policy says of baking, for people.
func TestBakeLines(t *testing.T) {
	b := cluster.DefaultPolicy().Bake
	if got := bakeLines(b); !reflect.DeepEqual(got, [][2]string{{"BAKE", "no"}}) {
		t.Errorf("%q", got)
	}
	b.Seconds, b.Probes = 90, []cluster.Probe{{Path: "/healthz.txt", Text: "ok"}}
	want := [][2]string{{"BAKE", "1m30s, back when more than 0 nodes say that it is bad; 5xx up by more than 1 points"}, {"PROBE", "/healthz.txt 200 ok"}}
	if got := bakeLines(b); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}
