package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Policy is a site's configuration in etcd.
type Policy struct {
	// Min is how many members must hold a release before it is flipped to: a
	// number, or a percentage of the registered nodes, rounded up. Nodes that are
	// out are registered, too.
	Min string `json:"min"`
	// RequireLive wants those that are counted to live at the flip, of at most
	// MostLive nodes.
	RequireLive bool `json:"require_live"`
	// PrepareDeadlineSeconds is how long a rollout may take before it is late.
	PrepareDeadlineSeconds int `json:"prepare_deadline_s"`
	// GraceSeconds is how much longer it waits for nodes that are late, and for
	// those that come and go when all others are ready.
	GraceSeconds int `json:"grace_s"`
	// Stragglers says what becomes of those: StragglersOut or StragglersWait.
	Stragglers string `json:"stragglers"`
	// MostOutNodes is how many may be out because a rollout did not wait for
	// them: a number, or a percentage of the registered nodes, rounded down but
	// to one at least.
	MostOutNodes string `json:"max_out"`
	// Admission says how new nodes become members: AdmitAuto or AdmitApproved.
	Admission string `json:"admission"`
	// FenceSeconds is for how long, at least, a node that is not live any more is
	// taken for one that still serves; longer for one whose own fence is.
	FenceSeconds int `json:"fence_s"`
	// Buffers is how many releases a node holds: 3 to MaxBuffers.
	Buffers int `json:"buffers"`
	// Bake is how a release is looked at after its flip.
	Bake Bake `json:"bake"`
}

// The values of Policy.Stragglers.
const (
	StragglersOut  = "out"  // they are put out, as many as may be
	StragglersWait = "wait" // the rollout fails at its deadline
)

// The values of Policy.Admission.
const (
	AdmitAuto     = "auto"    // all that live and ask
	AdmitApproved = "approve" // those that an operator approves of
)

// DefaultPolicy is the policy of a new site.
func DefaultPolicy() Policy {
	return Policy{
		Min: "50%", PrepareDeadlineSeconds: 600, GraceSeconds: 60,
		Stragglers: StragglersOut, MostOutNodes: "20%", Admission: AdmitAuto, FenceSeconds: 10,
		Buffers: DefaultBuffers, Bake: defaultBake(),
	}
}

// UnmarshalJSON reads a policy. What an older program did not write is as in a
// new site.
func (p *Policy) UnmarshalJSON(raw []byte) error {
	type plain Policy
	q := plain(DefaultPolicy())
	if err := json.Unmarshal(raw, &q); err != nil {
		return err
	}
	*p = Policy(q)
	return nil
}

// PrepareDeadline is PrepareDeadlineSeconds as a duration.
func (p Policy) PrepareDeadline() time.Duration {
	return time.Duration(p.PrepareDeadlineSeconds) * time.Second
}

// Grace is GraceSeconds as a duration.
func (p Policy) Grace() time.Duration { return time.Duration(p.GraceSeconds) * time.Second }

// FenceWait is how long a leader waits, by its own clock, until a node that it
// has not seen live takes no traffic any more: the fence, by a clock that runs one
// percent slow, and a second for what is under way.
func (p Policy) FenceWait(own time.Duration) time.Duration {
	fence := max(own, time.Duration(p.FenceSeconds)*time.Second)
	return fence + fence/100 + time.Second
}

// Longest is how long a rollout can take by the policy, whatever its nodes do.
func (p Policy) Longest() time.Duration { return p.PrepareDeadline() + p.Grace() + p.FenceWait(0) }

// Validate lists what is wrong with a policy.
func (p Policy) Validate() error {
	var all []string
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	within := func(field string, n, least, most int) {
		if n < least || n > most {
			wrong("%s is %d, it can be %d to %d", field, n, least, most)
		}
	}
	if _, err := atLeast("min", p.Min, 1); err != nil {
		wrong("%v", err)
	}
	if _, err := atMost("max_out", p.MostOutNodes, 1); err != nil {
		wrong("%v", err)
	}
	within("prepare_deadline_s", p.PrepareDeadlineSeconds, 1, 86400)
	within("grace_s", p.GraceSeconds, 0, 86400)
	within("fence_s", p.FenceSeconds, 1, 3600)
	within("buffers", p.Buffers, DefaultBuffers, MaxBuffers)
	if p.Stragglers != StragglersOut && p.Stragglers != StragglersWait {
		wrong("stragglers is %q, it can be %s or %s", p.Stragglers, StragglersOut, StragglersWait)
	}
	if p.Admission != AdmitAuto && p.Admission != AdmitApproved {
		wrong("admission is %q, it can be %s or %s", p.Admission, AdmitAuto, AdmitApproved)
	}
	all = append(all, p.Bake.faults()...)
	if len(all) > 0 {
		return errors.New("policy: " + strings.Join(all, "; "))
	}
	return nil
}

// Need is how many claims a flip needs when this many nodes are registered: at
// least one.
func (p Policy) Need(registered int) (int, error) {
	n, err := atLeast("min", p.Min, registered)
	if err != nil {
		return 0, fmt.Errorf("policy: %w", err)
	}
	return n, nil
}

// MostOut is how many of so many registered nodes may be out because a rollout
// did not wait for them.
func (p Policy) MostOut(registered int) (int, error) {
	n, err := atMost("max_out", p.MostOutNodes, registered)
	if err != nil {
		return 0, fmt.Errorf("policy: %w", err)
	}
	return n, nil
}
