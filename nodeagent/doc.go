// Package nodeagent is the work of one node: it prefetches releases into its
// back buffers, claims what it holds, swaps when the active release changes,
// and serves.
//
// It promises that it serves no byte of a release that it has not fully
// verified, that a claim is true on its disk, that the front and the previous
// buffer are never written to, and that the epoch it shows never goes back.
//
// It leaves to others to decide what should be shown (package manager) and how
// the decision travels (package cluster). It cannot flip: the interface that
// it has of the cluster offers no such thing.
package nodeagent
