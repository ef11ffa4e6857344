package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"relman/release"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

func TestDesired_activateTime(t *testing.T) {
	for name, c := range map[string]struct {
		d    Desired
		want time.Time
	}{
		"at once":       {Desired{}, time.Time{}},
		"in a while":    {Desired{SwapInMS: 1500}, noon.Add(1500 * time.Millisecond)},
		"at a time":     {Desired{SwapAt: noon.Add(time.Minute)}, noon.Add(time.Minute)},
		"now":           {Desired{SwapAt: noon}, time.Time{}},
		"when it was":   {Desired{SwapAt: noon.Add(-time.Minute)}, time.Time{}},
		"less than now": {Desired{SwapInMS: -5}, time.Time{}},
	} {
		if got := c.d.ActivateTime(noon); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestSchedule: what nodes show until it is time is what is kept to go back to.
func TestSchedule(t *testing.T) {
	held := func(n uint64) *Held { return &Held{Release: id(n), Buffer: int(n % 3)} }
	old := func(n uint64, epoch release.Epoch, at time.Time) Entry[Active] {
		h := held(n)
		a := Active{Release: h.Release, Buffer: h.Buffer, Epoch: epoch, Previous: held(n - 1), ActivateAt: at}
		if !at.IsZero() {
			a.Before = epoch - 1
		}
		return Entry[Active]{Value: a, Mod: 1, Create: 1}
	}
	later := noon.Add(time.Minute)
	first := func(at time.Time) Entry[Active] { // 1 pends, and nothing is shown
		e := old(1, 1, at)
		e.Value.Previous = nil
		return e
	}
	never := func(at time.Time) Entry[Active] { // 2 has overtaken it
		e := old(2, 2, at)
		e.Value.Before = 0
		return e
	}
	for name, c := range map[string]struct {
		old      Entry[Active]
		to       uint64
		at       time.Time
		previous *Held
		before   release.Epoch
		want     time.Time
	}{
		"the first":                       {Entry[Active]{}, 1, time.Time{}, nil, 0, time.Time{}},
		"the first, later":                {Entry[Active]{}, 1, later, nil, 0, later},
		"at once":                         {old(2, 7, time.Time{}), 3, time.Time{}, held(2), 0, time.Time{}},
		"later":                           {old(2, 7, time.Time{}), 3, later, held(2), 7, later},
		"later, after one that was":       {old(2, 7, noon), 3, later, held(2), 7, later},
		"at once, while another pends":    {old(2, 7, later), 3, time.Time{}, held(1), 0, time.Time{}},
		"later, while another pends":      {old(2, 7, later), 3, later, held(1), 6, later},
		"later, while another is near":    {old(2, 7, noon.Add(MaxClockError)), 3, later, held(2), 7, later},
		"back, while it pends":            {old(2, 7, later), 1, time.Time{}, held(2), 0, time.Time{}},
		"back and later, while it pends":  {old(2, 7, later), 1, later, held(2), 0, time.Time{}},
		"it is brought forward":           {old(2, 7, later), 2, time.Time{}, held(1), 0, time.Time{}},
		"it is put off":                   {old(2, 7, later), 2, later.Add(time.Minute), held(1), 6, later.Add(time.Minute)},
		"the first is brought forward":    {first(later), 1, time.Time{}, nil, 0, time.Time{}},
		"the first is put off":            {first(later), 1, later.Add(time.Minute), nil, 0, later.Add(time.Minute)},
		"the first is overtaken":          {first(later), 2, later, held(1), 0, later},
		"the first is, at once":           {first(later), 2, time.Time{}, held(1), 0, time.Time{}},
		"back to a first never shown":     {never(later), 1, later, held(2), 0, later},
		"back and later, after it pended": {old(2, 7, noon), 1, later, held(2), 7, later},
	} {
		h := held(c.to)
		a := Active{Release: h.Release, Buffer: h.Buffer, Epoch: c.old.Value.Epoch + 1, At: noon}.Schedule(c.old, c.at)
		if fmt.Sprint(a.Previous) != fmt.Sprint(c.previous) || a.Before != c.before || !a.ActivateAt.Equal(c.want) {
			t.Errorf("%s: previous %v, before %d, at %s", name, a.Previous, a.Before, a.ActivateAt)
		}
	}
}

func TestActive_waitsAt(t *testing.T) {
	a := Active{Epoch: 8, Before: 6, Previous: &Held{Buffer: 2}, At: noon, ActivateAt: noon.Add(time.Minute)}
	for _, c := range []struct {
		at      time.Duration
		applied release.Epoch
		waits   bool
	}{{0, 0, true}, {0, 6, true}, {0, 7, false}, {0, 8, false}, {time.Minute - 1, 6, true}, {time.Minute, 6, false}} {
		h, epoch, waits := a.WaitsAt(noon.Add(c.at), c.applied)
		if waits != c.waits || waits && (h != a.Previous || epoch != 6) {
			t.Errorf("%v: %v %d %v", c, h, epoch, waits)
		}
	}
	if !a.Since().Equal(a.ActivateAt) || !(Active{At: noon}).Since().Equal(noon) {
		t.Errorf("since %s", a.Since())
	}
}

// TestClockError: what ticks say of a clock that is off, with what they have on their
// way.
func TestClockError(t *testing.T) {
	type tick struct {
		leader int64
		way    time.Duration
	}
	few := func(ways ...time.Duration) (all []tick) {
		for _, w := range ways {
			all = append(all, tick{1, w})
		}
		return all
	}
	const ms, h = time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		off   time.Duration
		ticks []tick
		want  time.Duration
	}{
		"nothing heard":                      {h, nil, 0},
		"good":                               {3 * ms, few(1*ms, 5*ms, 2*ms), 0},
		"good, and slow ways":                {0, few(8*time.Second, 2*time.Second, 1*ms, 3*time.Second), 0},
		"good, after a start":                {0, few(9 * time.Second), 0},
		"ahead, not known yet":               {h, few(ms), 0},
		"ahead, and one may be slow":         {h, few(9*time.Second, 2*ms), 0},
		"ahead":                              {h, few(9*time.Second, 2*ms, time.Second), h + 2*ms},
		"behind, by the first":               {-h, few(ms), -h + ms},
		"behind, by the first, late":         {-h, few(9 * time.Second), -h + 9*time.Second},
		"behind":                             {-h, few(9*time.Second, ms), -h + ms},
		"at the bound":                       {MaxClockError - ms, few(2*ms, ms, ms), 0},
		"over the bound":                     {MaxClockError, few(2*ms, ms, ms), MaxClockError + ms},
		"behind, at the bound":               {-MaxClockError, few(0, ms), 0},
		"another leader's clock":             {0, []tick{{1, -h}, {1, -h}, {2, ms}}, 0},
		"another leader's clock, that is it": {0, []tick{{1, ms}, {1, ms}, {2, -h}}, -h},
		"set right meanwhile":                {0, few(-h, ms, ms, ms, ms, ms, ms), 0},
		"not yet forgotten":                  {0, few(-h, ms, ms, ms, ms, ms), -h},
	} {
		var e clockError
		for i, k := range c.ticks {
			at := noon.Add(time.Duration(i) * TickEvery)
			kv := &mvccpb.KeyValue{Value: []byte(encode(Clock{At: at, Leader: k.leader}))}
			for range 2 { // the same, read again later
				if err := e.hear(kv, at.Add(k.way+c.off)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := e.estimate(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	var e clockError
	if e.hear(&mvccpb.KeyValue{Value: []byte(`{}`)}, noon) == nil || e.hear(&mvccpb.KeyValue{Value: []byte(`no`)}, noon) == nil || e.hear(nil, noon) != nil {
		t.Error("what is no time is taken for one")
	}
}

func TestView_skew(t *testing.T) {
	says := func(after time.Duration, off int64, epoch release.Epoch) Status {
		return Status{Epoch: epoch, Swapped: noon.Add(after), ClockErrorMS: off}
	}
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		says []Status
		dead []int
		ms   float64
		n    int
		off  []release.NodeID
		ok   bool
	}{
		"nobody":                 {nil, nil, 0, 0, nil, false},
		"one":                    {[]Status{says(ms, 0, 7)}, nil, 0, 1, nil, false},
		"three":                  {[]Status{says(ms, 0, 7), says(3500*time.Microsecond, 0, 7), says(2*ms, 0, 7)}, nil, 2.5, 3, nil, true},
		"one knows it is wrong":  {[]Status{says(ms, 0, 7), says(2*ms, 0, 7), says(time.Hour, 3600_000, 7)}, nil, 1, 2, []release.NodeID{"n2"}, true},
		"one swapped before it":  {[]Status{says(ms, 0, 7), says(2*ms, 0, 7), says(-time.Hour, 0, 7)}, nil, 1, 2, []release.NodeID{"n2"}, true},
		"a little before it":     {[]Status{says(ms, 0, 7), says(-2*ms, 0, 7)}, nil, 3, 2, nil, true},
		"one is not so far":      {[]Status{says(ms, 0, 7), says(2*ms, 0, 7), says(9*ms, 0, 6)}, nil, 1, 2, nil, true},
		"one is dead":            {[]Status{says(ms, 0, 7), says(2*ms, 0, 7), says(9*ms, 0, 7)}, []int{2}, 1, 2, nil, true},
		"one was started anew":   {[]Status{says(ms, 0, 7), says(2*ms, 0, 7), {Epoch: 7}}, nil, 1, 2, nil, true},
		"all but one are wrong":  {[]Status{says(ms, 0, 7), says(2*ms, 900, 7)}, nil, 0, 1, []release.NodeID{"n1"}, false},
		"what says nothing true": {[]Status{says(ms, 0, 7), {}}, nil, 0, 1, nil, false},
	} {
		v := newView("www", 1)
		v.Active = Entry[Active]{Value: Active{Epoch: 7, At: noon}, Mod: 1, Create: 1}
		for i, s := range c.says {
			n := release.NodeID(fmt.Sprint("n", i))
			v.Claims = append(v.Claims, Claim{Node: n})
			v.Status[n] = s
			if !slices.Contains(c.dead, i) {
				v.Live[n] = Live{}
			}
		}
		s, ok := v.Skew()
		if ok != c.ok || s.MS != c.ms || s.Nodes != c.n || !slices.Equal(s.Off, c.off) {
			t.Errorf("%s: %+v %v", name, s, ok)
		}
	}
}

// TestNoteSkew: it is written once, by the leader, and read with the epochs.
func TestNoteSkew(t *testing.T) {
	w := newWorld(t, dial(t))
	v := w.view()
	w.commit(NoteSkew(w.fence, v, Skew{MS: 1.5, Nodes: 4}))
	for _, f := range []Fence{w.fence, {Key: w.fence.Key, Create: w.fence.Create - 1}} {
		if _, err := w.c.Commit(t.Context(), NoteSkew(f, v, Skew{MS: 9})); RefusedBy(err) == "" {
			t.Errorf("a second one: %v", err)
		}
	}
	all, err := w.c.Skews(t.Context(), w.site, 10)
	if err != nil || len(all) != 1 || all[v.Active.Value.Epoch].MS != 1.5 || all[v.Active.Value.Epoch].Nodes != 4 {
		t.Errorf("%+v %v", all, err)
	}
}

// TestTick: a node hears what time it is, and knows by which clock it goes itself.
func TestTick(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.c.Node(Self{Node: w.nodes[0].Node}, Live{Boot: "01CLOCK"}, Join{})
	n.Clock(func() time.Time { return time.Now().Add(-time.Hour) })
	if n.ClockError() != 0 {
		t.Error("it knows before it has heard")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.FollowSites(ctx, func([]release.Site) {}) }()
	w.commit(Tick(w.fence, time.Now()))
	for end := time.Now().Add(20 * time.Second); (n.ClockError() + time.Hour).Abs() > 20*time.Second; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the error is %v", n.ClockError())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
