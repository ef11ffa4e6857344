package objectstore

import (
	"path"
	"regexp"

	"relman/release"
)

// pair is a new content and the one that it probably came from.
type pair struct {
	file BuildFile
	new  release.Digest
	old  release.File
}

// pairing finds what a file was in the base: the file of the same path or, for
// names that a build tool makes from contents (app.3f9ac1d2.js), one whose name
// differs in such a part only and that the build does not have any more.
type pairing struct {
	base *Stored
	gone map[string][]release.File // by name without what is made from contents
}

const (
	leastPair = 64 // bytes; below it a delta saves nothing
	leastName = 6  // letters and digits; fewer are a version or a number
)

func newPairing(base *Stored, b *Build) *pairing {
	p := &pairing{base: base, gone: map[string][]release.File{}}
	if base == nil {
		return p
	}
	stays := make(map[string]bool, len(b.Files))
	for _, f := range b.Files {
		stays[f.Path] = true
	}
	for _, f := range base.Manifest.Files {
		if name, made := stem(f.Path); made && !stays[f.Path] {
			p.gone[name] = append(p.gone[name], f)
		}
	}
	return p
}

// old is the file that another one came from.
func (p *pairing) old(f BuildFile) (release.File, bool) {
	if p.base == nil || f.Size < leastPair {
		return release.File{}, false
	}
	old, ok := p.base.Manifest.Lookup(f.Path)
	if !ok {
		name, made := stem(f.Path)
		if all := p.gone[name]; made && len(all) > 0 {
			old, ok = all[0], true
			p.gone[name] = all[1:]
		}
	}
	return old, ok && old.Size >= leastPair && p.base.Layout.Has(old.Digest)
}

// madeOfContents is a part of a name that a build tool makes from contents: a
// run of letters and digits, with a digit in it, behind a dot, a hyphen or an
// underscore and before a dot or the end.
var madeOfContents = regexp.MustCompile(`[.\-_]([A-Za-z]*[0-9][0-9A-Za-z]*)(\.|$)`)

// stem is a path without what is made from contents.
func stem(p string) (string, bool) {
	dir, name := path.Split(p)
	at := madeOfContents.FindStringSubmatchIndex(name)
	if at == nil || at[3]-at[2] < leastName {
		return p, false
	}
	return dir + name[:at[2]] + "*" + name[at[3]:], true
}
