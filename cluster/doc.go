// Package cluster is what relman keeps in etcd and how: the keys and values,
// the transactions as guard lists, the leader's election and the watches. No
// other package imports etcd.
//
// It promises that every change of shared state is one guarded transaction:
// a Txn is plain data, made by a pure function out of what was read, and
// commits only while each of its guards still holds. What did not commit is a
// *Refusal that names the first guard that failed; what may or may not have
// committed is ErrUnknown and never anything else.
//
// It leaves to others what should be decided (package manager), what a node
// does about it (package nodeagent) and the bytes of a release (package
// objectstore).
package cluster
