// Package siterules holds the conventions of static sites that Netlify and
// Cloudflare Pages share: the files _redirects and _headers, clean addresses,
// the page for what is not there, and the one page of an application that
// routes by itself. Where the two differ, the comments say which one is
// followed and why; docs/sites.md says it to users.
//
// It promises that a file is either parsed in full or all its problems are
// told, each with its line; that an answer depends on nothing but its
// arguments; that no redirect it makes up leads to itself, and none leads to
// another host unless a rule names that host; and that the time to match grows
// with the rules that have a * or a :placeholder only. Everything in it may be
// used by many goroutines at once.
//
// It leaves to others where the files come from, opening and sending them,
// methods other than GET and HEAD, caching, and the paths that relman keeps
// for itself.
package siterules

import "strings"

// The files of a release that say how it is shown. They stand at the top of
// it and are never shown themselves.
const (
	RedirectsFile = "_redirects"
	HeadersFile   = "_headers"
)

// IsControl reports whether a release's path is of a file that says how the
// release is shown. The check is for exactly these names at the top, because
// only these are read: elsewhere they are files like others.
func IsControl(path string) bool {
	return path == RedirectsFile || path == HeadersFile || strings.HasPrefix(path, "_relman.")
}
