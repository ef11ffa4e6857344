package manager

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"relman/cluster"
	"relman/failpoint"
	"relman/release"
)

// step is one transaction of an action and what is said of it once it has
// committed.
type step struct {
	txn  cluster.Txn
	says string
	with []slog.Attr
}

func (wait) steps(cluster.Fence, *cluster.View) []step { return nil }

func (a admit) steps(f cluster.Fence, v *cluster.View) []step {
	var all []step
	for _, n := range a.nodes {
		all = append(all, step{cluster.Admit(f, v, n), "node admitted", []slog.Attr{slog.String("node", string(n))}})
	}
	return all
}

func (a drain) steps(f cluster.Fence, v *cluster.View) []step {
	return []step{{cluster.Drain(f, v, a.nodes, a.why), "nodes drain", rosterAttrs(a.nodes, a.why)}}
}

func (a out) steps(f cluster.Fence, v *cluster.View) []step {
	return []step{{cluster.Out(f, v, a.nodes, a.why), "nodes put out", rosterAttrs(a.nodes, a.why)}}
}

func rosterAttrs(nodes []release.NodeID, why string) []slog.Attr {
	return []slog.Attr{slog.Any("nodes", nodes), slog.String("why", why)}
}

func (thaw) steps(f cluster.Fence, v *cluster.View) []step {
	z := v.Freeze.Value
	return []step{{cluster.Thaw(f, v), "freeze ended", []slog.Attr{slog.String("by", z.By), slog.Time("until", z.Until)}}}
}

func (a start) steps(f cluster.Fence, v *cluster.View) []step {
	r := a.rollout
	r.Flip = cluster.NewULID()
	return []step{{cluster.StartRollout(f, v, r), "rollout started", []slog.Attr{
		slog.String("release", string(r.Release)),
		slog.Int("buffer", r.Buffer),
		slog.String("request", string(r.Request)),
		slog.Time("deadline", r.Deadline),
	}}}
}

func (a flip) steps(f cluster.Fence, v *cluster.View) []step {
	next := a.active
	if next.Flip == "" {
		next.Flip = cluster.NewULID()
	}
	return []step{{cluster.Flip(f, v, next), "flipped", []slog.Attr{
		slog.String("release", string(next.Release)),
		slog.Uint64("epoch", uint64(next.Epoch)),
		slog.Int("buffer", next.Buffer),
		slog.String("kind", string(next.Kind)),
		slog.Int("claims", next.Quorum.Claims),
		slog.Int("members", next.Quorum.Members),
		slog.String("request", string(next.Request)),
	}}}
}

func (a end) steps(f cluster.Fence, v *cluster.View) []step {
	attrs := []slog.Attr{
		slog.String("request", string(v.Desired.Value.Request)),
		slog.String("state", string(a.result.State)),
		slog.String("release", string(a.result.Release)),
	}
	if e := a.result.Error; e != nil {
		attrs = append(attrs, slog.String("class", string(e.Class)), slog.String("why", e.Text))
	}
	return []step{{cluster.End(f, v, a.result), "request ended", attrs}}
}

// commitAtOnce bounds the transactions of one action that are under way together.
const commitAtOnce = 8

// act commits an action. The first error ends it; what has committed by then
// stays and is seen by the next observation.
func (k *keeper) act(ctx context.Context, v *cluster.View, a action) error {
	if _, ok := a.(flip); ok {
		if err := failpoint.Point("manager.before-flip"); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(commitAtOnce)
	for _, s := range a.steps(k.fence, v) {
		g.Go(func() error { return k.commit(ctx, v, a, s) })
	}
	return g.Wait()
}

// commit commits one step and says so, or why not. A lost answer is settled
// below: Cluster.Commit sends the same transaction again.
func (k *keeper) commit(ctx context.Context, v *cluster.View, a action, s step) error {
	began := time.Now()
	revision, err := k.cluster.Commit(ctx, s.txn)
	took := time.Since(began)
	if class := cluster.RefusedBy(err); class != "" {
		k.metrics.refusals.WithLabelValues(string(class)).Inc()
		k.log.LogAttrs(ctx, slog.LevelDebug, "refused", slog.String("class", string(class)), slog.Any("error", err))
		return err
	}
	if err != nil {
		return err
	}
	k.metrics.committed(v, a, took)
	attrs := append(s.with, slog.Int64("revision", revision), slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	k.log.LogAttrs(ctx, slog.LevelInfo, s.says, attrs...) //nolint:sloglint // one of the constants in the steps above
	return nil
}

// moved reports whether an error only says that the site has changed since it
// was observed.
func moved(err error) bool { return errors.Is(err, cluster.ErrConflict) }
