package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"relman/release"
)

// RequestID names one intention of a person or a CI job, kept over all
// retries: a ULID.
type RequestID string

// Buffers per site and node.
const (
	DefaultBuffers = 3
	MaxBuffers     = 8
)

// NoClaim is the value of a claim that claims nothing.
const NoClaim = "-"

// Info says what a cluster is and where its objects are.
type Info struct {
	ID    string `json:"id"`
	Store string `json:"store"` // s3://bucket/prefix?endpoint=…, without credentials
	// AccessKey and SecretKey are set only by the embedded store of `relman
	// dev`, which listens on loopback alone.
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
}

// Catalog lists the sites of a cluster in the order in which they were made.
type Catalog struct {
	Sites []release.Site `json:"sites"`
}

// Held is a release in a buffer.
type Held struct {
	Release release.ID `json:"release"`
	Buffer  int        `json:"buffer"`
}

// Kind says why the active release changed, and Desired.Mode what was asked.
type Kind string

// What a request can ask for.
const (
	Publish  Kind = "publish"
	FlipTo   Kind = "flip"
	Rollback Kind = "rollback"
	Abort    Kind = "abort"
	// TryOut shows a release to some visitors, or by some nodes, beside what is
	// active; Promote makes it active, and EndCanary takes it back.
	TryOut    Kind = "canary"
	Promote   Kind = "promote"
	EndCanary Kind = "end-canary"
	// KindRevert is a rollback that nobody asked for: the release was on trial and
	// did not pass. It is never what a request asks for.
	KindRevert Kind = "revert"
)

// Active is the one truth of a site: what every node shows. The release comes
// first, so that `etcdctl get` is readable.
type Active struct {
	Release  release.ID     `json:"release"`
	Epoch    release.Epoch  `json:"epoch"`
	Buffer   int            `json:"buffer"`
	Previous *Held          `json:"previous"`
	Canary   *Canary        `json:"canary,omitempty"`
	Kind     Kind           `json:"kind"`
	Flip     string         `json:"flip"` // ULID, one per intention to flip
	Manifest release.Digest `json:"manifest"`
	At       time.Time      `json:"at"`
	By       string         `json:"by"`
	Message  string         `json:"message,omitempty"`
	Request  RequestID      `json:"request"`
	Override []Override     `json:"override,omitempty"` // the rules that it was to get past
	// ConfirmBy is when the leader goes back to Previous unless somebody has
	// confirmed this epoch; zero: it does not.
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
	// ActivateAt is when nodes begin to show it, each by its own clock; zero: at
	// once. Until then they show Previous, which became active with epoch Before, or
	// nothing if that is 0.
	ActivateAt time.Time     `json:"activate_at,omitzero"`
	Before     release.Epoch `json:"before,omitempty"`
	// Bake is how the nodes look at this epoch from its flip on; nil: not at all.
	Bake   *Bake  `json:"bake,omitempty"`
	Quorum Quorum `json:"quorum"`
	// Leader is the create revision of the election key of the leader that
	// wrote this: set by Flip, so that the history shows who flipped.
	Leader int64 `json:"leader,omitempty"`
}

// Quorum is the evidence for a flip, as the leader counted it at the revision
// that the guards of the flip then pinned.
type Quorum struct {
	Members int `json:"members"` // that counted
	Claims  int `json:"claims"`  // that held the release
	// Need is how many of the registered ones had to hold it, and Without are
	// those that were out, at most 20.
	Need    int              `json:"need,omitempty"`
	Without []release.NodeID `json:"without,omitempty"`
}

// Rollout is the work between a request and its flip.
type Rollout struct {
	Release  release.ID `json:"release"`
	Buffer   int        `json:"buffer"`
	Flip     string     `json:"flip"`
	Started  time.Time  `json:"started"`
	Deadline time.Time  `json:"deadline"`
	Request  RequestID  `json:"request"`
}

