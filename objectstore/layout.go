package objectstore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
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
}

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

// piece is a part of a content: Size raw bytes of a frame from Offset on. A
// content of at most maxFrame bytes is one piece; an empty one is none.
type piece struct {
	frame        int
	offset, size int64
}

type layoutHeader struct {
	Format int            `json:"layout"`
	Tree   release.Digest `json:"tree"` // of the manifest that it belongs to
	Packs  int            `json:"packs"`
	Frames int            `json:"frames"`
}

const (
	layoutFormat   = 1
	maxLayoutBytes = 64 << 20
)

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

// encode writes what the manifest's contents need of the layout, and no more.
func (l *Layout) encode(m *release.Manifest) ([]byte, error) {
	l, err := l.only(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	if err := enc.Encode(layoutHeader{layoutFormat, m.Tree, len(l.packs), len(l.frames)}); err != nil {
		return nil, err
	}
	for _, p := range l.packs {
		if err := enc.Encode(p); err != nil {
			return nil, err
		}
	}
	for _, f := range l.frames {
		if err := enc.Encode(f); err != nil {
			return nil, err
		}
	}
	for _, c := range contents(m) {
		var numbers []int64
		for _, p := range l.places[c.Digest] {
			numbers = append(numbers, int64(p.frame), p.offset, p.size)
		}
		if numbers == nil {
			numbers = []int64{}
		}
		if err := enc.Encode(numbers); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// only is the part of the layout that a manifest needs, renumbered.
func (l *Layout) only(m *release.Manifest) (*Layout, error) {
	out := &Layout{places: map[release.Digest][]piece{}}
	packs, frames := map[int]int{}, map[int]int{}
	for _, c := range contents(m) {
		from, ok := l.places[c.Digest]
		if !ok {
			return nil, fmt.Errorf("layout of %s: no place for %s", m.ID(), c.Path)
		}
		var to []piece
		for _, p := range from {
			to = append(to, piece{out.addFrame(l, p.frame, packs, frames), p.offset, p.size})
		}
		out.places[c.Digest] = to
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

// merge is a layout that knows what either knows.
func (l *Layout) merge(other *Layout) *Layout {
	if other == nil {
		return l
	}
	out := &Layout{
		packs:  append(slices.Clone(l.packs), other.packs...),
		frames: slices.Clone(l.frames),
		places: maps.Clone(l.places),
	}
	for _, f := range other.frames {
		f.Pack += len(l.packs)
		out.frames = append(out.frames, f)
	}
	for d, pieces := range other.places {
		if _, ok := out.places[d]; ok {
			continue
		}
		var moved []piece
		for _, p := range pieces {
			p.frame += len(l.frames)
			moved = append(moved, p)
		}
		out.places[d] = moved
	}
	return out
}

// parseLayout reads the layout of a manifest's release and checks that it can
// be one: every frame inside its pack, every piece inside its frame, and the
// pieces of a content as long as the content.
func parseLayout(raw []byte, m *release.Manifest) (*Layout, error) {
	p := layoutParser{lines: bufio.NewScanner(bytes.NewReader(raw))}
	p.lines.Buffer(nil, 1<<20)
	l, err := p.parse(m)
	if err != nil {
		return nil, fmt.Errorf("layout of %s, line %d: %w: %w", m.ID(), p.n, ErrCorrupt, err)
	}
	return l, nil
}

type layoutParser struct {
	lines *bufio.Scanner
	n     int
}

func (p *layoutParser) next(v any) error {
	p.n++
	if !p.lines.Scan() {
		return fmt.Errorf("it ends here: %w", errorOr(p.lines.Err(), errShort))
	}
	return json.Unmarshal(p.lines.Bytes(), v)
}

var errShort = errors.New("lines are missing")

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (p *layoutParser) parse(m *release.Manifest) (*Layout, error) {
	var h layoutHeader
	if err := p.next(&h); err != nil {
		return nil, err
	}
	if h.Format != layoutFormat {
		return nil, fmt.Errorf("format %d, this version reads %d", h.Format, layoutFormat)
	}
	if h.Tree != m.Tree {
		return nil, errors.New("it belongs to another tree")
	}
	l := &Layout{places: make(map[release.Digest][]piece, len(m.Files))}
	for range h.Packs {
		var k packRef
		if err := p.next(&k); err != nil {
			return nil, err
		}
		if k.Size < 0 || k.Size > maxObject {
			return nil, fmt.Errorf("a pack of %d bytes", k.Size)
		}
		l.packs = append(l.packs, k)
	}
	for range h.Frames {
		var f frameRef
		if err := p.next(&f); err != nil {
			return nil, err
		}
		if err := l.checkFrame(f); err != nil {
			return nil, err
		}
		l.frames = append(l.frames, f)
	}
	for _, c := range contents(m) {
		var numbers []int64
		if err := p.next(&numbers); err != nil {
			return nil, err
		}
		pieces, err := l.pieces(c, numbers)
		if err != nil {
			return nil, err
		}
		l.places[c.Digest] = pieces
	}
	if p.n++; p.lines.Scan() {
		return nil, errors.New("more lines than it says")
	}
	return l, p.lines.Err()
}

func (l *Layout) checkFrame(f frameRef) error {
	switch {
	case f.Pack < 0 || f.Pack >= len(l.packs):
		return fmt.Errorf("no pack %d", f.Pack)
	case f.Offset < 0 || f.Size < 1 || f.Offset > l.packs[f.Pack].Size-f.Size:
		return errors.New("a frame outside its pack")
	case f.Raw < 1 || f.Raw > maxFrame || f.Size > f.Raw:
		return fmt.Errorf("a frame of %d bytes out of %d", f.Raw, f.Size)
	}
	return nil
}

// pieces reads the places of one content.
func (l *Layout) pieces(c release.File, numbers []int64) ([]piece, error) {
	if len(numbers)%3 != 0 {
		return nil, fmt.Errorf("the place of %s is not made of threes", c.Path)
	}
	var out []piece
	var sum int64
	for i := 0; i < len(numbers); i += 3 {
		frame, p := numbers[i], piece{int(numbers[i]), numbers[i+1], numbers[i+2]}
		if frame < 0 || frame >= int64(len(l.frames)) {
			return nil, fmt.Errorf("no frame %d for %s", frame, c.Path)
		}
		if raw := l.frames[frame].Raw; p.offset < 0 || p.size < 1 || p.size > raw || p.offset > raw-p.size {
			return nil, fmt.Errorf("a piece of %s outside its frame", c.Path)
		}
		sum += p.size
		out = append(out, p)
	}
	if sum != c.Size {
		return nil, fmt.Errorf("the pieces of %s are %d bytes, it has %d", c.Path, sum, c.Size)
	}
	return out, nil
}
