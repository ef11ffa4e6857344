package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

func newFlipCommand(a *app) *cobra.Command {
	var o askOptions
	var message string
	var hold bool
	cmd := &cobra.Command{
		Use:   "flip REL",
		Short: "Make a release active",
		Long: `Make a release active that is kept. Nodes that do not hold it fetch it first.

` + relHelp,
		Args: argsNamed("REL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o = a.given(o)
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				v, err := s.ground(ctx, o, u)
				if err != nil {
					return stays(v, err, u)
				}
				id, err := s.resolve(ctx, v, args[0])
				if err != nil {
					return stays(v, err, u)
				}
				d := s.desired(cluster.FlipTo, id, message, o)
				d.Hold = hold
				return s.makeActive(ctx, v, d, o, u)
			})
		},
	}
	addAskFlags(cmd, &o)
	cmd.Flags().StringVarP(&message, "message", "m", "", "why; it stands in the history")
	cmd.Flags().BoolVar(&hold, "no-flip", false, "have every node hold the release, and do not flip")
	addCanaryFlag(cmd, &o)
	cmd.MarkFlagsMutuallyExclusive("no-flip", "swap-at")
	return cmd
}

// makeActive asks for a flip to a release that is kept, and follows it.
func (s *session) makeActive(ctx context.Context, v *cluster.View, d cluster.Desired, o askOptions, u *ui) (outcome, error) {
	if err := cmp.Or(mayFlip(v, d), noCanary(v, d)); err != nil {
		return stays(v, err, u)
	}
	v, err := s.ask(ctx, v, d, o, u)
	if err != nil {
		return stays(v, err, u)
	}
	return s.follow(ctx, v, d, o, u)
}

// kept is an error for a release that the site has no more.
func kept(v *cluster.View, id release.ID) error {
	if _, ok := v.Releases[id]; !ok {
		return usagef("%s does not keep release %s any more", v.Site, id).withHint("`relman releases` lists those that it keeps")
	}
	return nil
}

// mayFlip is an error for a release that cannot be flipped to.
func mayFlip(v *cluster.View, d cluster.Desired) error {
	if err := kept(v, d.Release); err != nil {
		return err
	}
	d.OverVerdict = v.Verdicts[d.Release].Mod // as it will be when it is asked for
	if verdict := v.Judged(d); verdict != "" {
		f := &failure{code: exitConflict, class: cluster.ClassYanked, text: string(d.Release) + " is " + cluster.VerdictText(verdict)}
		return f.withHint("`relman releases clear %s` takes that back, --override=verdict passes it", d.Release)
	}
	return nil
}

func newRollbackCommand(a *app) *cobra.Command {
	var o askOptions
	var message string
	var noFreeze bool
	cmd := &cobra.Command{
		Use:   "rollback [REL]",
		Short: "Go back to the previous release, and freeze",
		Long: `Go back to the previous release, or to REL. The nodes still hold the previous
one, so this is one commit. It replaces a rollout that is under way, and
freezes the site so that the next publish does not undo it.

` + relHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o = a.given(o)
			o.supersede = !o.queue
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				v, err := s.ground(ctx, o, u)
				if err != nil {
					return stays(v, err, u)
				}
				if len(args) == 0 {
					if err := s.mayGoBack(ctx, v); err != nil {
						return stays(v, err, u)
					}
				}
				id, err := s.resolve(ctx, v, append(args, "previous")[0])
				if err != nil {
					return stays(v, err, u)
				}
				d := s.desired(cluster.Rollback, id, message, o)
				d.Freeze = !noFreeze
				return s.makeActive(ctx, v, d, o, u)
			})
		},
	}
	f := cmd.Flags()
	addGuardFlags(cmd, &o)
	f.BoolVar(&o.queue, "queue", false, "wait for the end of a request that is under way, instead of replacing it")
	f.BoolVar(&noFreeze, "no-freeze", false, "do not freeze the site")
	f.StringVarP(&message, "message", "m", "", "why; it stands in the history")
	return cmd
}

// mayGoBack is an error where the previous release is one that somebody, or the
// manager, went back from. Canaries that came and went since change nothing of that.
func (s *session) mayGoBack(ctx context.Context, v *cluster.View) error {
	now := v.Active.Value
	if now.Kind == cluster.TryOut || now.Kind == cluster.EndCanary {
		all, err := s.client.History(ctx, s.site, maxHistory)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(a cluster.Active) bool { return a.Kind != cluster.TryOut && a.Kind != cluster.EndCanary })
		if i >= 0 {
			now = all[i]
		}
	}
	if now.Kind != cluster.Rollback && now.Kind != cluster.KindRevert || now.Previous == nil {
		return nil
	}
	return &failure{
		code: exitConflict, class: cluster.ClassConflict,
		text: fmt.Sprintf("%s is what %s rolled back to, from %s", now.Release, now.By, now.Previous.Release),
		hint: "name the release to go to: `relman releases` lists them, `relman rollback REL` goes there",
	}
}

func newAbortCommand(a *app) *cobra.Command {
	var message string
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "End the request that is under way, or the canary; what is active stays",
		Long: `End the request that is under way; what is active stays. When nothing is under
way, end the canary: all visitors see what is active, and the release that was
tried out is judged bad.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := a.given(askOptions{supersede: true, ifEpoch: anyEpoch})
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				return abort(ctx, s, message, o, u)
			})
		},
	}
	cmd.Flags().StringVarP(&message, "message", "m", "", "why")
	return cmd
}

// abort ends what is under way. A flip that commits before it stands, and is
// said so.
func abort(ctx context.Context, s *session, message string, o askOptions, u *ui) (outcome, error) {
	v, err := s.ground(ctx, o, u)
	if err != nil {
		return stays(v, err, u)
	}
	if v.Done() && v.Active.Value.Canary != nil {
		return endCanary(ctx, s, v, message, o, u)
	}
	if v.Done() {
		out := *outcomeOf(v)
		out.State = stateUnchanged
		u.end("UNCHANGED", string(v.Site)+": nothing is under way")
		return out, nil
	}
	was := v.Desired.Value
	d := s.desired(cluster.Abort, "", message, o)
	d.PrepareSeconds = 0
	if v, err = s.ask(ctx, v, d, o, u); err != nil {
		return stays(v, err, u)
	}
	out, err := s.follow(ctx, v, d, o, u)
	if err == nil && out.State == stateDone {
		out.Release = was.Release
		u.end("ABORTED", asked(was)+" (request "+string(was.Request)+"): "+string(s.site)+" stays "+orNothing(out.Active))
	}
	return out, err
}