// Desired is what was asked for last.
type Desired struct {
	Request RequestID  `json:"request"`
	Mode    Kind       `json:"mode"`
	Release release.ID `json:"release,omitempty"`
	// Hold asks to prepare the release everywhere and not to flip.
	Hold bool `json:"hold,omitempty"`
	// Canary says to whom TryOut shows the release.
	Canary Audience `json:"canary,omitzero"`
	// Freeze asks the flip to freeze the site in the same transaction.
	Freeze bool `json:"freeze,omitempty"`
	// PrepareSeconds is how long the rollout may take, when that is less than
	// the policy allows; 0 leaves it to the policy.
	PrepareSeconds int `json:"prepare_s,omitempty"`
	// Require is how many nodes have to hold the release, if that is more than
	// the policy wants: "all", "3" or "75%". With OverrideRequire it stands in the
	// place of what the policy wants.
	Require  string     `json:"require,omitempty"`
	Override []Override `json:"override,omitempty"`
	// OverFreeze is the revision of the freeze, and OverVerdict the verdict, that
	// are overridden: set by Request.
	OverFreeze  int64 `json:"over_freeze,omitempty"`
	OverVerdict int64 `json:"over_verdict,omitempty"`
	// ConfirmSeconds makes the flip a trial: when nobody has confirmed it after so
	// long, the leader goes back; 0: it is none.
	ConfirmSeconds int `json:"confirm_s,omitempty"`
	// SwapInMS is how long after the flip the nodes are to swap, and SwapAt when;
	// one of them at most. Without both they swap at once.
	SwapInMS int64     `json:"swap_in_ms,omitempty"`
	SwapAt   time.Time `json:"swap_at,omitzero"`
	// Replaces are the requests that were still under way and end with this
	// one: set by Request.
	Replaces []RequestID `json:"replaces,omitempty"`
	By       string      `json:"by"`
	At       time.Time   `json:"at"`
	Message  string      `json:"message,omitempty"`
}

// Overrides reports whether a request is to get past a rule.
func (d Desired) Overrides(o Override) bool { return slices.Contains(d.Override, o) }

// State is how a request ended.
type State string

// The ways in which a request ends.
const (
	StateActive     State = "active"     // its release is, or was, active at Epoch
	StateCanary     State = "canary"     // its release is, or was, a canary from Epoch on
	StateReady      State = "ready"      // prepared everywhere, as asked (Hold)
	StateFailed     State = "failed"     // not prepared in time
	StateSuperseded State = "superseded" // a newer request took its place
	StateRefused    State = "refused"    // a rule forbids it
	StateReverted   State = "reverted"   // its release was active at Epoch, and did not pass its trial
	StateAborted    State = "aborted"    // an operator ended it; also the result of that abort
)

// Result is how one request ended; it is written in the transaction that ends
// the request.
type Result struct {
	State   State         `json:"state"`
	Release release.ID    `json:"release,omitempty"`
	Epoch   release.Epoch `json:"epoch,omitempty"`
	// Changed is false when the release was active before it was asked for.
	Changed bool       `json:"changed"`
	Error   *ErrorInfo `json:"error,omitempty"`
	At      time.Time  `json:"at"`
}

// ErrorInfo is an error as results and statuses carry it.
type ErrorInfo struct {
	Class Class            `json:"class"`
	Text  string           `json:"text"`
	Nodes []release.NodeID `json:"nodes,omitempty"` // at most 20
}

// ReleaseRecord says that a release is complete in the store. It is written
// once and never changed.
type ReleaseRecord struct {
	Manifest release.Digest `json:"manifest"`
	Files    int            `json:"files"`
	Bytes    int64          `json:"bytes"`
	Created  time.Time      `json:"created"`
	By       string         `json:"by"`
	Message  string         `json:"message,omitempty"`
	Commit   string         `json:"commit,omitempty"`
	Request  RequestID      `json:"request"`
}

// Freeze forbids flips while it exists.
type Freeze struct {
	By            string    `json:"by"`
	Reason        string    `json:"reason"`
	At            time.Time `json:"at"`
	AllowRollback bool      `json:"allow_rollback"`
	// Until is when the leader ends it; zero: it stands until somebody does.
	Until time.Time `json:"until,omitzero"`
}

