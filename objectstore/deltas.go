package objectstore

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"relman/release"
)

// mostDeltas bounds the deltas that are kept in memory until they go into
// frames. Files beyond it have none.
const mostDeltas = 48 << 20

// differ makes deltas for what nodes hold another version of, from the base's
// contents in the store. A release can do without them: where the base cannot
// be read there are none.
func (w *upload) differ(ctx context.Context) error {
	var small, large []int // of pairs
	for i, p := range w.pairs {
		if p.file.Size > frameTarget || p.old.Size > frameTarget {
			large = append(large, i)
		} else {
			small = append(small, i)
		}
	}
	err := w.differSmall(ctx, small)
	for _, i := range large {
		if err == nil {
			err = w.differLarge(ctx, w.pairs[i])
		}
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		w.log.Warn("the base cannot be read: nodes get whole files", "error", err)
		if c, ok := w.p.Store.(*PackCache); ok {
			c.forget()
		}
		return nil
	}
	return err
}

// differs are shared, since each has a table to keep.
var differs = sync.Pool{New: func() any { return new(differ) }}

// differSmall makes the deltas of files that fit into frames. They go into
// frames in the order of the pairs, whatever order the base came in.
func (w *upload) differSmall(ctx context.Context, small []int) error {
	byOld := map[release.Digest][]int{}
	var olds []release.File
	for _, i := range small {
		old := w.pairs[i].old
		if byOld[old.Digest] == nil {
			olds = append(olds, old)
		}
		byOld[old.Digest] = append(byOld[old.Digest], i)
	}
	if len(olds) == 0 {
		return nil
	}
	deltas := make([][]byte, len(w.pairs))
	var kept atomic.Int64
	err := Fetch(ctx, w.p.Store, w.p.Base, olds, FetchOptions{Workers: w.workers}, func(f release.File, r io.Reader) error {
		old, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		for _, i := range byOld[f.Digest] {
			if kept.Load() > mostDeltas {
				continue
			}
			p := w.pairs[i]
			new, _, err := w.load(p.file, nil)
			if err != nil {
				return err
			}
			d := differs.Get().(*differ)
			made := d.delta(nil, old, new)
			differs.Put(d)
			if worth(made, new) {
				deltas[i] = made
				kept.Add(int64(len(made)))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range small {
		p := w.pairs[i]
		if deltas[i] == nil {
			continue
		}
		d := delta{size: p.file.Size, old: oldRef{p.old.Digest, p.old.Size}, span: p.old.Size}
		if err := w.differing.addDelta(ctx, p.new, d, deltas[i]); err != nil {
			return err
		}
	}
	return nil
}

// worth: a delta has to save at least half.
func worth(delta, new []byte) bool { return len(delta) < len(new)/2 }

// addDelta puts a delta into a frame. Nodes work on several frames at once, so
// what one of them makes is bounded too.
func (l *lane) addDelta(ctx context.Context, digest release.Digest, d delta, b []byte) error {
	if l.open.makes+d.size > maxFrame {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	if err := l.add(ctx, placed{digest: digest, delta: d}, 0, b); err != nil {
		return err
	}
	l.open.deltas = true
	l.open.makes += d.size
	return nil
}

// differLarge makes the deltas of one large file, piece by piece, each against
// the old bytes around the same place. A file whose pieces do not all save
// something has none.
func (w *upload) differLarge(ctx context.Context, p pair) error {
	var made [][]byte
	var meta []delta
	var kept int
	err := Fetch(ctx, w.p.Store, w.p.Base, []release.File{p.old}, FetchOptions{Workers: 1}, func(_ release.File, r io.Reader) error {
		made, meta, kept = nil, nil, 0
		old := window{r: r, size: p.old.Size}
		var d differ
		err := w.parts(p.file, p.new, func(at int64, new []byte) error {
			if kept > mostDeltas {
				return errNotWorth
			}
			from, span := around(at, int64(len(new)), p.file.Size, p.old.Size)
			b, err := old.read(from, span)
			if err != nil {
				return err
			}
			delta := d.delta(nil, b, new)
			if !worth(delta, new) {
				return errNotWorth
			}
			made = append(made, delta)
			meta = append(meta, deltaOf(p, int64(len(new)), from, span))
			kept += len(delta)
			return nil
		})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r) // to the end, where it is verified
		return err
	})
	if errors.Is(err, errNotWorth) {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range made {
		if err := w.differing.addDelta(ctx, p.new, meta[i], made[i]); err != nil {
			return err
		}
	}
	return nil
}

var errNotWorth = errors.New("a delta saves nothing")

func deltaOf(p pair, size, from, span int64) delta {
	return delta{size: size, old: oldRef{p.old.Digest, p.old.Size}, from: from, span: span}
}

// around is the part of the old file for a piece of the new one: as much
// before and behind as the piece is long, at the same relative place.
func around(at, length, size, oldSize int64) (from, span int64) {
	span = min(maxOld, oldSize)
	middle := int64(float64(at+length/2) / float64(size) * float64(oldSize))
	return max(0, min(middle-span/2, oldSize-span)), span
}

// window reads parts of a stream that move towards its end.
type window struct {
	r    io.Reader
	size int64
	from int64 // where buf begins
	buf  []byte
}

// read returns span bytes from from on, which is not before the one before.
func (w *window) read(from, span int64) ([]byte, error) {
	if drop := min(from-w.from, int64(len(w.buf))); drop > 0 {
		w.buf = append(w.buf[:0], w.buf[drop:]...)
		w.from += drop
	}
	if skip := from - w.from; skip > 0 {
		if _, err := io.CopyN(io.Discard, w.r, skip); err != nil {
			return nil, err
		}
		w.from = from
	}
	have := int64(len(w.buf))
	if have < span {
		w.buf = append(w.buf, make([]byte, span-have)...)
		if _, err := io.ReadFull(w.r, w.buf[have:]); err != nil {
			return nil, err
		}
	}
	return w.buf[:span], nil
}
