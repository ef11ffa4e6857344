package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
)

func newFreezeCommand(a *app) *cobra.Command {
	var why string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "freeze",
		Short: "Forbid flips until unfreeze, or for a time; rolling back stays allowed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("for") && lasts < time.Second {
				return usagef("--for %v: give a time of a second at least, such as 2h", lasts)
			}
			return a.setFreeze(cmd.Context(), "FROZEN", func(s *session) *cluster.Freeze {
				z := &cluster.Freeze{By: s.by, Reason: why, At: time.Now().UTC().Truncate(time.Second), AllowRollback: true}
				if lasts > 0 {
					z.Until = z.At.Add(lasts)
				}
				return z
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&why, "message", "m", "no reason given", "why; whoever is stopped by it reads it")
	f.DurationVar(&lasts, "for", 0, "for how long; then the leading manager ends it (default: until unfreeze)")
	return cmd
}

func newUnfreezeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unfreeze",
		Short: "Allow flips again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.setFreeze(cmd.Context(), "UNFROZEN", func(*session) *cluster.Freeze { return nil })
		},
	}
}

// setFreeze puts a freeze up, or takes it down. Somebody else's freeze is not
// replaced by a new one.
func (a *app) setFreeze(ctx context.Context, word string, freeze func(*session) *cluster.Freeze) error {
	return a.change(ctx, func(ctx context.Context, s *session, u *ui) (outcome, error) {
		v, err := s.client.Observe(ctx, s.site)
		if err != nil {
			return outcome{}, err
		}
		out := *outcomeOf(v)
		z := freeze(s)
		if v.Freeze.Exists() == (z != nil) {
			out.State = stateUnchanged
			u.end("UNCHANGED", freezeText(v))
			return out, nil
		}
		limited, cancel := uncut(ctx)
		defer cancel()
		if err := s.client.SetFreeze(limited, v, z); err != nil {
			return out, err
		}
		out.State = stateDone
		u.end(word, string(s.site)+" = "+orNothing(out.Active))
		return out, nil
	})
}

// freezeText says whether a site is frozen, by whom and why.
func freezeText(v *cluster.View) string {
	z := v.Freeze
	if !z.Exists() {
		return string(v.Site) + " is not frozen"
	}
	until := ""
	if !z.Value.Until.IsZero() {
		until = " until " + z.Value.Until.Format(time.RFC3339)
	}
	return string(v.Site) + " is frozen by " + z.Value.By + " since " + z.Value.At.Format(time.RFC3339) + until + ": " + z.Value.Reason
}
