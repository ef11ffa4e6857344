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

// Bounds of --confirm-within.
const (
	leastTrial = time.Second
	mostTrial  = 24 * time.Hour
)

func newConfirmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep a release that is on trial (--confirm-within), or that bakes",
		Long: `Keep a release that was made active with --confirm-within. Without this the
leading manager goes back to the previous release when the time is over, also
when whoever asked for it is gone, and bars the release as bad.

A release that bakes stays then, too, whatever the nodes say of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				v, err := s.client.Observe(ctx, s.site)
				if err != nil {
					return outcome{}, err
				}
				out := *outcomeOf(v)
				now := v.Active.Value
				switch {
				case now.Kind == cluster.KindRevert:
					bad := release.ID("REL")
					if p := now.Previous; p != nil {
						bad = p.Release
					}
					return stays(v, revertedFailure(bad, fmt.Sprintf("it is too late: %s", now.Message)), u)
				case !v.OnTrial() && !v.Baking():
					out.State = stateUnchanged
					u.end("UNCHANGED", fmt.Sprintf("%s = %s: nothing waits to be confirmed", s.site, orNothing(now.Release)))
					return out, nil
				}
				limited, cancel := uncut(ctx)
				defer cancel()
				if err := s.client.Confirm(limited, v); err != nil {
					return out, err
				}
				out.State, out.Epoch = stateDone, now.Epoch
				u.end("CONFIRMED", fmt.Sprintf("%s = %s", s.site, now.Release))
				return out, nil
			})
		},
	}
}

// trialFlag checks --confirm-within.
func trialFlag(d time.Duration) error {
	if d != 0 && (d < leastTrial || d > mostTrial) {
		return usagef("--confirm-within %v: give a time from %v to %v", d, leastTrial, mostTrial)
	}
	return nil
}

func revertedFailure(bad release.ID, text string) *failure {
	f := &failure{code: exitReverted, class: cluster.ClassReverted, text: text}
	return f.withHint("`relman releases clear %s` lets it be flipped to again", bad)
}

// toConfirmation waits for the end of a trial: confirmed, or reverted.
func (f *follower) toConfirmation(ctx context.Context) error {
	if f.d.ConfirmSeconds == 0 || !f.out.Changed {
		return nil
	}
	if !f.v.OnTrial() && f.v.Active.Value.Epoch == f.result.Epoch && f.v.Active.Value.Previous == nil {
		f.u.step("on trial", 0, "no: there is no release to go back to")
		return nil
	}
	within := time.Duration(f.d.ConfirmSeconds) * time.Second
	f.u.step("on trial", 0, fmt.Sprintf("`relman confirm -s %s` keeps it; it goes back %v after the flip otherwise", f.s.site, within))
	began := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, within+resultWithin, errNoResult)
	defer cancel()
	err := f.s.client.Follow(limited, f.s.site, func(v *cluster.View) bool {
		f.v = v
		return v.Active.Value.Epoch != f.result.Epoch || !v.OnTrial()
	})
	reverted := f.wasReverted()
	switch {
	case reverted != nil:
		return reverted
	case err == nil:
		if f.v.Active.Value.Epoch == f.result.Epoch {
			f.u.step("confirmed", time.Since(began), "")
		}
		return nil
	case errors.Is(context.Cause(limited), errNoResult) && ctx.Err() == nil:
		return f.undecided(&failure{
			code: exitUnknown, class: classTimeout, err: err, text: "no manager ended the trial in time",
			hint: "does a manager run? do all nodes hold the previous release? `relman nodes` shows it",
		})
	}
	return err
}
