package objectstore

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// A delta makes new bytes out of old ones. It is three runs of bytes behind
// the lengths of the first two (uvarints):
//
//   - operations: how many bytes do not match (uvarint), by how much the
//     distance between old and new positions changes (varint), how many bytes
//     are then copied (uvarint); the last operation is its first number alone;
//   - differences, new minus old byte by byte, for bytes that do not match
//     between two copies of the same distance. In programs these are addresses,
//     whose differences repeat;
//   - literals, for the other bytes that do not match.
//
// The runs are apart from each other because they compress better so, and are
// not compressed here: a frame holds the deltas of many files. Against zstd
// with the old bytes as its dictionary this takes a quarter of the bytes and a
// sixth of the time on pages that differ by a stamp, because what matches is
// skipped at the speed of a comparison; docs/performance.md has the figures.

const (
	seedLength = 16 // bytes of a match that is found without knowing its distance
	lookAhead  = 48 // how far behind a mismatch the same distance is tried again
	wordLength = 8  // bytes of a match at the same distance
)

// differ makes deltas. It keeps its table from one to the next.
type differ struct {
	table []int32 // position in old + 1, by hash of seedLength bytes
	shift uint
	old   []byte
	ready bool

	before, after scratch // for files, of use to whoever has the differ
}

// delta appends what makes new out of old. Both are below 2 GiB.
func (d *differ) delta(dst, old, new []byte) []byte {
	d.old, d.ready = old, false
	var ops, diffs, literals []byte
	distance, gap := 0, 0 // old position minus new one; where the unmatched bytes begin
	for gap < len(new) {
		m, ok := d.match(new, gap, distance)
		if !ok {
			break
		}
		ops = binary.AppendUvarint(ops, uint64(m.at-gap))
		ops = binary.AppendVarint(ops, int64(m.distance-distance))
		ops = binary.AppendUvarint(ops, uint64(m.length))
		if m.distance == distance {
			for k := gap; k < m.at; k++ {
				diffs = append(diffs, new[k]-old[k+distance])
			}
		} else {
			literals = append(literals, new[gap:m.at]...)
		}
		distance, gap = m.distance, m.at+m.length
	}
	ops = binary.AppendUvarint(ops, uint64(len(new)-gap))
	literals = append(literals, new[gap:]...)
	dst = binary.AppendUvarint(dst, uint64(len(ops)))
	dst = binary.AppendUvarint(dst, uint64(len(diffs)))
	return append(append(append(dst, ops...), diffs...), literals...)
}

type match struct{ at, distance, length int }

// match finds the next bytes of new, from gap on, that old has: at the same
// distance as before, or anywhere.
func (d *differ) match(new []byte, gap, distance int) (match, bool) {
	for at := gap; at+wordLength <= len(new); at++ {
		if at-gap < lookAhead {
			if o := at + distance; o >= 0 && o+wordLength <= len(d.old) && word(d.old[o:]) == word(new[at:]) {
				return match{at, distance, same(d.old[o:], new[at:])}, true
			}
		}
		if at+seedLength > len(new) {
			continue
		}
		o, ok := d.find(new[at:])
		if !ok {
			continue
		}
		length := same(d.old[o:], new[at:])
		if length < seedLength {
			continue
		}
		for at > gap && o > 0 && d.old[o-1] == new[at-1] {
			at, o, length = at-1, o-1, length+1
		}
		return match{at, o - at, length}, true
	}
	return match{}, false
}

// find looks for bytes in old that probably begin as b does.
func (d *differ) find(b []byte) (int, bool) {
	if len(d.old) < seedLength {
		return 0, false
	}
	if !d.ready {
		d.index()
	}
	o := d.table[seed(b)>>d.shift]
	return int(o) - 1, o > 0
}

