// Package release is the vocabulary of relman: sites, nodes, groups, release
// ids, epochs, content digests and the manifest that says what a release is.
//
// It promises that a value which came out of a Parse function or out of
// ParseManifest is valid: no caller checks a name, a path or a digest a second
// time. It leaves to others where releases are kept (package objectstore),
// which of them is shown (package cluster) and how they reach a node (package
// nodeagent).
package release
