package main

import (
	"context"
	"errors"
	"fmt"

	"relman/cluster"
	"relman/release"
)

// showing says which nodes show an epoch, or a later one.
type showing struct {
	cluster.Showing
	skew  *cluster.Skew    // between the swaps to this epoch; nil: not known
	off   []release.NodeID // their clocks are wrong
	wrong string           // by how much
}

// shown looks which of the nodes that count show an epoch.
func shown(v *cluster.View, epoch release.Epoch) showing {
	s := showing{Showing: v.Showing(epoch), off: wrongClocks(v)}
	s.wrong = wrongClocksText(v, s.off)
	if skew, ok := v.Skew(); ok && epoch == v.Active.Value.Epoch {
		s.skew = &skew
	}
	return s
}

// of is how many have to show it: a node that is not live cannot.
func (s showing) of() int { return len(s.Done) + len(s.Late) }

// text is "4/4 serving, skew 2.1 ms".
func (s showing) text() string {
	text := fmt.Sprintf("%d/%d serving", len(s.Done), s.of())
	if s.skew != nil && len(s.Late) == 0 {
		text += fmt.Sprintf(", skew %.1f ms", s.skew.MS)
	}
	if len(s.off) > 0 {
		text += ", clock wrong: " + s.wrong
	}
	if len(s.Dead) > 0 {
		text += fmt.Sprintf(", not live: %s", some(s.Dead))
	}
	return text
}

// errNotConverged ends the wait for the nodes.
var errNotConverged = errors.New("not converged in time")

// toConvergence waits until every live node shows the epoch of the result.
func (f *follower) toConvergence(ctx context.Context) error {
	within := convergeWithin
	if f.o.timeout > 0 {
		within = f.o.timeout
	}
	if a := f.v.Active.Value; a.Epoch == f.result.Epoch {
		within += a.Since().Sub(a.At) // nodes wait, too
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNotConverged)
	defer cancel()
	f.u.progress.begin("converging", nodesDone)
	defer f.u.progress.end()
	err := f.s.client.Follow(ctx, f.s.site, func(v *cluster.View) bool {
		f.v, f.shows = v, shown(v, f.result.Epoch)
		f.u.progress.set(int64(len(f.shows.Done)), int64(f.shows.of()), f.shows.text()+lateText(v, f.shows.Late))
		return f.shows.Converged()
	})
	f.out.Shown = &count{len(f.shows.Done), f.shows.of()}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	if s := f.shows.skew; s != nil {
		f.out.SkewMS = &s.MS
	}
	f.out.ClockWrong = f.shows.off
	f.u.step("converged", 0, f.shows.text())
	return nil
}

// notConverged: the flip stands, some nodes do not show it yet.
func (f *follower) notConverged(why string) *failure {
	f.out.State, f.out.Nodes = stateLive, f.shows.Late
	text := fmt.Sprintf("%s: %s%s", why, f.shows.text(), lateText(f.v, f.shows.Late))
	f.u.step("waiting", 0, text)
	f.u.end("LIVE", f.liveText())
	fail := &failure{code: exitNotConverged, class: classNotConverged, out: &f.out, text: fmt.Sprintf("%s is active at epoch %d, but %s", f.d.Release, f.result.Epoch, text)}
	return fail.withHint("`relman wait --for=converged` waits on, `relman rollback` goes back")
}
