package main

import (
	"math/rand/v2"
	"time"

	"relman/cluster"
	"relman/release"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x72656c6d616e)) }

// slack is what a bound in time allows for the steps in between: looks at the site,
// back-off of up to 10 s, fills, sessions.
const slack = 60 * time.Second

// calm is the time after the faults, in which what was begun has to end (L1), a
// publish has to succeed in spite of a dead node (L3), and every node has to show
// what is active (L2).
func (w *world) calm() {
	w.keepTidy()
	longest := time.Duration(w.policy.deadline+w.policy.grace)*time.Second + 2*nodeTTL + 12*time.Second + managerTTL + slack
	// A policy that stood while the rollout began gave it other times; its request
	// ends by the longest that there was.
	if !w.await(longest, func() bool { return w.etcd.observe().Done() }) {
		d := w.etcd.observe().Desired.Value
		w.breaks("L1", "request %s (%s %s) has not ended %v after the faults", d.Request, d.Mode, d.Release, longest)
		return
	}
	// Who was out is let in again when it has kept its session for a fence wait.
	if !w.await(longest+2*sweepQuiet, w.converged) {
		w.breaks("L2", "not every live node shows what is active %v after the faults: %s", longest, w.state())
		return
	}
	w.last()
	w.lastBad()
}

// keepTidy has the operator look every few seconds.
func (w *world) keepTidy() {
	w.tidies()
	w.after(5*time.Second, w.keepTidy)
}

// await runs until something is so, for a while at most.
func (w *world) await(most time.Duration, so func() bool) bool {
	for end := w.now + most; w.now < end && w.broken == nil; {
		if so() {
			return true
		}
		w.run(min(end, w.now+time.Second))
	}
	return w.broken != nil || so()
}

// converged: every node that is not dead counts, is ready, and shows what is active.
func (w *world) converged() bool {
	v := w.etcd.observe()
	for _, n := range w.nodes {
		if !n.dead && (!n.ready() || v.Members[n.self.Node].Value != cluster.MemberIn) {
			return false
		}
	}
	return v.Done()
}

// state is where the nodes stand, in words.
func (w *world) state() string {
	v := w.etcd.observe()
	var all []string
	for _, n := range w.nodes {
		s := n.name + " " + string(v.Members[n.self.Node].Value)
		if n.dead {
			s += ", dead"
		} else if !n.ready() {
			s += ", not ready"
		}
		all = append(all, s)
	}
	return words(all)
}

// last is a publish without faults, by which a dead node is put out: the lease has
// run out by then, the fence wait and the grace may have to pass.
func (w *world) last() {
	id := w.lastPublish()
	if id == "" {
		return
	}
	shown := func() bool {
		active := w.etcd.observe().Active.Value.Release
		for _, n := range w.nodes {
			if !n.dead && n.shown != active {
				return false
			}
		}
		return true
	}
	if w.await(nodeTTL, shown) {
		return
	}
	// What a publisher has begun before may have become active after it.
	if w.etcd.observe().Active.Value.Release == id || !w.await(w.lastBound(), shown) {
		w.breaks("L2", "not every live node shows %s, or what came after it, %v after its flip: %s", id, nodeTTL, w.state())
	}
}

// lastBound is how long a publish without faults takes at most.
func (w *world) lastBound() time.Duration {
	return nodeTTL + 12*time.Second + time.Duration(w.policy.grace)*time.Second + sweepQuiet + slack
}

// lastPublish makes a release active, "" when that fails.
func (w *world) lastPublish() release.ID {
	w.endCanary()
	bound := w.lastBound()
	began := w.now
	var id release.ID
	var result *cluster.Result
	tries := 0
	var publish func()
	publish = func() {
		tries++
		w.publish(cluster.Desired{Mode: cluster.Publish}, func(got release.ID, r cluster.Result) {
			// What publishers and operators have sent before may still come.
			cordoned := w.cordoned > began || len(w.etcd.observe().Cordons) > 0
			late := r.State == cluster.StateSuperseded || r.State == cluster.StateRefused || r.State == cluster.StateFailed && cordoned
			if late && tries < 5 && w.now-began < bound/2 {
				w.after(2*time.Second, publish)
				return
			}
			id, result = got, &r
		})
	}
	publish()
	if !w.await(bound, func() bool { return result != nil }) || result == nil {
		if w.broken == nil {
			w.breaks("L3", "a publish without faults takes more than %v: %s", bound, w.state())
		}
		return ""
	}
	if result.State != cluster.StateActive && (result.State != cluster.StateReverted || !w.allBad) {
		why := ""
		if result.Error != nil {
			why = string(result.Error.Class) + " " + result.Error.Text
		}
		w.breaks("L1", "a publish without faults of %s ends as %s %s: %s", id, result.State, why, w.state())
		return ""
	}
	return id
}

// endCanary waits until the operator has ended a canary, which would need the
// buffer, and trials are over.
func (w *world) endCanary() {
	w.await(3*time.Minute, func() bool {
		v := w.etcd.observe()
		return v.Active.Value.Canary == nil && !v.OnTrial() && v.Done()
	})
}
