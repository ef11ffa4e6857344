package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// askOptions say how to ask for a change of what is live, and how long to wait.
type askOptions struct {
	ifActive  string // REL that has to be active, "" for any
	ifEpoch   int64  // epoch that has to be, anyEpoch for any
	require   string // how many nodes have to hold the release; "": what the policy wants
	override  []cluster.Override
	queue     bool              // wait for a request that is under way
	supersede bool              // replace it
	confirm   time.Duration     // how long the flip is a trial; 0: it is none
	canary    *cluster.Audience // who is shown the release; nil: all are, since it is made active
	swap      swapTime          // when nodes are to show it; zero: at once
	wait      bool
	timeout   time.Duration // of the rollout, and of the convergence; 0: see there
}

// anyEpoch is an ifEpoch that always holds.
const anyEpoch = math.MinInt64

func addAskFlags(cmd *cobra.Command, o *askOptions) {
	addGuardFlags(cmd, o)
	f := cmd.Flags()
	f.DurationVar(&o.confirm, "confirm-within", 0, "go back so long after the flip, unless relman confirm has come: 1s to 24h (default: the release stays)")
	f.Var(&o.swap, "swap-at", "when nodes are to show the release, each by its own clock: so long after the flip (+2s), or at a time (2026-11-22T12:00:00Z); 1h ahead at most (default: as soon as they hear of the flip)")
	f.BoolVar(&o.queue, "queue", false, "wait for the end of a request that is under way")
	f.BoolVar(&o.supersede, "supersede", false, "replace a request that is under way")
	cmd.MarkFlagsMutuallyExclusive("queue", "supersede")
}

func addGuardFlags(cmd *cobra.Command, o *askOptions) {
	f := cmd.Flags()
	f.StringVar(&o.ifActive, "if-active", "", "only if this release is active")
	f.Int64Var(&o.ifEpoch, "if-epoch", anyEpoch, "only if this is the epoch")
	f.Lookup("if-epoch").DefValue = "0" // there is none to show
	f.StringVar(&o.require, "require", "", "how many of the registered nodes have to hold the release, if that is more than the policy wants: all, a number or a percentage")
	f.Var((*overrides)(&o.override), "override", "get past require (what the policy wants of the nodes), freeze or verdict; it stands in the history")
}

// overrides is the flag --override.
type overrides []cluster.Override

func (o *overrides) Type() string { return "rules" }

func (o *overrides) String() string {
	var all []string
	for _, rule := range *o {
		all = append(all, string(rule))
	}
	return strings.Join(all, ",")
}

// Set reads "freeze,require".
func (o *overrides) Set(text string) error {
	for rule := range strings.SplitSeq(text, ",") {
		switch r := cluster.Override(rule); r {
		case cluster.OverrideRequire, cluster.OverrideFreeze, cluster.OverrideVerdict:
			if !slices.Contains(*o, r) {
				*o = append(*o, r)
			}
		default:
			return fmt.Errorf("%q can not be overridden, only %s, %s and %s", rule, cluster.OverrideRequire, cluster.OverrideFreeze, cluster.OverrideVerdict)
		}
	}
	return nil
}

// given completes the options by the configuration.
func (a *app) given(o askOptions) askOptions {
	o.wait, o.timeout = a.cfg.Wait, a.cfg.Timeout
	return o
}

// ground reads the state on which something can be asked for: the guards hold,
// and nothing is under way, or may be replaced. With queue it waits for that.
func (s *session) ground(ctx context.Context, o askOptions, u *ui) (*cluster.View, error) {
	for {
		v, err := s.client.Observe(ctx, s.site)
		if err != nil {
			return nil, err
		}
		if v.Done() || o.supersede {
			return v, s.guards(ctx, v, o)
		}
		if !o.queue {
			return v, conflict(v)
		}
		if err := s.awaitTurn(ctx, v, u); err != nil {
			return v, err
		}
	}
}

// guards checks what the user made a condition. Asking compares the active key
// of v, so that what holds here holds then.
func (s *session) guards(ctx context.Context, v *cluster.View, o askOptions) error {
	now := v.Active.Value
	if err := trialFlag(o.confirm); err != nil {
		return err
	}
	if err := s.mayTryOut(ctx, o); err != nil {
		return err
	}
	if o.require != "" {
		if _, err := cluster.ParseRequire(o.require, 1); err != nil {
			return usagef("--%v", err)
		}
	}
	if o.ifEpoch < 0 && o.ifEpoch != anyEpoch {
		return usagef("--if-epoch %d: an epoch is a number from 1, 0 where nothing was ever active", o.ifEpoch)
	}
	if o.ifActive != "" {
		want, err := s.resolve(ctx, v, o.ifActive)
		if err != nil {
			return err
		}
		if want != now.Release {
			return moved(v, "%s is active, not %s (--if-active)", orNothing(now.Release), want)
		}
	}
	if o.ifEpoch >= 0 && uint64(o.ifEpoch) != uint64(now.Epoch) {
		return moved(v, "the epoch is %d, not %d (--if-epoch)", now.Epoch, o.ifEpoch)
	}
	return nil
}

