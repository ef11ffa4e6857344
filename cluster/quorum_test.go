package cluster

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"relman/release"
)

// members makes a view of entered members, and of others by their state.
func members(in int, others ...Entry[Member]) *View {
	v := newView("www", 1)
	v.Policy = Entry[Policy]{Value: DefaultPolicy(), Mod: 1, Create: 1}
	for i := range in {
		n := release.NodeID(fmt.Sprintf("in-%d", i))
		v.Members[n] = Entry[Member]{Value: MemberIn, Mod: 5, Create: 5}
		v.Claims = append(v.Claims, Claim{Node: n, Group: "main", Buffer: 1, Release: id(1)})
	}
	for i, m := range others {
		v.Members[release.NodeID(fmt.Sprintf("other-%d", i))] = m
	}
	return v
}

func TestRegistered(t *testing.T) {
	out, drain := Entry[Member]{MemberOut, 7, 5}, Entry[Member]{MemberDrain, 7, 5}
	fresh, again := Entry[Member]{MemberIn, 5, 5}, Entry[Member]{MemberIn, 9, 5}
	for _, c := range []struct {
		others []Entry[Member]
		want   int
	}{
		{nil, 3},
		{[]Entry[Member]{out}, 4},
		{[]Entry[Member]{drain, out}, 5},
		{[]Entry[Member]{fresh}, 3}, // it has never entered: it holds up nothing
		{[]Entry[Member]{again}, 4}, // its return does not lower the bar
	} {
		if got := members(3, c.others...).Registered(); got != c.want {
			t.Errorf("with %v: %d registered, want %d", c.others, got, c.want)
		}
	}
	v := members(2)
	clear(v.Members) // by hand; their claims would hold up a flip
	if got := v.Registered(); got != 2 {
		t.Errorf("%d registered, want those that claim", got)
	}
}

func TestBar(t *testing.T) {
	out := Entry[Member]{MemberOut, 7, 5}
	for _, c := range []struct {
		min, maxOut string
		in, out     int
		d           Desired
		need, most  int
	}{
		{"50%", "20%", 1, 0, Desired{}, 1, 1},
		{"50%", "20%", 2, 0, Desired{}, 1, 1},
		{"50%", "20%", 2, 1, Desired{}, 2, 1}, // of three, rounded up
		{"50%", "20%", 4, 0, Desired{}, 2, 1},
		{"50%", "20%", 8, 2, Desired{}, 5, 2},
		{"100%", "20%", 3, 1, Desired{}, 4, 1},
		{"3", "0", 3, 1, Desired{}, 3, 0},
		{"50%", "20%", 4, 0, Desired{Require: "all"}, 4, 1},
		{"50%", "20%", 3, 1, Desired{Require: "75%"}, 3, 1},
		{"50%", "20%", 4, 0, Desired{Require: "1"}, 2, 1}, // it cannot ask for less
		{"50%", "20%", 1, 3, Desired{Override: []Override{OverrideRequire}}, 1, 4},
		{"50%", "20%", 1, 3, Desired{Override: []Override{OverrideRequire}, Require: "2"}, 2, 4},
	} {
		v := members(c.in)
		for i := range c.out {
			v.Members[release.NodeID(fmt.Sprint("out-", i))] = out
		}
		v.Policy.Value.Min, v.Policy.Value.MostOutNodes = c.min, c.maxOut
		b, err := v.Bar(c.d)
		if err != nil || b.Need != c.need || b.MostOut != c.most || b.Registered != c.in+c.out {
			t.Errorf("%+v: %+v %v", c, b, err)
		}
		if got := v.EnoughFor(v.Ready(1, id(1)), c.d); got != (c.in >= c.need) {
			t.Errorf("%+v: enough %v", c, got)
		}
	}
	if _, err := members(1).Bar(Desired{Require: "most"}); err == nil || !strings.Contains(err.Error(), `require is "most"`) {
		t.Errorf("error %v", err)
	}
}

func TestEnough_requireLive(t *testing.T) {
	v := members(3)
	v.Policy.Value.RequireLive = true
	v.Live["in-0"], v.Live["in-1"] = Live{}, Live{}
	r := v.Ready(1, id(1))
	if v.Enough(r) || len(r.Late) > 0 || len(v.LateFor(r)) != 1 || v.LateFor(r)[0] != "in-2" {
		t.Errorf("enough %v, late %v", v.Enough(r), v.LateFor(r))
	}
	v.Live["in-2"] = Live{}
	if !v.Enough(r) || len(v.LateFor(r)) > 0 {
		t.Errorf("enough %v, late %v", v.Enough(r), v.LateFor(r))
	}
}

func TestPolicy_validate(t *testing.T) {
	if err := DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(p *Policy){
		`policy: min is "most", it can be a number from 1 or a percentage`:                func(p *Policy) { p.Min = "most" },
		`policy: min is "0%", a percentage can be 1% to 100%`:                             func(p *Policy) { p.Min = "0%" },
		`policy: max_out is "-1", it can be a number from 0 or a percentage`:              func(p *Policy) { p.MostOutNodes = "-1" },
		`policy: max_out is "101%", a percentage can be 1% to 100%`:                       func(p *Policy) { p.MostOutNodes = "101%" },
		`policy: prepare_deadline_s is 0, it can be 1 to 86400`:                           func(p *Policy) { p.PrepareDeadlineSeconds = 0 },
		`policy: grace_s is -1, it can be 0 to 86400`:                                     func(p *Policy) { p.GraceSeconds = -1 },
		`policy: fence_s is 0, it can be 1 to 3600`:                                       func(p *Policy) { p.FenceSeconds = 0 },
		`policy: stragglers is "kill", it can be out or wait`:                             func(p *Policy) { p.Stragglers = "kill" },
		`policy: admission is "", it can be auto or approve`:                              func(p *Policy) { p.Admission = "" },
		`policy: buffers is 9, it can be 3 to 8; stragglers is "", it can be out or wait`: func(p *Policy) { p.Buffers, p.Stragglers = 9, "" },
	} {
		p := DefaultPolicy()
		change(&p)
		if err := p.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// TestPolicy_old: what an older program wrote is completed; it waits for every
// node, as it did.
func TestPolicy_old(t *testing.T) {
	var p Policy
	if err := decode("config", []byte(`{"min":"100%","prepare_deadline_s":600,"buffers":4}`), &p); err != nil {
		t.Fatal(err)
	}
	want := DefaultPolicy()
	want.Min, want.Buffers = "100%", 4
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v", p)
	}
}

func TestPolicy_fenceWait(t *testing.T) {
	p := DefaultPolicy()
	for own, want := range map[int]string{0: "11.1s", 5: "11.1s", 20: "21.2s"} {
		if got := p.FenceWait(Last{FenceMS: int64(own) * 1000}.Fence()).String(); got != want {
			t.Errorf("a fence of %d s: %s, want %s", own, got, want)
		}
	}
}
