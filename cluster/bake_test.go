package cluster

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"relman/release"
)

// TestBake_validate: a policy's bake is refused with the name of each field that is
// wrong.
func TestBake_validate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *Bake)
		want   string // "" for none
	}{
		"off":                    {func(*Bake) {}, ""},
		"on":                     {func(b *Bake) { b.Seconds, b.Probes = 60, []Probe{{Path: "/a?b=c", Host: "www.example", Status: 301}} }, ""},
		"too short":              {func(b *Bake) { b.Seconds = 4 }, "bake.bake_s is 4, it can be 0, or 5 to 86400"},
		"negative":               {func(b *Bake) { b.Seconds = -5 }, "bake.bake_s is -5"},
		"no path":                {func(b *Bake) { b.Probes = []Probe{{Path: "/"}, {Path: "healthz"}} }, `bake.probes[1].path is "healthz"`},
		"a URL":                  {func(b *Bake) { b.Probes = []Probe{{Path: "http://a/b"}} }, "bake.probes[0].path"},
		"another host":           {func(b *Bake) { b.Probes = []Probe{{Path: "//a/b"}} }, "bake.probes[0].path"},
		"a space":                {func(b *Bake) { b.Probes = []Probe{{Path: "/a b\r\nX: y"}} }, "bake.probes[0].path"},
		"no host":                {func(b *Bake) { b.Probes = []Probe{{Path: "/", Host: "a\r\nb"}} }, "bake.probes[0].host"},
		"no status":              {func(b *Bake) { b.Probes = []Probe{{Path: "/", Status: 99}} }, "bake.probes[0].status is 99"},
		"a long text":            {func(b *Bake) { b.Probes = []Probe{{Path: "/", Text: strings.Repeat("x", 201)}} }, "bake.probes[0].text"},
		"too many":               {func(b *Bake) { b.Probes = make([]Probe, 21) }, "bake.probes are 21, there can be 20"},
		"no number of nodes":     {func(b *Bake) { b.MostBadNodes = "few" }, `bake.max_bad_nodes is "few"`},
		"no percentage":          {func(b *Bake) { b.MostBadNodes = "101%" }, `bake.max_bad_nodes is "101%"`},
		"more than all answers":  {func(b *Bake) { b.Most5xx = 101 }, "bake.max_5xx is 101"},
		"fewer than none":        {func(b *Bake) { b.Most404 = -1 }, "bake.max_404 is -1"},
		"a share out of nothing": {func(b *Bake) { b.LeastAnswers = 0 }, "bake.min_answers is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := DefaultPolicy()
			c.change(&p.Bake)
			err := p.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestPolicy_withoutBake: a policy that an older program wrote bakes nothing, and a
// part of a bake is completed.
func TestPolicy_withoutBake(t *testing.T) {
	var p Policy
	if err := json.Unmarshal([]byte(`{"min":"1"}`), &p); err != nil || !reflect.DeepEqual(p.Bake, DefaultPolicy().Bake) {
		t.Errorf("%+v, %v", p.Bake, err)
	}
	if err := json.Unmarshal([]byte(`{"bake":{"bake_s":60,"max_5xx":0}}`), &p); err != nil || p.Validate() != nil {
		t.Errorf("%v, %v", err, p.Validate())
	}
	if b := p.Bake; b.Seconds != 60 || b.Most5xx != 0 || b.MostBadNodes != "0" || b.LeastAnswers != 100 {
		t.Errorf("%+v", b)
	}
}

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]Probe{
		"/":                           {Path: "/"},
		"/a 301":                      {Path: "/a", Status: 301},
		"/a 200 all is well":          {Path: "/a", Status: 200, Text: "all is well"},
		"//www.example.org/a 404 no!": {Host: "www.example.org", Path: "/a", Status: 404, Text: "no!"},
	} {
		got, err := ParseProbe(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v, %q, %v", text, got, got.String(), err)
		}
	}
	for _, text := range []string{"", "a", "//host", "/a text", "/a 600", "/a 20", "http://a/"} {
		if p, err := ParseProbe(text); err == nil && text != "//host" {
			t.Errorf("%q is %+v", text, p)
		}
	}
}

// TestView_tasted: only what entered members say of this epoch counts.
func TestView_tasted(t *testing.T) {
	v := newView("www", 1)
	v.Active = Entry[Active]{Value: Active{Epoch: 7, Bake: &Bake{MostBadNodes: "40%"}}, Create: 1}
	say := func(n release.NodeID, b *BakeReport) {
		v.Claims = append(v.Claims, Claim{Node: n}, Claim{Node: n, Buffer: 1})
		v.Status[n] = Status{Bake: b}
	}
	say("n1", &BakeReport{Epoch: 7, Good: true})
	say("n2", &BakeReport{Epoch: 7, Good: true, Bad: "x"})
	say("n3", &BakeReport{Epoch: 6, Bad: "before"})
	say("n4", nil)
	say("n5", &BakeReport{Epoch: 7, Bad: "x"})
	v.Live = map[release.NodeID]Live{"n1": {}, "n2": {}, "n3": {}, "n9": {}}
	v.Status["n9"] = Status{Bake: &BakeReport{Epoch: 7, Bad: "no member"}}
	want := Tasted{Good: []release.NodeID{"n1"}, Bad: []release.NodeID{"n2", "n5"}, Silent: []release.NodeID{"n3"}, Of: 5}
	if got := v.Tasted(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	v.Active.Value.Bake.MostBadNodes = "39%" // of five: one
	if !v.Tasted().Over {
		t.Error("two bad nodes are not too many")
	}
}