// Roster changes whenever a claim leaves without its own node: a flip compares
// it, so that the set it counted cannot shrink unseen.
type Roster struct {
	V   int    `json:"v"`
	Why string `json:"why"`
}

// Member says whether a node counts.
type Member string

// The states of a member.
const (
	MemberIn    Member = "in"
	MemberDrain Member = "drain" // it counts, is not ready, and is out once it has said so
	MemberOut   Member = "out"   // it does not count, and follows what is active
)

// Join is what a node asks for when it first appears.
type Join struct {
	Sites []release.Site `json:"sites"` // empty: every site
	Group release.Group  `json:"group"`
}

// For reports whether a node that joins so is for a site.
func (j Join) For(s release.Site) bool { return len(j.Sites) == 0 || slices.Contains(j.Sites, s) }

// Live says that a node's session lives.
type Live struct {
	Boot    string `json:"boot"`            // ULID, new with every start of the agent
	Addr    string `json:"addr"`            // URL of the node's own server
	Admin   string `json:"admin,omitempty"` // URL at which it answers for itself
	Version string `json:"version"`
}

// NodeState is what a node does for one site.
type NodeState string

// The states of a node.
const (
	NodeJoining   NodeState = "joining"   // not a member yet
	NodeSyncing   NodeState = "syncing"   // fetching what is active
	NodeServing   NodeState = "serving"   // shows the active release
	NodePreparing NodeState = "preparing" // serving, and filling its back buffer
	NodeRefusing  NodeState = "refusing"  // etcd's epoch went back: serving what it has
	NodeDraining  NodeState = "draining"  // not ready, and about to be out
	NodeWaiting   NodeState = "waiting"   // shows what was active before, until a scheduled flip takes effect
	NodeOut       NodeState = "out"       // does not count; follows what is active
)

// Status is what a node says of itself for one site.
type Status struct {
	State   NodeState     `json:"state"`
	Release release.ID    `json:"release,omitempty"` // shown
	Epoch   release.Epoch `json:"epoch,omitempty"`   // applied
	Swapped time.Time     `json:"swapped,omitzero"`  // when it applied that epoch, by its own clock
	// ClockErrorMS is how far its clock is ahead of the leader's, if that is too far
	// to go by it.
	ClockErrorMS int64      `json:"clock_error_ms,omitempty"`
	Preparing    *Progress  `json:"preparing,omitempty"`
	Error        *ErrorInfo `json:"error,omitempty"`
	// Bake is what it says of the release that bakes, nil for nothing.
	Bake *BakeReport `json:"bake,omitempty"`
	// Drained is the revision of the member entry that drains the node, once it
	// takes no traffic any more.
	Drained int64 `json:"drained,omitempty"`
}

// Lowered says which buffers a node's claims were lowered for (T11a). It is
// written in the transaction that lowers them: by it the history tells a claim
// that was not true any more from one that nobody may take back.
type Lowered struct {
	Buffers []int  `json:"buffers"`
	Boot    string `json:"boot"` // of the agent
}

// Progress of a fill, in bytes; or of what comes after it.
type Progress struct {
	Release release.ID `json:"release"`
	Done    int64      `json:"done"`
	Total   int64      `json:"total"`
	// Hook names the program that looks at the release now, "" for none.
	Hook string `json:"hook,omitempty"`
}

// GC is the state of the store's sweep; a registration never crosses one.
type GC struct {
	Gen   int       `json:"gen"`   // counts sweeps
	Phase string    `json:"phase"` // GCIdle or GCSweep
	Since time.Time `json:"since"` // of the phase
	By    string    `json:"by,omitempty"`
	ID    string    `json:"id,omitempty"`    // ULID of the sweep, or of the last one
	Holds int       `json:"holds,omitempty"` // how often its owner has shown that it goes on
}

// The phases of GC.
const (
	GCIdle  = "idle"
	GCSweep = "sweep"
)

// encode writes a value as one line of JSON.
func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("cluster: %T cannot be written: %v", v, err)) // plain structs only
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// decode reads a value. Unknown fields are kept out of the way, so that older
// and newer programs can share a cluster.
func decode(key string, raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}
