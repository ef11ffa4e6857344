package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"relman/release"
)

// The values, read by this package's own understanding of them: a mistake in the
// writers' types is not to be made here, too. Only what is checked is read.

// held is a release in a buffer.
type held struct {
	Release release.ID `json:"release"`
	Buffer  int        `json:"buffer"`
}

// canary is a release that some visitors or some nodes are shown.
type canary struct {
	held
	Manifest string `json:"manifest"`
	Group    string `json:"group"`
}

type active struct {
	held
	Manifest   string        `json:"manifest"`
	Epoch      release.Epoch `json:"epoch"`
	Previous   *held         `json:"previous"`
	Canary     *canary       `json:"canary"`
	Kind       string        `json:"kind"`
	Flip       string        `json:"flip"`
	Request    string        `json:"request"`
	At         time.Time     `json:"at"`
	ActivateAt *time.Time    `json:"activate_at"`
	ConfirmBy  *time.Time    `json:"confirm_by"`
	Bake       *struct{}     `json:"bake"`
	Leader     int64         `json:"leader"`
	Override   names         `json:"override"`
	Quorum     struct {
		Claims int `json:"claims"`
	} `json:"quorum"`
}

// pending reports whether nodes were still to wait at a time before they show it.
func (a *active) pending(at time.Time) bool { return a.ActivateAt != nil && a.ActivateAt.After(at) }

// needed are the releases that rest on their claims: what is active, what was
// before, and what is tried out.
func (a *active) needed() []held {
	if a == nil {
		return nil
	}
	all := []held{a.held}
	if a.Previous != nil {
		all = append(all, *a.Previous)
	}
	if a.Canary != nil {
		all = append(all, a.Canary.held)
	}
	return all
}

// manifests are those of the releases that are shown.
func (a *active) manifests() map[release.ID]string {
	all := map[release.ID]string{}
	if a != nil {
		all[a.Release] = a.Manifest
	}
	if a != nil && a.Canary != nil {
		all[a.Canary.Release] = a.Canary.Manifest
	}
	return all
}

type rollout struct {
	held
	Flip    string `json:"flip"`
	Request string `json:"request"`
}

// asked is what was asked for last, and the revisions of what it is to get past.
type asked struct {
	Request     string `json:"request"`
	OverFreeze  int64  `json:"over_freeze"`
	OverVerdict int64  `json:"over_verdict"`
}

// verdict is what a release was judged to be.
type verdict struct {
	text string
	mod  int64 // the revision of it
}

// record says that a release is complete in the store.
type record struct {
	Manifest string `json:"manifest"`
}

type freeze struct {
	mod           int64  // the revision of it
	By            string `json:"by"`
	Reason        string `json:"reason"`
	AllowRollback bool   `json:"allow_rollback"`
}

type result struct {
	State   string        `json:"state"`
	Release release.ID    `json:"release"`
	Epoch   release.Epoch `json:"epoch"`
}

// lost reports whether a request ended without becoming active, and so that it
// never may.
func (r result) lost() bool {
	return slices.Contains([]string{"failed", "superseded", "refused", "aborted"}, r.State)
}

// policy is a site's configuration.
type policy struct {
	Min    string `json:"min"`
	Quorum struct {
		Min string `json:"min"`
	} `json:"quorum"`
	Canary struct {
		Prepare string `json:"prepare"`
	} `json:"canary"`
}

// need is how many claims a flip needs of so many registered nodes.
func (p *policy) need(registered int) (int, error) {
	text := p.Min
	if text == "" {
		text = p.Quorum.Min
	}
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || percent && n > 100 {
		return 0, fmt.Errorf("the policy's min is %q", text)
	}
	if !percent {
		return n, nil
	}
	need := registered * n / 100
	if registered*n%100 > 0 {
		need++ // never rounded down
	}
	return max(1, need), nil
}

// lowered says which claims a node took back because its disk could not back
// them.
type lowered struct {
	Buffers []int `json:"buffers"`
}

type live struct {
	Boot string `json:"boot"`
}

type status struct {
	State string        `json:"state"`
	Epoch release.Epoch `json:"epoch"`
}

// names is a list of names, written as a list or as one name.
type names []string

// UnmarshalJSON takes either.
func (n *names) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*n = strings.FieldsFunc(one, func(r rune) bool { return r == ',' })
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(n))
}

// read decodes a value; fields that are not known are those of newer programs.
func read[T any](raw string) (*T, error) {
	v := new(T)
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		return nil, err
	}
	return v, nil
}
