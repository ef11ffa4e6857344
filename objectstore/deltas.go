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
// contents in the store.
func (w *upload) differ(ctx context.Context) error {
	return w.optional(w.differSmall(ctx))
}

// optional lets deltas be left out where the base cannot be read.
func (w *upload) optional(err error) error {
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	w.log.Warn("the base cannot be read: nodes get whole files", "error", err)
	if c, ok := w.p.Store.(*PackCache); ok {
		c.forget()
	}
	return nil
}

// differs are shared, since each has a table and files to keep.
var differs = sync.Pool{New: func() any { return new(differ) }}

// differSmall makes the deltas of files that fit into frames. They go into
// frames in the order of the pairs, whatever order the base came in.
func (w *upload) differSmall(ctx context.Context) error {
	byOld := map[release.Digest][]int{}
	var olds []release.File
	for i, p := range w.pairs {
		if byOld[p.old.Digest] == nil {
			olds = append(olds, p.old)
		}
		byOld[p.old.Digest] = append(byOld[p.old.Digest], i)
	}
	if len(olds) == 0 {
		return nil
	}
	deltas := make([][]byte, len(w.pairs))
	var kept atomic.Int64
	err := Fetch(ctx, w.p.Store, w.p.Base, olds, FetchOptions{Workers: w.workers}, func(f release.File, r io.Reader) error {
		d := differs.Get().(*differ)
		defer differs.Put(d)
		old := d.before.room(f.Size)
		if _, err := io.ReadFull(r, old); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // only its end is verified
			return err
		}
		for _, i := range byOld[f.Digest] {
			if kept.Load() > mostDeltas {
				continue
			}
			made, err := w.differFile(d, w.pairs[i], old)
			if err != nil {
				return err
			}
			if worth(made, w.pairs[i].file) {
				deltas[i] = made
				kept.Add(int64(len(made)))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, p := range w.pairs {
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

// differFile makes the delta of one small file. It is read again, and not
// hashed again: a file that is not the one that was read and hashed before is
// an error.
func (w *upload) differFile(d *differ, p pair, old []byte) ([]byte, error) {
	s, err := w.open(p.file)
	if err != nil {
		return nil, err
	}
	defer s.close()
	new := d.after.room(p.file.Size)
	if err := s.whole(new); err != nil {
		return nil, err
	}
	return d.delta(nil, old, new), s.unchanged()
}

// worth: a delta has to save at least half.
func worth(delta []byte, f BuildFile) bool { return int64(len(delta)) < f.Size/2 }

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

// differLarge puts large files into frames of which the base has another
// version: as deltas alone if the base has that version whole, since both
// together would cost as much as a file that is new. Then a node without the
// base makes the file out of the base's packs. Where the version in the base is
// derived itself, the file is stored whole beside its deltas, so that no more
// than one delta is ever between a file and bytes that are stored as they are.
func (w *upload) differLarge(ctx context.Context) error {
	for _, p := range w.large {
		made, err := w.largeDeltas(ctx, p)
		if err := w.optional(err); err != nil {
			return err
		}
		if made && !w.base.derived(p.old.Digest) {
			stored, err := w.stored(ctx, p.old.Digest)
			if err != nil {
				return err
			}
			if stored {
				w.derived[p.new] = true
				continue
			}
		}
		if err := w.whole(ctx, w.changed, p.file, p.new); err != nil {
			return err
		}
	}
	return nil
}

// stored reports whether an old content really is in the store, and not only in
// a cache of this machine: what can only be made out of it is lost otherwise.
func (w *upload) stored(ctx context.Context, d release.Digest) (bool, error) {
	looked := map[int]bool{}
	for _, p := range w.base.places[d] {
		pack := w.base.packs[w.base.frames[p.frame].Pack]
		if looked[w.base.frames[p.frame].Pack] {
			continue
		}
		looked[w.base.frames[p.frame].Pack] = true
		info, err := w.p.Store.Stat(ctx, packKey(pack.Digest))
		if errors.Is(err, ErrNotFound) || err == nil && info.Size != pack.Size {
			w.log.Warn("the base is not whole in the store: what is new is stored whole", "pack", packKey(pack.Digest), "error", err)
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// largeDeltas makes the deltas of one large file, piece by piece, each against
// the old bytes around the same place. A file for which they do not save half
// has none.
func (w *upload) largeDeltas(ctx context.Context, p pair) (made bool, err error) {
	var deltas [][]byte
	var meta []delta
	err = Fetch(ctx, w.p.Store, w.p.Base, []release.File{p.old}, FetchOptions{Workers: 1}, func(_ release.File, r io.Reader) error {
		deltas, meta = nil, nil
		kept, old := 0, window{r: r}
		var d differ
		err := w.parts(p.file, p.new, deltaPiece, func(at int64, new []byte) error {
			from, span := around(at, int64(len(new)), p.file.Size, p.old.Size)
			b, err := old.read(from, span)
			if err != nil {
				return err
			}
			delta := d.delta(nil, b, new)
			recycle(new)
			if kept += len(delta); int64(kept) > min(p.file.Size/2, mostDeltas) {
				return errNotWorth
			}
			deltas = append(deltas, delta)
			meta = append(meta, deltaOf(p, int64(len(new)), from, span))
			return nil
		})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r) // to the end, where it is verified
		return err
	})
	if errors.Is(err, errNotWorth) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i := range deltas {
		if err := w.differing.addDelta(ctx, p.new, meta[i], deltas[i]); err != nil {
			return false, err
		}
	}
	return true, nil
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
