package objectstore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"relman/release"
)

// A layout is lines. The first is a layoutHeader; then come the packs, the
// frames, a line for each content of the manifest, the old contents that deltas
// need, and a line for each content that has deltas. Contents and deltas are
// decimal numbers with a space between them.
//
// A frame has its contents one after the other and mostly in the order of the
// manifest, so a place says by how many bytes it does not follow the one before
// it in the same frame:
//
//	                                   an empty content, or one that only has deltas
//	FRAME                              it follows
//	FRAME SKIP                         it begins SKIP bytes behind
//	FRAME OFFSET LENGTH [...]          several pieces
//
// and deltas stand behind the number of the content, counted from the one before
// that has some, in the same way:
//
//	GAP FRAME LENGTH                                      one delta that follows, and makes it out of all of an
//	                                                      old content: the one after that of the line before
//	GAP FRAME OFFSET LENGTH SIZE OLD FROM SPAN [...]      any other

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
	layoutFormat   = 3
	maxLayoutBytes = 64 << 20
)

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
	follow := make([]int64, len(w.l.frames))
	for _, c := range all {
		w.numbers(placeNumbers(w.l.places[c.Digest], follow)...)
	}
	for _, o := range olds {
		if err := w.enc.Encode(oldLine{o, threes(w.l.based[o.Digest])}); err != nil {
			return err
		}
	}
	clear(follow)
	before, next := -1, 0
	for i, c := range all {
		deltas := w.l.deltas[c.Digest]
		if len(deltas) == 0 {
			continue
		}
		d, old := deltas[0], number[deltas[0].old]
		numbers := []int64{int64(i - before - 1)}
		if len(deltas) == 1 && old == next && d.plain(c.Size) && d.offset == follow[d.frame] {
			numbers = append(numbers, int64(d.frame), d.length)
		} else {
			for _, d := range deltas {
				numbers = append(numbers, int64(d.frame), d.offset, d.length, d.size, int64(number[d.old]), d.from, d.span)
			}
		}
		w.numbers(numbers...)
		last := deltas[len(deltas)-1]
		follow[last.frame] = last.offset + last.length
		before, next = i, number[last.old]+1
	}
	return nil
}

// plain: it makes a whole content out of a whole old one.
func (d delta) plain(size int64) bool { return d.size == size && d.from == 0 && d.span == d.old.Size }

// placeNumbers says where pieces are. follow is where the piece before ended, by
// frame.
func placeNumbers(pieces []piece, follow []int64) []int64 {
	var numbers []int64
	switch len(pieces) {
	case 0:
		return nil
	case 1:
		p := pieces[0]
		if numbers = []int64{int64(p.frame)}; p.offset != follow[p.frame] {
			numbers = append(numbers, p.offset-follow[p.frame])
		}
	default:
		numbers = threes(pieces)
	}
	last := pieces[len(pieces)-1]
	follow[last.frame] = last.offset + last.length
	return numbers
}

func (w *layoutWriter) numbers(numbers ...int64) {
	b := w.b.AvailableBuffer()
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	w.b.Write(append(b, '\n'))
}

func threes(pieces []piece) (numbers []int64) {
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
	line  []int64
}

func (p *layoutParser) next(v any) error {
	p.n++
	if !p.lines.Scan() {
		return fmt.Errorf("it ends here: %w", errorOr(p.lines.Err(), errShort))
	}
	return json.Unmarshal(p.lines.Bytes(), v)
}

// numbers reads a line of numbers. They are good until the next one is read.
func (p *layoutParser) numbers() ([]int64, error) {
	p.n++
	if !p.lines.Scan() {
		return nil, fmt.Errorf("it ends here: %w", errorOr(p.lines.Err(), errShort))
	}
	p.line = p.line[:0]
	for word := range bytes.FieldsSeq(p.lines.Bytes()) {
		n, err := strconv.ParseInt(string(word), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", word)
		}
		p.line = append(p.line, n)
	}
	return p.line, nil
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
	follow := make([]int64, len(l.frames))
	for _, c := range all {
		numbers, err := p.numbers()
		if err != nil {
			return nil, err
		}
		if l.places[c.Digest], err = l.place(c, numbers, follow); err != nil {
			return nil, err
		}
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
	follow := make([]int64, len(l.frames))
	at, next := int64(-1), int64(0)
	for range h.Deltas {
		numbers, err := p.numbers()
		if err != nil {
			return err
		}
		if len(numbers) == 0 || numbers[0] < 0 || numbers[0] >= int64(len(all))-at-1 {
			return errors.New("a delta of no content")
		}
		at += 1 + numbers[0]
		c := all[at]
		if numbers = numbers[1:]; len(numbers) == 2 {
			if numbers, err = l.plainDelta(c, numbers, olds, next, follow); err != nil {
				return err
			}
		}
		deltas, err := l.deltasOf(c, numbers, olds)
		if err != nil {
			return err
		}
		l.deltas[c.Digest] = deltas
		if last := numbers[max(0, len(numbers)-7):]; len(last) > 0 {
			follow[last[0]], next = last[1]+last[2], last[4]+1
		}
	}
	return nil
}

// plainDelta completes the numbers of a delta that follows the one before.
func (l *Layout) plainDelta(c release.File, numbers []int64, olds []oldRef, next int64, follow []int64) ([]int64, error) {
	frame, length := numbers[0], numbers[1]
	if frame < 0 || frame >= int64(len(l.frames)) {
		return nil, fmt.Errorf("no frame %d for %s", frame, c.Path)
	}
	if next >= int64(len(olds)) {
		return nil, fmt.Errorf("no old content %d for %s", next, c.Path)
	}
	return []int64{frame, follow[frame], length, c.Size, next, 0, olds[next].Size}, nil
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

// place reads where a content is, as placeNumbers says it.
func (l *Layout) place(c release.File, numbers, follow []int64) ([]piece, error) {
	switch len(numbers) {
	case 0: // an empty content, or it has deltas
		return nil, nil
	case 1, 2:
		frame, skip := numbers[0], append(numbers, 0)[1]
		if frame < 0 || frame >= int64(len(l.frames)) {
			return nil, fmt.Errorf("no frame %d for %s", frame, c.Path)
		}
		numbers = []int64{frame, follow[frame] + skip, c.Size}
	}
	pieces, err := l.pieces(c, numbers)
	if err == nil {
		last := pieces[len(pieces)-1]
		follow[last.frame] = last.offset + last.length
	}
	return pieces, err
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