func moved(v *cluster.View, format string, args ...any) *failure {
	return &failure{
		code: exitConflict, class: cluster.ClassActiveMoved, out: outcomeOf(v),
		text: fmt.Sprintf("%s: ", v.Site) + fmt.Sprintf(format, args...),
	}
}

// unfrozen is an error while flips are forbidden to such a request.
func unfrozen(v *cluster.View, d cluster.Desired) error {
	z := v.Freeze
	d.OverFreeze = z.Mod // that it is overridden is noted when it is asked for
	if !v.Frozen(d) {
		return nil
	}
	f := &failure{
		code: exitFrozen, class: cluster.ClassFrozen, out: outcomeOf(v),
		text: freezeText(v),
	}
	return f.withHint("`relman unfreeze -s %s` allows flips again, --override=freeze passes it", v.Site)
}

// conflict names the request that came first.
func conflict(v *cluster.View) *failure {
	d := v.Desired.Value
	f := &failure{code: exitConflict, class: cluster.ClassConflict, out: outcomeOf(v)}
	f.out.Winner = &winner{Request: d.Request, Mode: d.Mode, Release: d.Release, By: d.By}
	if v.Done() {
		f.text = fmt.Sprintf("%s: %s came first (request %s)", v.Site, asked(d), d.Request)
		return f.withHint("look at it with `relman status`, then ask again; --queue waits instead")
	}
	f.text = fmt.Sprintf("%s: %s is under way (request %s)", v.Site, asked(d), d.Request)
	return f.withHint("--queue waits for it, --supersede replaces it, `relman abort` ends it")
}

// asked says who asked for what.
func asked(d cluster.Desired) string {
	what := string(d.Mode)
	if d.Release != "" {
		what += " of " + string(d.Release)
	}
	return fmt.Sprintf("the %s by %s", what, d.By)
}

// awaitTurn waits until the request that v shows has its result.
func (s *session) awaitTurn(ctx context.Context, v *cluster.View, u *ui) error {
	first := v.Desired.Value
	u.progress.note("waiting for %s (request %s)", asked(first), first.Request)
	u.progress.begin("queued", nodesDone)
	defer u.progress.end()
	return s.client.Follow(ctx, s.site, func(v *cluster.View) bool {
		return v.Done() || v.Desired.Value.Request != first.Request
	})
}

// uncut is for what must not be cut off half-way: it outlives ctx, but not for
// long.
func uncut(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// mostTries bounds how often a request is repeated that replaces others.
const mostTries = 10

// ask asks for d on the ground of v. It returns the view on which the request
// was taken.
func (s *session) ask(ctx context.Context, v *cluster.View, d cluster.Desired, o askOptions, u *ui) (*cluster.View, error) {
	for try := 1; ; try++ {
		if err := unfrozen(v, d); err != nil {
			return v, err
		}
		err := s.askOnce(ctx, v, d)
		if !errors.Is(err, cluster.ErrConflict) || errors.Is(err, cluster.ErrUnknown) {
			return v, err
		}
		class := cluster.RefusedBy(err)
		raced := class == cluster.ClassConflict || class == cluster.ClassActiveMoved
		if !raced && class != cluster.ClassFrozen { // yanked, or gone
			return v, err
		}
		now, oerr := s.client.Observe(ctx, s.site)
		if oerr != nil {
			return v, oerr
		}
		again := o.queue || o.supersede && class == cluster.ClassConflict && try < mostTries
		switch {
		case raced && !again:
			return v, conflict(now)
		case !raced && try == mostTries:
			return v, err
		}
		if v, err = s.ground(ctx, o, u); err != nil {
			return v, err
		}
	}
}

func (s *session) askOnce(ctx context.Context, v *cluster.View, d cluster.Desired) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := uncut(ctx)
	defer cancel()
	_, err := s.client.Ask(ctx, v, d)
	return err
}

// desired is a request with all that every request has.
func (s *session) desired(mode cluster.Kind, id release.ID, message string, o askOptions) cluster.Desired {
	var canary cluster.Audience
	if o.canary != nil {
		mode, canary = cluster.TryOut, *o.canary
	}
	return cluster.Desired{
		Canary:         canary,
		Request:        cluster.NewRequestID(),
		Mode:           mode,
		Release:        id,
		PrepareSeconds: int(math.Ceil(o.timeout.Seconds())),
		Require:        o.require,
		Override:       o.override,
		ConfirmSeconds: int(math.Ceil(o.confirm.Seconds())),
		SwapInMS:       o.swap.in.Milliseconds(),
		SwapAt:         o.swap.at,
		By:             s.by,
		At:             time.Now().UTC().Truncate(time.Second),
		Message:        message,
	}
}

// outcomeOf is what v says of an outcome in which nothing has changed.
func outcomeOf(v *cluster.View) *outcome {
	return &outcome{Site: v.Site, State: stateFailed, Active: v.Active.Value.Release}
}

func orNothing(id release.ID) string {
	if id == "" {
		return "nothing"
	}
	return string(id)
}
