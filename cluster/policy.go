package cluster

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Policy is a site's configuration in etcd.
type Policy struct {
	// Min is how many members must hold a release before it is flipped to: a
	// number, or a percentage of the registered nodes, rounded up.
	Min string `json:"min"`
	// PrepareDeadlineSeconds is how long a rollout may take before it fails.
	PrepareDeadlineSeconds int `json:"prepare_deadline_s"`
	// Buffers is how many releases a node holds: 3 to MaxBuffers.
	Buffers int `json:"buffers"`
}

// DefaultPolicy is the policy of a new site.
func DefaultPolicy() Policy {
	return Policy{Min: "100%", PrepareDeadlineSeconds: 600, Buffers: DefaultBuffers}
}

// PrepareDeadline is PrepareDeadlineSeconds as a duration.
func (p Policy) PrepareDeadline() time.Duration {
	return time.Duration(p.PrepareDeadlineSeconds) * time.Second
}

// Validate lists what is wrong with a policy.
func (p Policy) Validate() error {
	if _, err := p.Need(1); err != nil {
		return err
	}
	if p.PrepareDeadlineSeconds < 1 || p.PrepareDeadlineSeconds > 24*3600 {
		return fmt.Errorf("policy: prepare_deadline_s is %d, it can be 1 to 86400", p.PrepareDeadlineSeconds)
	}
	if p.Buffers < DefaultBuffers || p.Buffers > MaxBuffers {
		return fmt.Errorf("policy: buffers is %d, it can be %d to %d", p.Buffers, DefaultBuffers, MaxBuffers)
	}
	return nil
}

// Need is how many claims a flip needs when this many nodes are registered: at
// least one.
func (p Policy) Need(registered int) (int, error) {
	if pct, ok := strings.CutSuffix(p.Min, "%"); ok {
		n, err := strconv.Atoi(pct)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("policy: min is %q, a percentage can be 1%% to 100%%", p.Min)
		}
		return max(1, (registered*n+99)/100), nil
	}
	n, err := strconv.Atoi(p.Min)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("policy: min is %q, it can be a number from 1 or a percentage", p.Min)
	}
	return n, nil
}
