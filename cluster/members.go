package cluster

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"relman/release"
)

// Cordon is an operator's word that a node is to be out, until it is taken
// back. The leader carries it out.
type Cordon struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Approval is an operator's word that a new node may become a member, where the
// policy wants one.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Last is what stands of a node after its session has ended. It is written with
// every session anew, so that a node which came back and went again unseen shows
// by its revision.
type Last struct {
	Boot string `json:"boot"`
	// FenceMS is how long, in milliseconds, the node takes itself for ready
	// without an answer of etcd.
	FenceMS int64 `json:"fence_ms"`
}

// Fence is FenceMS as a duration.
func (l Last) Fence() time.Duration { return time.Duration(l.FenceMS) * time.Millisecond }

// lastEntry reads what a node says of its last session. What cannot be read says
// nothing, but its revisions count.
func lastEntry(kv *mvccpb.KeyValue) Entry[Last] {
	e := Entry[Last]{Mod: kv.ModRevision, Create: kv.CreateRevision}
	if err := decode(string(kv.Key), kv.Value, &e.Value); err != nil {
		e.Value = Last{}
	}
	return e
}

// takeWish puts what an operator says of a node in its place.
func (v *View) takeWish(kind, rest string, kv *mvccpb.KeyValue) error {
	n, err := release.ParseNodeID(rest)
	if err != nil {
		return err
	}
	if kind == "approvals" {
		v.Approved[n] = true
		return nil
	}
	var e Entry[Cordon]
	if err := entry(kv, &e); err != nil {
		return err
	}
	v.Cordons[n] = e
	return nil
}
