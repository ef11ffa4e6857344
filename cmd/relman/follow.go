package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"relman/cluster"
	"relman/release"
)

const (
	// convergeWithin is how long the nodes have to show a release that was
	// flipped to, where nobody says anything else.
	convergeWithin = 30 * time.Second
	// resultWithin is how long after its deadline a rollout's result may come:
	// another manager may have to be elected first.
	resultWithin = 30 * time.Second
)

// follower follows one request to its end: ready, flipped, converged. It is the
// same for everything that can be asked for.
type follower struct {
	s     *session
	u     *ui
	d     cluster.Desired
	o     askOptions
	began time.Time

	v       *cluster.View // the newest
	result  cluster.Result
	ended   bool // the request has its result
	readyAt time.Time
	flipAt  time.Time
	of      int // nodes that have to be ready
	shows   showing
	out     outcome
}

// follow waits until the request that was taken on the ground of v is done and
// the nodes show what it made active, and reports each step.
func (s *session) follow(ctx context.Context, v *cluster.View, d cluster.Desired, o askOptions, u *ui) (outcome, error) {
	f := &follower{s: s, u: u, d: d, o: o, v: v, began: time.Now(), out: *outcomeOf(v)}
	f.out.Request, f.out.Release = d.Request, d.Release
	if !o.wait {
		f.out.State = stateAsked
		u.end("ASKED", fmt.Sprintf("%s: request %s goes on by itself; `relman status` shows it", s.site, d.Request))
		return f.out, nil
	}
	if err := f.toResult(ctx); err != nil {
		return f.out, f.cut(ctx, err)
	}
	if err := f.judge(); err != nil || f.flipAt.IsZero() {
		return f.out, err
	}
	if err := f.toConvergence(ctx); err != nil {
		if reverted := f.wasReverted(); reverted != nil {
			return f.out, reverted
		}
		return f.out, f.cut(ctx, err)
	}
	err := f.toBaked(ctx)
	if reverted := f.wasReverted(); reverted != nil {
		err = reverted
	} else if err == nil {
		err = f.toConfirmation(ctx)
	}
	if err != nil {
		if ours, ok := errors.AsType[*failure](err); ok {
			return f.out, ours
		}
		return f.out, f.cut(ctx, err)
	}
	return f.out, f.live()
}

