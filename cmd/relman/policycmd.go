package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"relman/cluster"
	"relman/release"
)

// policyFlags are the flags of a site's policy.
type policyFlags struct {
	given           cluster.Policy
	deadline, grace time.Duration
	fence           time.Duration
	bake            bakeFlags
}

func (p *policyFlags) add(f *pflag.FlagSet) {
	d := cluster.DefaultPolicy()
	p.given = d
	f.StringVar(&p.given.Min, "min", d.Min, "how many of the registered nodes have to hold a release for a flip: a number or a percentage, rounded up")
	f.BoolVar(&p.given.RequireLive, "require-live", d.RequireLive, "those that are counted have to live at the flip (of at most 100 nodes)")
	f.DurationVar(&p.deadline, "prepare-deadline", d.PrepareDeadline(), "how long a rollout may take before it is late")
	f.DurationVar(&p.grace, "grace", d.Grace(), "how much longer it waits for nodes that are late, and for those that come and go when all others are ready")
	f.StringVar(&p.given.Stragglers, "stragglers", d.Stragglers, "what becomes of these: out (they are put out, as many as --max-out allows) or wait (the rollout fails)")
	f.StringVar(&p.given.MostOutNodes, "max-out", d.MostOutNodes, "how many nodes may be out because a rollout did not wait for them: a number, or a percentage, rounded down but to 1 at least")
	f.StringVar(&p.given.Admission, "admission", d.Admission, "how new nodes become members: auto, or approve (relman nodes approve)")
	f.DurationVar(&p.fence, "fence", time.Duration(d.FenceSeconds)*time.Second, "how long, at least, a node that is not live is taken for one that still serves: not less than any agent's --fence")
	f.IntVar(&p.given.Buffers, "buffers", d.Buffers, "how many releases a node holds")
	p.bake.add(f)
}

// apply takes over the flags that were given; a time that is no number of
// seconds is refused.
func (p *policyFlags) apply(set func(flag string) bool, to *cluster.Policy) error {
	for _, t := range []struct {
		flag string
		d    time.Duration
		to   *int
	}{
		{"prepare-deadline", p.deadline, &to.PrepareDeadlineSeconds},
		{"grace", p.grace, &to.GraceSeconds},
		{"fence", p.fence, &to.FenceSeconds},
	} {
		if t.d%time.Second != 0 {
			return usagef("--%s %v: give whole seconds", t.flag, t.d)
		}
		if set(t.flag) {
			*t.to = int(t.d / time.Second)
		}
	}
	for flag, take := range map[string]func(){
		"min":          func() { to.Min = p.given.Min },
		"require-live": func() { to.RequireLive = p.given.RequireLive },
		"stragglers":   func() { to.Stragglers = p.given.Stragglers },
		"max-out":      func() { to.MostOutNodes = p.given.MostOutNodes },
		"admission":    func() { to.Admission = p.given.Admission },
		"buffers":      func() { to.Buffers = p.given.Buffers },
	} {
		if set(flag) {
			take()
		}
	}
	if err := p.bake.apply(set, &to.Bake); err != nil {
		return err
	}
	if err := to.Validate(); err != nil {
		return usageError(err)
	}
	return nil
}

// policyReport is `relman admin policy -o json`.
type policyReport struct {
	Site   release.Site   `json:"site"`
	Policy cluster.Policy `json:"policy"`
}

func newPolicyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Show and change when a site flips", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(newPolicyShowCommand(a), newPolicySetCommand(a))
	return cmd
}

func newPolicyShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show when a site flips",
		Args:  argsNamed("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := release.ParseSite(args[0])
			if err != nil {
				return usageError(err)
			}
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				p, err := c.Policy(ctx, name)
				if err != nil {
					return err
				}
				return a.printPolicy(name, p.Value)
			})
		},
	}
}

func newPolicySetCommand(a *app) *cobra.Command {
	var given policyFlags
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change when a site flips",
		Long: `Change when a site flips: what is given, all else stays as it is. A flip that was
decided by the old rules, and has not happened yet, is decided anew.`,
		Example: `  relman admin policy set www --min 75% --max-out 1
  relman admin policy set www --stragglers wait      every node, or no flip
  relman admin policy set www --bake 2m --bake-probe '/healthz.txt 200 ok'`,
		Args: argsNamed("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := release.ParseSite(args[0])
			if err != nil {
				return usageError(err)
			}
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				now, err := c.SetPolicy(ctx, name, func(p *cluster.Policy) error { return given.apply(cmd.Flags().Changed, p) })
				if err != nil {
					return err
				}
				return a.printPolicy(name, now)
			})
		},
	}
	given.add(cmd.Flags())
	return cmd
}

func (a *app) printPolicy(site release.Site, p cluster.Policy) error {
	return a.print(policyReport{site, p}, func(t *tables) {
		live := ""
		if p.RequireLive {
			live = ", all live"
		}
		t.pairs(append([][2]string{
			{"SITE", string(site)},
			{"MIN", p.Min + " of the registered nodes" + live},
			{"DEADLINE", p.PrepareDeadline().String() + ", and a grace of " + p.Grace().String()},
			{"STRAGGLERS", p.Stragglers + ", at most " + p.MostOutNodes},
			{"FENCE", (time.Duration(p.FenceSeconds) * time.Second).String() + ": a dead node is out " + p.FenceWait(0).String() + " after its session"},
			{"ADMISSION", p.Admission},
			{"BUFFERS", countText(p.Buffers)},
		}, bakeLines(p.Bake)...))
	}, string(site))
}
