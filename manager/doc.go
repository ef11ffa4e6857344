// Package manager is the work of the leader: it observes a site, decides, and
// acts, over and over. It also serves what it sees, read-only, as JSON.
//
// It promises that a decision is a pure function of one revision of the
// cluster's state, and that nothing it does commits unless it still leads and
// nothing that the decision rested on has moved. Two managers that both believe
// to lead are harmless.
//
// Sweeps of the store are of another kind: whoever has begun one owns it, the
// leader or anybody else, and goes on until it is done or lost.
//
// It leaves to others how state is stored (package cluster) and what a node
// does about it (package nodeagent).
package manager