// index notes where old has what. Of equal bytes the first ones stay.
func (d *differ) index() {
	size := 1 << bits.Len(uint(len(d.old)/seedLength*2))
	if cap(d.table) < size {
		d.table = make([]int32, size)
	}
	d.table = d.table[:size]
	clear(d.table)
	d.shift = uint(64 - bits.Len(uint(size-1)))
	for o := (len(d.old) - seedLength) / seedLength * seedLength; o >= 0; o -= seedLength {
		d.table[seed(d.old[o:])>>d.shift] = int32(o + 1) //nolint:gosec // old is below 2 GiB
	}
	d.ready = true
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// seed hashes seedLength bytes into the upper bits.
func seed(b []byte) uint64 {
	return (word(b)*0x9E3779B185EBCA87 ^ word(b[8:])) * 0xC2B2AE3D27D4EB4F
}

// same is how many bytes a and b have in common at their beginnings.
func same(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for i+wordLength <= n {
		if x := word(a[i:]) ^ word(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
		i += wordLength
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

var errDelta = errors.New("delta does not fit")

// applyDelta makes size new bytes out of old ones. What it makes has yet to be
// checked; a delta that leads outside of anything is errDelta.
func applyDelta(to, delta, old []byte, size int64) ([]byte, error) {
	opsLength, a := binary.Uvarint(delta)
	if a <= 0 {
		return nil, errDelta
	}
	diffsLength, b := binary.Uvarint(delta[a:])
	rest := delta[a+max(b, 0):]
	if b <= 0 || opsLength > uint64(len(rest)) || diffsLength > uint64(len(rest))-opsLength {
		return nil, errDelta
	}
	p := patch{
		ops: rest[:opsLength], diffs: rest[opsLength : opsLength+diffsLength], literals: rest[opsLength+diffsLength:],
		old: old, out: slices.Grow(to[:0], int(size)), size: size,
	}
	for p.step() {
	}
	if p.bad || len(p.ops)+len(p.diffs)+len(p.literals) > 0 || int64(len(p.out)) != size {
		return nil, errDelta
	}
	return p.out, nil
}

// patch is a delta that is being applied.
type patch struct {
	ops, diffs, literals []byte // what is left of them
	old, out             []byte
	size, distance       int64
	bad                  bool
}

// step does one operation. It is false after the last one, and after one that
// leads outside.
func (p *patch) step() bool {
	gap, n := binary.Uvarint(p.ops)
	left := p.size - int64(len(p.out))
	if n <= 0 || gap > uint64(left) {
		return p.fail()
	}
	p.ops = p.ops[n:]
	if int64(gap) == left { // the last one
		p.bad = !p.literal(int(gap))
		return false
	}
	change, n := binary.Varint(p.ops)
	if n <= 0 {
		return p.fail()
	}
	p.ops = p.ops[n:]
	length, n := binary.Uvarint(p.ops)
	if n <= 0 || length == 0 || length > uint64(left)-gap {
		return p.fail()
	}
	p.ops = p.ops[n:]
	p.distance += change
	ok := false
	if change == 0 {
		ok = p.difference(int(gap))
	} else {
		ok = p.literal(int(gap))
	}
	from := int64(len(p.out)) + p.distance
	if !ok || from < 0 || from > int64(len(p.old))-int64(length) {
		return p.fail()
	}
	p.out = append(p.out, p.old[from:from+int64(length)]...)
	return true
}

func (p *patch) fail() bool {
	p.bad = true
	return false
}

func (p *patch) literal(n int) bool {
	if n > len(p.literals) {
		return false
	}
	p.out, p.literals = append(p.out, p.literals[:n]...), p.literals[n:]
	return true
}

func (p *patch) difference(n int) bool {
	from := int64(len(p.out)) + p.distance
	if n > len(p.diffs) || from < 0 || from > int64(len(p.old))-int64(n) {
		return false
	}
	for i, b := range p.old[from : from+int64(n)] {
		p.out = append(p.out, b+p.diffs[i])
	}
	p.diffs = p.diffs[n:]
	return true
}
