package main

import (
	"context"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// maxReasonBytes bounds a reason, which etcd keeps several times.
const maxReasonBytes = 1000

// newJudgeCommands are `relman releases bad`, `yank`, `clear`, `pin` and
// `unpin`.
func newJudgeCommands(a *app) []*cobra.Command {
	judge := func(verdict cluster.Verdict, verb, short, word string) *cobra.Command {
		var why string
		cmd := a.newReleaseVerb(verb+" REL", short, word, func(v *cluster.View, id release.ID) (cluster.Txn, bool) {
			return cluster.SetVerdict(v, id, verdict, why), true
		})
		reasonFlag(cmd, &why, "no reason given")
		return cmd
	}
	pin := func() *cobra.Command {
		var why string
		cmd := a.newReleaseVerb("pin REL", "Keep a release until it is unpinned: no sweep removes it", "PINNED", func(v *cluster.View, id release.ID) (cluster.Txn, bool) {
			return cluster.SetPin(v, id, why), true
		})
		reasonFlag(cmd, &why, "no reason given")
		return cmd
	}
	return []*cobra.Command{
		judge(cluster.Bad, "bad", "Judge that a release does not work: nothing flips to it", "BAD"),
		judge(cluster.Yanked, "yank", "Judge that a release must not be shown: nothing flips to it", "YANKED"),
		a.newReleaseVerb("clear REL", "Take a verdict back", "CLEARED", func(v *cluster.View, id release.ID) (cluster.Txn, bool) {
			return cluster.SetVerdict(v, id, "", ""), v.Verdicts[id].Exists()
		}),
		pin(),
		a.newReleaseVerb("unpin REL", "Let sweeps remove a release again", "UNPINNED", func(v *cluster.View, id release.ID) (cluster.Txn, bool) {
			return cluster.SetPin(v, id, ""), v.Pins[id].Exists()
		}),
	}
}

func reasonFlag(cmd *cobra.Command, why *string, none string) {
	cmd.Flags().StringVarP(why, "message", "m", none, "why; whoever is stopped by it reads it")
}

// newReleaseVerb is a command that changes what is said of a release. make says
// what to commit and whether that changes anything.
func (a *app) newReleaseVerb(use, short, word string, txn func(*cluster.View, release.ID) (cluster.Txn, bool)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  short + ".\n\n" + relHelp,
		Args:  argsNamed("REL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if why := cmd.Flags().Lookup("message"); why != nil && (why.Value.String() == "" || len(why.Value.String()) > maxReasonBytes) {
				return usagef("-m: give a reason of 1 to %d bytes", maxReasonBytes)
			}
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				return s.sayOfRelease(ctx, args[0], word, txn, u)
			})
		},
	}
}

func (s *session) sayOfRelease(ctx context.Context, rel, word string, txn func(*cluster.View, release.ID) (cluster.Txn, bool), u *ui) (outcome, error) {
	v, err := s.client.Observe(ctx, s.site)
	if err != nil {
		return outcome{}, err
	}
	out := *outcomeOf(v)
	if out.Release, err = s.resolve(ctx, v, rel); err != nil {
		return out, err
	}
	if err := kept(v, out.Release); err != nil {
		return out, err
	}
	t, changes := txn(v, out.Release)
	if !changes {
		out.State = stateUnchanged
		u.end("UNCHANGED", string(out.Release)+" of "+string(s.site)+" is as it was")
		return out, nil
	}
	limited, cancel := uncut(ctx)
	defer cancel()
	if _, err := s.client.Commit(limited, t); err != nil {
		return out, err
	}
	out.State = stateDone
	text := string(out.Release) + " of " + string(s.site)
	if v.Active.Value.Release == out.Release && (word == "BAD" || word == "YANKED") {
		text += ", which is active: `relman rollback` goes back"
	}
	u.end(word, text)
	return out, nil
}
