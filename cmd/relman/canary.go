package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"relman/cluster"
)

// canaryGroup is the group of nodes that --canary without a value is for.
const canaryGroup = "canary"

// audienceFlag is the flag --canary.
type audienceFlag struct{ to **cluster.Audience }

func (f audienceFlag) Type() string { return "percentage|group" }

func (f audienceFlag) String() string {
	switch {
	case f.to == nil || *f.to == nil:
		return ""
	case (*f.to).Group != "":
		return string((*f.to).Group)
	}
	return (*f.to).Share.String()
}

// Set reads "5%" or the name of a group.
func (f audienceFlag) Set(text string) error {
	a, err := cluster.ParseAudience(text)
	if err != nil {
		return err
	}
	*f.to = &a
	return nil
}

func addCanaryFlag(cmd *cobra.Command, o *askOptions) {
	f := cmd.Flags()
	f.Var(audienceFlag{&o.canary}, "canary", "show the release beside the active one, to a `share` of the visitors (5%, 0.01% to 99.99%) or by the nodes of a group, until relman promote or relman abort")
	f.Lookup("canary").NoOptDefVal = canaryGroup
	cmd.MarkFlagsMutuallyExclusive("canary", "confirm-within")
	cmd.MarkFlagsMutuallyExclusive("canary", "no-flip")
	cmd.MarkFlagsMutuallyExclusive("canary", "swap-at")
}

// mayTryOut is an error where visitors could not be kept on one side.
func (s *session) mayTryOut(ctx context.Context, o askOptions) error {
	if o.canary == nil || o.canary.Share == 0 {
		return nil
	}
	serving, err := s.client.Serving(ctx, s.site)
	if err != nil {
		return err
	}
	if serving.Value.Pin == cluster.PinOff {
		return usagef("--canary=%s: the visitors of %s are not pinned, so a page could be of one release and its parts of the other", o.canary.Share, s.site).
			withHint("`relman admin site set %s --pin html` allows it, --canary=GROUP shows it by some of the nodes", s.site)
	}
	return nil
}

func newPromoteCommand(a *app) *cobra.Command {
	var o askOptions
	var message string
	cmd := &cobra.Command{
		Use:   "promote",
		Short: "Make the canary active",
		Long: `Make the canary active, for all visitors and by all nodes. They all hold it, so
this is one commit. What was active is the previous release then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o = a.given(o)
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				v, err := s.ground(ctx, o, u)
				if err != nil {
					return stays(v, err, u)
				}
				c := v.Active.Value.Canary
				if c == nil {
					why := &failure{code: exitConflict, class: cluster.ClassActiveMoved, text: string(v.Site) + " has no canary"}
					return stays(v, why.withHint("`relman publish DIR --canary=5%%` begins one"), u)
				}
				return s.makeActive(ctx, v, s.desired(cluster.Promote, c.Release, message, o), o, u)
			})
		},
	}
	addAskFlags(cmd, &o)
	cmd.Flags().StringVarP(&message, "message", "m", "", "why; it stands in the history")
	return cmd
}

// noCanary is an error where a canary would be ended unasked.
func noCanary(v *cluster.View, d cluster.Desired) error {
	c := v.InTheWay(d)
	if c == nil {
		return nil
	}
	f := &failure{
		code: exitConflict, class: cluster.ClassConflict, out: outcomeOf(v),
		text: fmt.Sprintf("%s has a canary, %s", v.Site, canaryText(c)),
	}
	return f.withHint("`relman promote` makes it active, `relman abort` ends it")
}

// endCanary takes the canary back: all see what is active.
func endCanary(ctx context.Context, s *session, v *cluster.View, message string, o askOptions, u *ui) (outcome, error) {
	d := s.desired(cluster.EndCanary, v.Active.Value.Canary.Release, message, o)
	v, err := s.ask(ctx, v, d, o, u)
	if err != nil {
		return stays(v, err, u)
	}
	return s.follow(ctx, v, d, o, u)
}

// canaryText says who sees which canary.
func canaryText(c *cluster.Canary) string {
	return fmt.Sprintf("%s for %s", c.Release, c.Audience)
}

// shownToSome reports a canary that begins or ends, and is false for all else.
func (f *follower) shownToSome() bool {
	now := f.v.Active.Value
	switch {
	case f.d.Mode == cluster.EndCanary:
		f.out.State, f.out.Changed = stateDone, false
		f.u.end("ENDED", fmt.Sprintf("%s = %s: nobody is shown the canary %s any more; it is judged bad", f.s.site, now.Release, f.d.Release))
	case f.result.State == cluster.StateCanary:
		f.out.State, f.out.Changed = stateCanary, false
		text := fmt.Sprintf("%s = %s", f.s.site, now.Release)
		if now.Canary != nil {
			text += fmt.Sprintf(", %s; `relman promote` or `relman abort` ends that", canaryText(now.Canary))
		}
		f.u.end("CANARY", text)
	default:
		return false
	}
	return true
}
