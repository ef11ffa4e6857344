package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// What can be waited for.
const (
	waitReady     = "ready"     // every node holds the release
	waitActive    = "active"    // it is active
	waitConverged = "converged" // and every live node shows it
)

func newWaitCommand(a *app) *cobra.Command {
	var what string
	cmd := &cobra.Command{
		Use:   "wait --for=ready|active|converged [REL]",
		Short: "Wait until a release is ready, active, or shown by all nodes",
		Long: `Wait until every node holds a release (ready), it is active, or every live node
shows it (converged). Without REL it is the release that was asked for last.
Without --timeout it waits for ever, but not for a request that has failed.

` + relHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch what {
			case waitReady, waitActive, waitConverged:
			default:
				return usagef("--for is %q, it can be ready, active or converged", what)
			}
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				return s.waitFor(ctx, what, append(args, "")[0], a.cfg.Timeout, u)
			})
		},
	}
	cmd.Flags().StringVar(&what, "for", waitConverged, "ready, active or converged")
	return cmd
}

// errWaited ends a wait that took too long.
var errWaited = errors.New("not in time")

// waitFor waits for a state of a release.
func (s *session) waitFor(ctx context.Context, what, rel string, limit time.Duration, u *ui) (outcome, error) {
	v, err := s.client.Observe(ctx, s.site)
	if err != nil {
		return outcome{}, err
	}
	id, err := s.awaited(ctx, v, rel)
	if err != nil {
		return *outcomeOf(v), err
	}
	wait := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeoutCause(ctx, limit, errWaited)
		defer cancel()
	}
	var over bool
	var failed error
	u.progress.begin("waiting", nodesDone)
	err = s.client.Follow(wait, s.site, func(now *cluster.View) bool {
		v = now
		done, of := progressOf(v, what, id)
		u.progress.set(int64(done), int64(of), fmt.Sprintf("%d/%d %s", done, of, what))
		if over = reached(v, what, id); !over {
			failed = hopeless(v, id)
		}
		return over || failed != nil
	})
	u.progress.end()
	out := *outcomeOf(v)
	out.Release = id
	switch {
	case over:
		out.State, out.Epoch = stateDone, v.Active.Value.Epoch
		u.end("DONE", fmt.Sprintf("%s: %s is %s", s.site, id, what))
		return out, nil
	case failed != nil:
		return out, failed
	case errors.Is(context.Cause(wait), errWaited):
		return out, tooLate(v, what, id, limit)
	}
	return out, err
}

// awaited is the release to wait for: the one that was named, else what was
// asked for last, else what is active.
func (s *session) awaited(ctx context.Context, v *cluster.View, rel string) (release.ID, error) {
	switch d := v.Desired.Value; {
	case rel != "":
		return s.resolve(ctx, v, rel)
	case d.Release != "" && !v.Done():
		return d.Release, nil
	case v.Active.Exists():
		return v.Active.Value.Release, nil
	}
	return "", usagef("%s: nothing was asked for yet: which release?", s.site)
}

func reached(v *cluster.View, what string, id release.ID) bool {
	active := v.Active.Exists() && v.Active.Value.Release == id
	switch what {
	case waitReady:
		_, held := v.HeldBy(id)
		return held
	case waitActive:
		return active
	default:
		return active && shown(v, v.Active.Value.Epoch).Converged()
	}
}

// progressOf counts the nodes that are as far as what is waited for.
func progressOf(v *cluster.View, what string, id release.ID) (done, of int) {
	if what == waitConverged && v.Active.Value.Release == id {
		s := shown(v, v.Active.Value.Epoch)
		return len(s.Done), s.of()
	}
	for k := range v.Policy.Value.Buffers {
		done = max(done, len(v.Ready(k, id).Ready))
	}
	return done, v.Entered()
}

// hopeless is an error when the release was asked for last, and that has ended
// otherwise.
func hopeless(v *cluster.View, id release.ID) error {
	d := v.Desired.Value
	r, done := v.Results[d.Request]
	if d.Release != id || !done || r.State == cluster.StateActive || r.State == cluster.StateCanary || r.State == cluster.StateReady {
		return nil
	}
	return resultFailure(r)
}

func tooLate(v *cluster.View, what string, id release.ID, limit time.Duration) *failure {
	f := &failure{code: exitNotReady, class: cluster.ClassNotReady, hint: "`relman status --why` names those that are waited for"}
	active := v.Active.Value.Release
	is := orNothing(active) + " is active"
	if what == waitReady || active == id {
		done, of := progressOf(v, what, id)
		is = fmt.Sprintf("%d/%d nodes", done, of)
	}
	f.text = fmt.Sprintf("%s is not %s within %v: %s", id, what, limit, is)
	if what == waitConverged && active == id {
		f.code, f.class = exitNotConverged, classNotConverged
	}
	return f
}
