package objectstore

import (
	"fmt"
	"maps"
	"slices"

	"relman/release"
)

// Layout says where each content of one release is. It is only ever read
// together with the release's manifest, whose digests it does not repeat: the
// places stand in the order in which the manifest first names each content.
// Nothing in it is believed: what is read by it is checked against the digest.
type Layout struct {
	packs  []packRef
	frames []frameRef
	places map[release.Digest][]piece
	deltas map[release.Digest][]delta
	// based are the places of old contents that some contents cannot be made
	// without: those that have deltas and no place of their own.
	based map[release.Digest][]piece
}

func newLayout(contents int) *Layout {
	return &Layout{
		places: make(map[release.Digest][]piece, contents),
		deltas: map[release.Digest][]delta{},
		based:  map[release.Digest][]piece{},
	}
}

// derived reports whether a content can only be made out of an old one.
func (l *Layout) derived(d release.Digest) bool { return len(l.places[d]) == 0 && len(l.deltas[d]) > 0 }

// packRef is one pack object.
type packRef struct {
	Digest release.Digest `json:"pack"`
	Size   int64          `json:"size"`
}

// frameRef is one frame: Size bytes of a pack from Offset on, which become Raw
// bytes.
type frameRef struct {
	Pack   int   `json:"k"`
	Offset int64 `json:"o"`
	Size   int64 `json:"n"`
	Raw    int64 `json:"r"`
	Zstd   bool  `json:"z,omitempty"`
}

// piece is a part of a content: length raw bytes of a frame from offset on. A
// content of at most maxFrame bytes is one piece; an empty one is none.
type piece struct {
	frame          int
	offset, length int64
}

// delta makes a piece of a content, the size bytes that follow those of the
// delta before, out of old bytes: span bytes of a content from its byte from on.
type delta struct {
	piece      // where the delta is
	size       int64
	old        oldRef
	from, span int64
}

// oldRef is a content that a delta needs. A release does not have to have it.
type oldRef struct {
	Digest release.Digest `json:"h"`
	Size   int64          `json:"s"`
}

// contents are the distinct contents of a manifest, in the order in which it
// first names them.
func contents(m *release.Manifest) []release.File {
	seen := make(map[release.Digest]bool, len(m.Files))
	var all []release.File
	for _, f := range m.Files {
		if !seen[f.Digest] {
			seen[f.Digest] = true
			all = append(all, f)
		}
	}
	return all
}

// Has reports whether the layout knows where a content is.
func (l *Layout) Has(d release.Digest) bool {
	if l == nil {
		return false
	}
	_, ok := l.places[d]
	return ok
}

// only is the part of the layout that a manifest needs, renumbered.
func (l *Layout) only(m *release.Manifest) (*Layout, error) {
	out := newLayout(len(m.Files))
	packs, frames := map[int]int{}, map[int]int{}
	for _, c := range contents(m) {
		from, ok := l.places[c.Digest]
		if !ok {
			return nil, fmt.Errorf("layout of %s: no place for %s", m.ID(), c.Path)
		}
		take := func(from []piece) (to []piece) {
			for _, p := range from {
				p.frame = out.addFrame(l, p.frame, packs, frames)
				to = append(to, p)
			}
			return to
		}
		out.places[c.Digest] = take(from)
		if !l.derived(c.Digest) {
			continue
		}
		for _, d := range l.deltas[c.Digest] {
			if _, ok := out.based[d.old.Digest]; !ok {
				out.based[d.old.Digest] = take(l.based[d.old.Digest])
			}
		}
	}
	for _, c := range contents(m) {
		for _, d := range l.deltas[c.Digest] {
			d.frame = out.addFrame(l, d.frame, packs, frames)
			out.deltas[c.Digest] = append(out.deltas[c.Digest], d)
		}
	}
	return out, nil
}

// addFrame takes a frame over from another layout, once.
func (l *Layout) addFrame(from *Layout, i int, packs, frames map[int]int) int {
	if n, ok := frames[i]; ok {
		return n
	}
	f := from.frames[i]
	pack, ok := packs[f.Pack]
	if !ok {
		pack = len(l.packs)
		packs[f.Pack] = pack
		l.packs = append(l.packs, from.packs[f.Pack])
	}
	f.Pack = pack
	l.frames = append(l.frames, f)
	frames[i] = len(l.frames) - 1
	return frames[i]
}

// merge is a layout that knows what l knows, and places of the other. Deltas of
// the other are left behind, but for what can only be made by them: they lead
// to its release from the one before it, which by now no node needs to hold.
func (l *Layout) merge(other *Layout) *Layout {
	if other == nil {
		return l
	}
	out := &Layout{
		packs:  append(slices.Clone(l.packs), other.packs...),
		frames: slices.Clone(l.frames),
		places: maps.Clone(l.places),
		deltas: maps.Clone(l.deltas),
		based:  maps.Clone(l.based),
	}
	for _, f := range other.frames {
		f.Pack += len(l.packs)
		out.frames = append(out.frames, f)
	}
	moved := func(pieces []piece) (to []piece) {
		for _, p := range pieces {
			p.frame += len(l.frames)
			to = append(to, p)
		}
		return to
	}
	for d, pieces := range other.places {
		if _, ok := out.places[d]; ok {
			continue
		}
		out.places[d] = moved(pieces)
		if !other.derived(d) {
			continue
		}
		for _, made := range other.deltas[d] {
			made.frame += len(l.frames)
			out.deltas[d] = append(out.deltas[d], made)
			out.based[made.old.Digest] = moved(other.based[made.old.Digest])
		}
	}
	return out
}