// toResult waits for the request's result.
func (f *follower) toResult(ctx context.Context) error {
	limit := f.v.Policy.Value.Longest()
	if f.o.timeout > 0 {
		limit = min(limit, f.o.timeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit+resultWithin, errNoResult)
	defer cancel()
	f.u.progress.begin("preparing", bytesDone)
	defer f.u.progress.end()
	err := f.s.client.Follow(ctx, f.s.site, func(v *cluster.View) bool {
		f.v = v
		f.result, f.ended = v.Results[f.d.Request]
		f.preparing()
		return f.ended
	})
	if cause := context.Cause(ctx); !f.ended && cause != nil {
		return cause
	}
	return err
}

// preparing shows how far the nodes are.
func (f *follower) preparing() {
	r := f.v.Rollout
	if f.ended || !r.Exists() || r.Value.Request != f.d.Request {
		return
	}
	ready := f.v.Ready(r.Value.Buffer, f.d.Release)
	f.of = len(ready.Ready) + len(ready.Late)
	if len(ready.Late) == 0 && f.readyAt.IsZero() {
		f.readyAt = time.Now()
	}
	done, total := fetched(f.v, ready)
	text := fmt.Sprintf("%d/%d ready", len(ready.Ready), f.of)
	if b, err := f.v.Bar(f.d); err == nil && b.Need > f.of {
		text += fmt.Sprintf(", %d needed: nodes have to join, or to come in again", b.Need)
	}
	text += stuckText(f.v, ready)
	if f.of == 0 {
		text = fmt.Sprintf("%s has no nodes: `relman agent` makes a host one", f.s.site)
	}
	f.u.progress.set(done, total, text)
}

// fetched adds up what the nodes say that they have fetched; one that is ready
// counts as much as one that is not.
func fetched(v *cluster.View, r cluster.Readiness) (done, total int64) {
	each := v.Releases[v.Rollout.Value.Release].Value.Bytes
	for _, n := range r.Late {
		p := v.Status[n].Preparing
		if p == nil || p.Release != v.Rollout.Value.Release {
			total += each
			continue
		}
		done, total = done+p.Done, total+p.Total
		each = p.Total
	}
	return done + each*int64(len(r.Ready)), total + each*int64(len(r.Ready))
}

// lateText names those that are waited for.
func lateText(v *cluster.View, late []release.NodeID) string {
	var all []string
	for _, n := range late {
		all = append(all, string(n)+": "+laggardReason(v, n))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + some(all) + ")"
}

// stuckText names those that need a look or, when only a few are waited for,
// these. One that fetches is in the sum.
func stuckText(v *cluster.View, r cluster.Readiness) string {
	var stuck []release.NodeID
	for _, n := range r.Late {
		if _, live := v.Live[n]; !live || v.Status[n].Error != nil {
			stuck = append(stuck, n)
		}
	}
	switch {
	case len(stuck) > 0:
		return lateText(v, stuck)
	case len(r.Ready) > 0 && len(r.Late) > 0:
		return ", waiting for " + some(r.Late)
	}
	return ""
}

// judge reports what the result says. It is nil for one that is as was asked.
func (f *follower) judge() error {
	r, now := f.result, f.v.Active.Value
	f.out.Active = now.Release
	if r.Error != nil {
		f.out.Nodes = r.Error.Nodes
	}
	switch r.State {
	case cluster.StateActive, cluster.StateCanary:
		f.flipAt = time.Now()
		f.flipped()
		return nil
	case cluster.StateReady:
		held, _ := f.v.HeldBy(f.d.Release)
		f.isReady(len(held.Ready), len(held.Ready))
		f.out.State = stateReady
		f.u.end("READY", fmt.Sprintf("%s stays %s: %s is ready everywhere; `relman flip %[3]s` makes it active",
			f.s.site, orNothing(now.Release), f.d.Release))
		return nil
	case cluster.StateReverted:
		return f.wasReverted()
	case cluster.StateAborted:
		if f.d.Mode == cluster.Abort {
			f.out.State = stateDone
			return nil
		}
	}
	return f.notFlipped(resultFailure(r))
}

// flipped reports the steps that led to the flip.
func (f *follower) flipped() {
	r, now := f.result, f.v.Active.Value
	f.out.Epoch, f.out.Changed = r.Epoch, r.Changed
	if !r.Changed {
		return
	}
	if now.Epoch == r.Epoch && f.d.Mode != cluster.EndCanary {
		f.isReady(now.Quorum.Claims, now.Quorum.Members+len(now.Quorum.Without), now.Quorum.Without...)
	}
	text := fmt.Sprintf("epoch %d", r.Epoch)
	if p := now.Previous; p != nil && now.Epoch == r.Epoch && now.Release == f.d.Release {
		f.out.Previous = p.Release
		text += fmt.Sprintf(" (was %s)", p.Release)
	}
	if now.Epoch == r.Epoch {
		text += scheduledText(f.d, now)
	}
	var took time.Duration
	if !f.readyAt.IsZero() {
		took = f.flipAt.Sub(f.readyAt)
	}
	f.u.step("flipped", took, text)
	if f.d.Freeze {
		f.u.step("frozen", 0, fmt.Sprintf("flips of %s are refused until `relman unfreeze -s %[1]s`", f.s.site))
	}
}

func (f *follower) isReady(n, of int, without ...release.NodeID) {
	f.out.Ready = &count{n, of}
	at := f.readyAt
	if at.IsZero() {
		at = time.Now()
	}
	text := fmt.Sprintf("%d/%d nodes", n, of)
	if len(without) > 0 {
		text += ", without " + some(without)
	}
	f.u.step("ready", at.Sub(f.began), text)
}

// notFlipped says that what is live stays, and why.
func (f *follower) notFlipped(why *failure) *failure {
	why.out = &f.out
	f.out.State = stateFailed
	f.u.end("NOT FLIPPED", fmt.Sprintf("%s stays %s: %s", f.s.site, orNothing(f.out.Active), why.Error()))
	return why
}

// undecided: the wait is over, the request is not. What is live later is not
// for this command to say.
func (f *follower) undecided(why *failure) *failure {
	why.out = &f.out
	f.out.State = stateUnknown
	f.u.end("UNDECIDED", fmt.Sprintf("%s was %s: %s", f.s.site, orNothing(f.out.Active), why.Error()))
	return why
}

// resultFailure is the failure that a result other than success means.
func resultFailure(r cluster.Result) *failure {
	f := &failure{code: exitConflict, class: cluster.ClassConflict, text: string(r.State)}
	if r.Error != nil {
		f.class, f.text = r.Error.Class, r.Error.Text
	}
	switch {
	case f.class == cluster.ClassFrozen:
		f.code = exitFrozen
		f.hint = "`relman unfreeze` allows flips again"
	case r.State == cluster.StateFailed && f.class == cluster.ClassQuorum:
		f.code = exitNotReady
		f.hint = "`relman nodes` shows what each node does; --override=require does without the nodes that are named"
	case r.State == cluster.StateFailed:
		f.code = exitNotReady
		f.hint = fmt.Sprintf("`relman nodes` shows what each node does; the release is kept: `relman flip %s` tries it again", r.Release)
	}
	return f
}

// errNoResult ends the wait for a result.
var errNoResult = errors.New("no result")

// cut says what goes on in the cluster when the wait for it ends early.
func (f *follower) cut(ctx context.Context, err error) error {
	if f.flipAt.IsZero() {
		goesOn := fmt.Sprintf("request %s goes on without this command", f.d.Request)
		next := fmt.Sprintf("`relman status -s %s` shows it, `relman abort -s %[1]s` ends it", f.s.site)
		switch {
		case errors.Is(err, errNoResult):
			why := &failure{code: exitUnknown, class: classTimeout, text: "no manager ended it in time: " + goesOn, hint: "does a manager run? " + next, err: err}
			if down := f.down(ctx); down != nil {
				why.text, why.hint = down.Error()+": "+goesOn, next
			}
			return f.undecided(why)
		case ctx.Err() != nil:
			return f.undecided(&failure{code: exitInterrupted, class: classInterrupted, text: "interrupted: " + goesOn, hint: next, err: err})
		}
		why := failureOf(err)
		return f.undecided(&failure{code: exitUnknown, class: why.class, text: why.Error() + ": " + goesOn, hint: next, err: err})
	}
	if ctx.Err() != nil {
		f.u.end("LIVE", f.liveText())
		f.out.State = stateLive
		return &failure{
			code: exitInterrupted, class: classInterrupted, out: &f.out, err: err,
			text: fmt.Sprintf("interrupted: %s is active, and nodes go on to show it", f.d.Release), hint: "`relman wait --for=converged` waits for them",
		}
	}
	return f.notConverged(err.Error())
}

// down is why etcd cannot be asked now, nil when it can.
func (f *follower) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err := f.s.client.Observe(ctx, f.s.site)
	return err
}

// live says that the release is live.
func (f *follower) live() error {
	f.out.State, f.out.Active = stateLive, f.v.Active.Value.Release
	if f.shownToSome() {
		return nil
	}
	if !f.out.Changed {
		f.out.State = stateUnchanged
		f.u.end("UNCHANGED", fmt.Sprintf("%s = %s", f.s.site, f.out.Active))
		return nil
	}
	f.u.end("LIVE", f.liveText())
	return nil
}

// liveText is what is live, even when somebody else has changed it meanwhile.
func (f *follower) liveText() string {
	now := f.v.Active.Value
	text := fmt.Sprintf("%s = %s", f.s.site, now.Release)
	if now.Epoch != f.result.Epoch {
		text += fmt.Sprintf(" (epoch %d, by %s, after this one)", now.Epoch, now.By)
	}
	return text
}
