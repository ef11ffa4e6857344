package main

import (
	"relman/cluster"
	"relman/release"
)

// outcome is what a command that changes something says at its end, with
// `-o json` or `-o yaml` as it stands here. Fields are added, never renamed or
// removed. A command that fails prints it too, whatever the command, with at
// least changed, exit, class and error.
type outcome struct {
	Site  release.Site `json:"site,omitempty"`
	State state        `json:"state"`
	// Changed: the live release is another one by this command.
	Changed  bool              `json:"changed"`
	Release  release.ID        `json:"release,omitempty"`  // that was asked for
	Epoch    release.Epoch     `json:"epoch,omitempty"`    // at which it became active
	Previous release.ID        `json:"previous,omitempty"` // active before
	Active   release.ID        `json:"active,omitempty"`   // live at the end, as far as is known
	Request  cluster.RequestID `json:"request,omitempty"`

	Ready  *count   `json:"ready,omitempty"`   // nodes that hold the release
	Shown  *count   `json:"shown,omitempty"`   // nodes that show it
	SkewMS *float64 `json:"skew_ms,omitempty"` // from the first node's swap to the last one's
	// ClockWrong are the nodes that are not in it, since their clocks are wrong.
	ClockWrong []release.NodeID `json:"clock_wrong,omitempty"`

	Upload *upload       `json:"upload,omitempty"`
	Winner *winner       `json:"winner,omitempty"` // who was first, of a conflict
	Verify *verified     `json:"verify,omitempty"` // what a verification found
	Sweep  *sweepReport  `json:"sweep,omitempty"`  // what a sweep did
	Doctor *doctorReport `json:"doctor,omitempty"` // what is wrong with the cluster

	Exit  exitCode         `json:"exit"` // the exit code
	Class cluster.Class    `json:"class,omitempty"`
	Error string           `json:"error,omitempty"`
	Hint  string           `json:"hint,omitempty"`
	Nodes []release.NodeID `json:"nodes,omitempty"` // that the error is about
}

// state says in one word how a command ended.
type state string

const (
	stateLive      state = "live"      // the release is active
	stateUnchanged state = "unchanged" // it was before
	stateCanary    state = "canary"    // the release is shown to some
	stateReady     state = "ready"     // prepared everywhere, as asked, not flipped
	stateAsked     state = "asked"     // asked for, not waited for
	stateDryRun    state = "dry-run"   // nothing was done
	stateDone      state = "done"      // of commands that are not about a flip
	stateUnknown   state = "unknown"   // it goes on without this command, or may have happened
	stateFailed    state = "failed"
)

// count is how many of how many.
type count struct {
	Done int `json:"done"`
	Of   int `json:"of"`
}

// upload is what a publish sent.
type upload struct {
	Files    int     `json:"files"`
	NewFiles int     `json:"new_files"` // whose content the base does not hold
	Bytes    int64   `json:"bytes"`
	Sent     int64   `json:"sent_bytes"`
	Packs    int     `json:"packs"`
	Seconds  float64 `json:"seconds"`
}

// winner is the request that a conflict was lost to.
type winner struct {
	Request cluster.RequestID `json:"request"`
	Mode    cluster.Kind      `json:"mode"`
	Release release.ID        `json:"release,omitempty"`
	By      string            `json:"by"`
}
