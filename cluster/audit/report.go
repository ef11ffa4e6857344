package audit

import (
	"fmt"

	"relman/release"
)

// Invariant is the number of an invariant of the protocol.
type Invariant string

// The invariants that the history can show to be broken.
const (
	// I2: when the active release changes, every claim of its buffer is for it,
	// and there is one.
	I2 Invariant = "I2"
	// I3: every change of the active release is one epoch more, and no node
	// goes back.
	I3 Invariant = "I3"
	// I4: what only a leader writes was written while a leader had its key.
	I4 Invariant = "I4"
	// I6: no flip while a freeze stands, but a rollback that it allows.
	I6 Invariant = "I6"
	// I7: one flip id flips once, one request is carried out once.
	I7 Invariant = "I7"
	// I8: a node that lives is drained before it is put out.
	I8 Invariant = "I8"
	// I10: no rollout fills a buffer that is needed.
	I10 Invariant = "I10"
	// I11: what was aborted, superseded, refused, judged bad, or has failed, does
	// not become active.
	I11 Invariant = "I11"
	// I12: no claim is taken back that what is active, or was before, rests on,
	// but one that the disk cannot back.
	I12 Invariant = "I12"
	// I13: a flip has as many claims as the policy wants, and no claim leaves
	// without its node unless the roster says so.
	I13 Invariant = "I13"
	// I14: what is shown is registered, with its manifest, and stays so.
	I14 Invariant = "I14"
	// I15: what was answered with success is in the history, and stays there.
	I15 Invariant = "I15"
	// I16: a flip is scheduled for at most an hour after it.
	I16 Invariant = "I16"
	// I17: the leader goes back by itself only from what is on trial or bakes.
	I17 Invariant = "I17"
	// Unreadable is no invariant: a value that says nothing, so that nothing
	// can be checked by it.
	Unreadable Invariant = "value"
)

// Invariants lists those that are checked.
func Invariants() []Invariant {
	return []Invariant{I2, I3, I4, I6, I7, I8, I10, I11, I12, I13, I14, I15, I16, I17}
}

// Violation is a revision at which an invariant was broken.
type Violation struct {
	Invariant Invariant    `json:"invariant"`
	Site      release.Site `json:"site"`
	Revision  int64        `json:"revision"`
	Key       string       `json:"key"`
	Text      string       `json:"text"`
}

func (v Violation) String() string {
	return fmt.Sprintf("%s is broken at revision %d by %s: %s", v.Invariant, v.Revision, v.Key, v.Text)
}

// mostViolations bounds those that a report lists; a history that is wrong from
// its beginning has one at each revision.
const mostViolations = 1000

// Report says what was checked and what was found.
type Report struct {
	// From is the first revision of etcd that was checked, Base the one whose
	// state it began from: 0, the empty one, if nothing was forgotten.
	From int64 `json:"from"`
	Base int64 `json:"base"`
	To   int64 `json:"to"` // the last one that changed a key of relman's
	// Gaps are revisions that etcd forgot while they were read.
	Gaps []Gap `json:"gaps,omitempty"`

	Revisions int `json:"revisions"` // that changed a key of relman's
	Flips     int `json:"flips"`     // changes of an active release
	Lowered   int `json:"lowered"`   // claims of active or previous releases that their nodes took back (T11a)
	Forced    int `json:"forced"`    // rules that an operator put aside, as history says

	Violations []Violation `json:"violations"`
	More       int         `json:"more,omitempty"` // violations that are not listed
}

// Gap is a range of revisions that were not checked.
type Gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Broken counts the violations.
func (r *Report) Broken() int { return len(r.Violations) + r.More }

func (r *Report) add(v Violation) {
	if len(r.Violations) == mostViolations {
		r.More++
		return
	}
	r.Violations = append(r.Violations, v)
}
