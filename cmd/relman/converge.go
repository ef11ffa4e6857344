package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"relman/cluster"
	"relman/release"
)

// showing says which nodes show an epoch, or a later one.
type showing struct {
	cluster.Showing
	skew time.Duration // between the first and the last swap to this epoch
}

// shown looks which of the nodes that count show an epoch.
func shown(v *cluster.View, epoch release.Epoch) showing {
	s := showing{Showing: v.Showing(epoch)}
	var first, last time.Time
	for _, n := range s.Done {
		st := v.Status[n]
		if st.Epoch != epoch || st.Swapped.IsZero() {
			continue
		}
		if first.IsZero() || st.Swapped.Before(first) {
			first = st.Swapped
		}
		if st.Swapped.After(last) {
			last = st.Swapped
		}
	}
	s.skew = last.Sub(first)
	return s
}

// of is how many have to show it: a node that is not live cannot.
func (s showing) of() int { return len(s.Done) + len(s.Late) }

// text is "4/4 serving, skew 2.1 ms".
func (s showing) text() string {
	text := fmt.Sprintf("%d/%d serving", len(s.Done), s.of())
	if len(s.Done) > 1 && len(s.Late) == 0 {
		text += fmt.Sprintf(", skew %.1f ms", millis(s.skew))
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
	skew := millis(f.shows.skew)
	f.out.SkewMS = &skew
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
