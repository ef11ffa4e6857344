package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"relman/cluster"
	"relman/release"
)

// bakeFlags are the flags of a policy that say how a release bakes.
type bakeFlags struct {
	given  cluster.Bake
	during time.Duration
	probes []string
}

func (b *bakeFlags) add(f *pflag.FlagSet) {
	d := cluster.DefaultPolicy().Bake
	f.DurationVar(&b.during, "bake", 0, "how long a release is looked at after its flip, and goes back by itself when it is bad: 5s to 24h, 0 for not at all")
	f.StringArrayVar(&b.probes, "bake-probe", nil, "what every node asks its own server meanwhile: '[//HOST]/PATH [STATUS [TEXT]]'; several times for several, '' for none")
	f.StringVar(&b.given.MostBadNodes, "bake-max-bad-nodes", d.MostBadNodes, "how many nodes may say that it is bad: a number, or a percentage, rounded down")
	f.Float64Var(&b.given.Most5xx, "bake-max-5xx", d.Most5xx, "by how many percent points a node's answers of 5xx may be above those of the release before; 0: any")
	f.Float64Var(&b.given.Most404, "bake-max-404", d.Most404, "the same of 404, which any visitor can cause; 0: any")
	f.IntVar(&b.given.LeastAnswers, "bake-min-answers", d.LeastAnswers, "how many answers of each of the two releases a node needs to compare them")
}

// apply takes over the flags that were given.
func (b *bakeFlags) apply(set func(flag string) bool, to *cluster.Bake) error {
	if b.during%time.Second != 0 {
		return usagef("--bake %v: give whole seconds", b.during)
	}
	var probes []cluster.Probe
	for _, text := range b.probes {
		if strings.TrimSpace(text) == "" {
			continue
		}
		p, err := cluster.ParseProbe(text)
		if err != nil {
			return usageError(err)
		}
		probes = append(probes, p)
	}
	for flag, take := range map[string]func(){
		"bake":               func() { to.Seconds = int(b.during / time.Second) },
		"bake-probe":         func() { to.Probes = probes },
		"bake-max-bad-nodes": func() { to.MostBadNodes = b.given.MostBadNodes },
		"bake-max-5xx":       func() { to.Most5xx = b.given.Most5xx },
		"bake-max-404":       func() { to.Most404 = b.given.Most404 },
		"bake-min-answers":   func() { to.LeastAnswers = b.given.LeastAnswers },
	} {
		if set(flag) {
			take()
		}
	}
	return nil
}

// bakeLines are the lines of a policy about baking.
func bakeLines(b cluster.Bake) [][2]string {
	if b.Seconds == 0 {
		return [][2]string{{"BAKE", "no"}}
	}
	text := fmt.Sprintf("%v, back when more than %s nodes say that it is bad", b.Time(), b.MostBadNodes)
	for _, r := range []struct {
		what string
		most float64
	}{{"5xx", b.Most5xx}, {"404", b.Most404}} {
		if r.most > 0 {
			text += fmt.Sprintf("; %s up by more than %v points", r.what, r.most)
		}
	}
	lines := [][2]string{{"BAKE", text}}
	for _, p := range b.Probes {
		lines = append(lines, [2]string{"PROBE", p.String()})
	}
	return lines
}

// bakingReport is what bakes, in `relman status -o json`.
type bakingReport struct {
	Until time.Time        `json:"until"`
	Good  []release.NodeID `json:"good"` // whose probes are right so far
	Bad   []release.NodeID `json:"bad"`
	Of    int              `json:"of"` // nodes
}

// reportBaking is nil when nothing bakes.
func reportBaking(v *cluster.View) *bakingReport {
	if !v.Baking() {
		return nil
	}
	t := v.Tasted()
	return &bakingReport{Until: v.Active.Value.BakeEnd(), Good: t.Good, Bad: t.Bad, Of: t.Of}
}

// bakingText says how the bake goes, without its time.
func bakingText(v *cluster.View) string {
	t := v.Tasted()
	text := fmt.Sprintf("good on %d/%d nodes", len(t.Good), t.Of)
	var bad []string
	for _, n := range t.Bad {
		bad = append(bad, fmt.Sprintf("%s: %s", n, v.Status[n].Bake.Bad))
	}
	if len(bad) > 0 {
		text += fmt.Sprintf(", bad on %d (%s)", len(bad), some(bad))
	}
	if len(t.Silent) > 0 {
		text += ", nothing yet from " + some(t.Silent)
	}
	return text
}

// toBaked waits for the end of a bake: it has passed, or was reverted.
func (f *follower) toBaked(ctx context.Context) error {
	a := f.v.Active.Value
	if a.Epoch != f.result.Epoch || a.Bake == nil || !f.out.Changed {
		return nil
	}
	began := time.Now()
	f.u.step("bakes", 0, fmt.Sprintf("for %v: it goes back when it turns out to be bad; `relman confirm -s %s` keeps it", a.Bake.Time(), f.s.site))
	within := a.Bake.Time() + max(0, time.Until(a.Since())) // when it is shown, if that is later
	ctx, cancel := context.WithTimeoutCause(ctx, within+f.v.Policy.Value.Grace()+resultWithin, errNoResult)
	defer cancel()
	f.u.progress.begin("baking", nodesDone)
	defer f.u.progress.end()
	says := f.bakeProgress(ctx, within)
	err := f.s.client.Follow(ctx, f.s.site, func(v *cluster.View) bool {
		f.v = v
		says(bakingText(v))
		return v.Active.Value.Epoch != a.Epoch || !v.Baking()
	})
	cancel()
	f.u.progress.end()
	switch {
	case err == nil && f.v.Active.Value.Epoch == a.Epoch && f.v.Confirmed.Value == uint64(a.Epoch):
		f.u.step("confirmed", time.Since(began), "")
	case err == nil && f.v.Active.Value.Epoch == a.Epoch:
		f.u.step("baked", time.Since(began), bakingText(f.v))
	case errors.Is(context.Cause(ctx), errNoResult):
		return f.undecided(&failure{
			code: exitUnknown, class: classTimeout, err: err, text: "no manager ended the bake in time: " + bakingText(f.v),
			hint: "does a manager run? does a freeze forbid to go back? do all nodes hold the previous release? `relman status` shows it, `relman confirm` keeps what is active",
		})
	}
	return err
}

// bakeProgress shows what was said last, and how much time is left.
func (f *follower) bakeProgress(ctx context.Context, all time.Duration) (says func(string)) {
	var mu sync.Mutex
	var text string
	began := time.Now()
	show := func() {
		mu.Lock()
		defer mu.Unlock()
		spent := min(time.Since(began), all)
		f.u.progress.set(int64(spent), int64(all), fmt.Sprintf("%s, %s left", text, secondsText((all-spent).Seconds())))
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				show()
			}
		}
	}()
	return func(now string) {
		mu.Lock()
		text = now
		mu.Unlock()
		show()
	}
}

// wasReverted is how a command ends whose release has gone back by itself, nil for
// any other.
func (f *follower) wasReverted() error {
	r := f.v.Results[f.d.Request]
	if r.State != cluster.StateReverted {
		return nil
	}
	why := revertedFailure(f.d.Release, r.Error.Text)
	f.out.State, f.out.Changed, f.out.Active, f.out.Nodes = stateFailed, false, f.v.Active.Value.Release, r.Error.Nodes
	why.out = &f.out
	f.u.end("REVERTED", fmt.Sprintf("%s = %s: %s was %s", f.s.site, f.out.Active, f.d.Release, why.text))
	return why
}
