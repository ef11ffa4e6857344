// Package embedded runs an S3 server on a directory: the default of relman dev,
// and of small clusters that bring no object store of their own.
//
// The server is versitygw with its POSIX backend. That backend never syncs, so
// this package wraps it: a write that has been answered survives a power cut.
// It also changes the working directory of its process and cannot run twice in
// one, so Start runs it as a child process of the same binary, which ends with
// its parent. It is one machine's disk: what needs more brings a real store.
//
// With the build tag noembed the package compiles to functions that return
// ErrNotBuilt, and versitygw is not linked.
package embedded
