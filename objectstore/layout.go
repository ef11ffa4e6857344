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

// oldLine is how it stands in a layout. It has a place where a content of the
// release can only be made out of it.
type oldLine struct {
	oldRef
	Place []int64 `json:"p,omitempty"`
}

type layoutHeader struct {
	Format int            `json:"layout"`
	Tree   release.Digest `json:"tree"` // of the manifest that it belongs to
	Packs  int            `json:"packs"`
	Frames int            `json:"frames"`
	Olds   int            `json:"olds"`   // contents that deltas need
	Deltas int            `json:"deltas"` // contents that have deltas
}

const (
	layoutFormat   = 2
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
	w := layoutWriter{l: l}
	w.enc = json.NewEncoder(&w.b)
	if err := w.write(m); err != nil {
		return nil, err
	}
	return w.b.Bytes(), nil
}

type layoutWriter struct {
	l   *Layout
	b   bytes.Buffer
	enc *json.Encoder
}

func (w *layoutWriter) write(m *release.Manifest) error {
	all := contents(m)
	olds, number := w.l.olds(all)
	h := layoutHeader{layoutFormat, m.Tree, len(w.l.packs), len(w.l.frames), len(olds), len(w.l.deltas)}
	if err := errors.Join(w.enc.Encode(h), lines(w.enc, w.l.packs), lines(w.enc, w.l.frames)); err != nil {
		return err
	}
	for _, c := range all {
		if err := w.enc.Encode(append([]int64{}, numbersOf(w.l.places[c.Digest])...)); err != nil {
			return err
		}
	}
	for _, o := range olds {
		if err := w.enc.Encode(oldLine{o, numbersOf(w.l.based[o.Digest])}); err != nil {
			return err
		}
	}
	for i, c := range all {
		if len(w.l.deltas[c.Digest]) == 0 {
			continue
		}
		numbers := []int64{int64(i)}
		for _, d := range w.l.deltas[c.Digest] {
			numbers = append(numbers, int64(d.frame), d.offset, d.length, d.size, int64(number[d.old]), d.from, d.span)
		}
		if err := w.enc.Encode(numbers); err != nil {
			return err
		}
	}
	return nil
}

func numbersOf(pieces []piece) (numbers []int64) {
	for _, p := range pieces {
		numbers = append(numbers, int64(p.frame), p.offset, p.length)
	}
	return numbers
}

func lines[T any](enc *json.Encoder, all []T) error {
	for _, v := range all {
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// olds numbers the contents that deltas need.
func (l *Layout) olds(all []release.File) (olds []oldRef, number map[oldRef]int) {
	number = map[oldRef]int{}
	for _, c := range all {
		for _, d := range l.deltas[c.Digest] {
			if _, ok := number[d.old]; !ok {
				number[d.old] = len(olds)
				olds = append(olds, d.old)
			}
		}
	}
	return olds, number
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
	l := newLayout(len(m.Files))
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
	all := contents(m)
	for _, c := range all {
		var numbers []int64
		if err := p.next(&numbers); err != nil {
			return nil, err
		}
		pieces, err := l.pieces(c, numbers)
		if err != nil && len(numbers) > 0 { // without a place it has to have deltas
			return nil, err
		}
		l.places[c.Digest] = pieces
	}
	if err := p.deltas(l, h, all); err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Size > 0 && len(l.places[c.Digest]) == 0 && !l.makes(c.Digest) {
			return nil, fmt.Errorf("no place for %s", c.Path)
		}
	}
	if p.n++; p.lines.Scan() {
		return nil, errors.New("more lines than it says")
	}
	return l, p.lines.Err()
}

func (p *layoutParser) deltas(l *Layout, h layoutHeader, all []release.File) error {
	var olds []oldRef
	for range h.Olds {
		var o oldLine
		if err := p.next(&o); err != nil {
			return err
		}
		olds = append(olds, o.oldRef)
		if o.Place == nil {
			continue
		}
		var err error
		if l.based[o.Digest], err = l.pieces(release.File{Path: "an old version", Size: o.Size}, o.Place); err != nil {
			return err
		}
	}
	for range h.Deltas {
		var numbers []int64
		if err := p.next(&numbers); err != nil {
			return err
		}
		if len(numbers) == 0 || numbers[0] < 0 || numbers[0] >= int64(len(all)) {
			return errors.New("a delta of no content")
		}
		c := all[numbers[0]]
		deltas, err := l.deltasOf(c, numbers[1:], olds)
		if err != nil {
			return err
		}
		l.deltas[c.Digest] = deltas
	}
	return nil
}

// makes reports whether a content can be made from the store alone, by deltas.
func (l *Layout) makes(d release.Digest) bool {
	for _, made := range l.deltas[d] {
		if made.span > 0 && l.based[made.old.Digest] == nil {
			return false
		}
	}
	return len(l.deltas[d]) > 0
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
	for n := range slices.Chunk(numbers, 3) {
		p, err := l.piece(n, c.Path)
		if err != nil {
			return nil, err
		}
		sum += p.length
		out = append(out, p)
	}
	if sum != c.Size {
		return nil, fmt.Errorf("the pieces of %s are %d bytes, it has %d", c.Path, sum, c.Size)
	}
	return out, nil
}

func (l *Layout) piece(n []int64, path string) (piece, error) {
	if n[0] < 0 || n[0] >= int64(len(l.frames)) {
		return piece{}, fmt.Errorf("no frame %d for %s", n[0], path)
	}
	p := piece{int(n[0]), n[1], n[2]}
	if raw := l.frames[p.frame].Raw; p.offset < 0 || p.length < 1 || p.length > raw || p.offset > raw-p.length {
		return piece{}, fmt.Errorf("a piece of %s outside its frame", path)
	}
	return p, nil
}

// deltasOf reads the deltas of one content.
func (l *Layout) deltasOf(c release.File, numbers []int64, olds []oldRef) ([]delta, error) {
	if len(numbers)%7 != 0 {
		return nil, fmt.Errorf("the deltas of %s are not made of sevens", c.Path)
	}
	var out []delta
	var sum int64
	for n := range slices.Chunk(numbers, 7) {
		p, err := l.piece(n, c.Path)
		if err != nil {
			return nil, err
		}
		if n[4] < 0 || n[4] >= int64(len(olds)) {
			return nil, fmt.Errorf("no old content %d for %s", n[4], c.Path)
		}
		d := delta{piece: p, size: n[3], old: olds[n[4]], from: n[5], span: n[6]}
		if d.size < 1 || d.size > maxFrame || d.span < 0 || d.span > maxOld || d.from < 0 || d.from > d.old.Size-d.span {
			return nil, fmt.Errorf("a delta of %s that makes %d bytes out of %d from %d on", c.Path, d.size, d.span, d.from)
		}
		sum += d.size
		out = append(out, d)
	}
	if sum != c.Size {
		return nil, fmt.Errorf("the deltas of %s make %d bytes, it has %d", c.Path, sum, c.Size)
	}
	return out, nil
}
