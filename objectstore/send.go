package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"relman/failpoint"
	"relman/release"
)

// rawFrame is what becomes one frame.
type rawFrame struct {
	raw    []byte
	places []placed
	part   *partIndex // set where it is a part of a larger content
	deltas bool
	effort effort          // 0: that of the lane
	makes  int64           // bytes that the deltas in it make
	built  chan builtFrame // gets the frame when it is compressed
}

// placed is a content, a part of one or a delta, in a frame.
type placed struct {
	digest         release.Digest
	offset, length int64
	delta          delta // without its piece; of use in a frame of deltas
}

// builtFrame is a frame as it is stored.
type builtFrame struct {
	stored []byte
	raw    int64
	zstd   bool
	sizes  []int64
	part   *partIndex
	deltas bool
	places []placed
	err    error
}

// add appends bytes to a frame.
func (f *rawFrame) add(p placed, b []byte) {
	if f.raw == nil {
		f.raw = frameBuffers.get()
	}
	p.offset, p.length = int64(len(f.raw)), int64(len(b))
	f.raw, f.places = append(f.raw, b...), append(f.places, p)
}

// lane makes packs of its own out of frames. There is one for what every node
// fetches, one for what only nodes without the base fetch, and one for deltas,
// so that each kind of node reads whole packs.
type lane struct {
	w       *upload
	effort  effort
	open    *rawFrame      // is being filled
	inOrder chan *rawFrame // are being compressed
	packs   []*builtPack
	missed  atomic.Bool // a pack was looked for and not there
}

// builtPack is a pack that is in the store.
type builtPack struct {
	digest release.Digest
	size   int64
	index  packIndex
	places [][]placed // by frame
}

func (w *upload) lane(e effort) *lane {
	return &lane{w: w, effort: e, open: &rawFrame{}, inOrder: make(chan *rawFrame, w.workers)}
}

// add puts bytes into the frame that is being filled, with others that deserve
// the same effort.
func (l *lane) add(ctx context.Context, p placed, e effort, b []byte) error {
	if len(l.open.raw)+len(b) > frameTarget || l.open.effort != e {
		if err := l.flush(ctx); err != nil {
			return err
		}
		l.open.effort = e
	}
	l.open.add(p, b)
	return nil
}

func (l *lane) flush(ctx context.Context) error {
	if len(l.open.raw) == 0 {
		return nil
	}
	f := l.open
	l.open = &rawFrame{}
	return l.emit(ctx, f)
}

// emit has a frame compressed, and put into a pack after those before it.
func (l *lane) emit(ctx context.Context, f *rawFrame) error {
	f.built = make(chan builtFrame, 1)
	if f.effort == 0 {
		f.effort = l.effort
	}
	select {
	case l.w.compressing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	go func() {
		defer func() { <-l.w.compressing }()
		f.built <- f.build(f.effort)
	}()
	select {
	case l.inOrder <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *rawFrame) build(e effort) builtFrame {
	stored, z, err := packFrame(f.raw, e)
	b := builtFrame{stored: stored, raw: int64(len(f.raw)), zstd: z, part: f.part, deltas: f.deltas, places: f.places, err: err}
	if f.part == nil && !f.deltas {
		for _, p := range f.places {
			b.sizes = append(b.sizes, p.length)
		}
	}
	if z {
		recycle(f.raw)
	}
	f.raw = nil
	return b
}

// end says that no frame follows. Where making frames fails it is not called
// and the context ends, so that no pack is closed early and stored in vain.
func (l *lane) end(ctx context.Context) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	close(l.inOrder)
	return nil
}

// pack collects frames into packs and stores them, several at once. Frames go
// into packs in the order in which they were emitted, so that the same build
// always makes the same packs: a publisher that starts again finds those of the
// one before.
func (l *lane) pack(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	b, done := &packBuilder{}, &builtPack{}
	closePack := func(more bool) {
		full, out := b, done
		b, done = &packBuilder{}, &builtPack{}
		first := len(l.packs) == 0
		l.packs = append(l.packs, out)
		g.Go(func() error {
			err := l.store(gctx, full, out, more || !first)
			if err == nil && first {
				err = failpoint.Point("publish.after-first-pack")
			}
			return err
		})
	}
	err := each(gctx, l.inOrder, func(f builtFrame) error {
		if f.err != nil {
			return f.err
		}
		b.add(f)
		recycle(f.stored)
		done.places = append(done.places, f.places)
		if !b.full() {
			return nil
		}
		// What is on its way to the store is bounded.
		select {
		case l.w.storing <- struct{}{}:
			closePack(true)
			return nil
		case <-gctx.Done():
			return gctx.Err()
		}
	})
	if err == nil && len(b.body) > 0 {
		select {
		case l.w.storing <- struct{}{}:
			closePack(false)
		case <-gctx.Done():
			err = gctx.Err()
		}
	}
	// Where a pack could not be stored, that is the error: the context's end
	// only follows from it.
	return errorOr(g.Wait(), err)
}

// each hands over the frames in their order, each when it is compressed.
func each(ctx context.Context, frames <-chan *rawFrame, do func(builtFrame) error) error {
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			select {
			case built := <-f.built:
				if err := do(built); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// store puts one pack. One that is there already is the same: its name is the
// digest of its bytes. A pack of several is looked for before it is sent, until
// one is not there: where the ones before it are, a publisher before this one
// was cut off, and nothing is sent twice.
func (l *lane) store(ctx context.Context, b *packBuilder, out *builtPack, several bool) error {
	w := l.w
	defer func() { <-w.storing }()
	body, digest, err := b.finish()
	if err != nil {
		return err
	}
	out.digest, out.size, out.index = digest, int64(len(body)), b.index
	if (several || w.resumed.Load()) && !l.missed.Load() && !w.p.Distrust {
		switch info, err := w.p.Store.Stat(ctx, packKey(digest)); {
		case err == nil && info.Size == out.size:
			w.resumed.Store(true)
			packBuffers.put(body)
			return nil
		case err == nil:
			return fmt.Errorf("%s: %w: it has %d bytes, its contents make %d", info.Key, ErrCorrupt, info.Size, out.size)
		case !errors.Is(err, ErrNotFound):
			return err
		}
		l.missed.Store(true)
	}
	switch err := w.p.Store.Put(ctx, packKey(digest), body, true); {
	case err == nil:
		w.sent.Add(out.size)
	case !errors.Is(err, ErrExists):
		return err
	case w.p.Distrust:
		if err := w.mend(ctx, digest, body); err != nil {
			return err
		}
	}
	packBuffers.put(body)
	w.progress()
	return nil
}

// mend reads a pack that is in the store, and puts it anew where it is damaged.
func (w *upload) mend(ctx context.Context, digest release.Digest, body []byte) error {
	stored, err := readAll(ctx, w.p.Store, packKey(digest), maxObject)
	if err == nil && release.Sum(stored) == digest {
		return nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	w.log.Warn("a damaged pack is replaced", "pack", packKey(digest))
	if err := w.p.Store.Put(ctx, packKey(digest), body, false); err != nil {
		return err
	}
	w.sent.Add(int64(len(body)))
	return nil
}

// layout says where everything is that the lane has stored.
func (l *lane) layout(to *Layout) {
	for _, p := range l.packs {
		to.packs = append(to.packs, packRef{p.digest, p.size})
		for i, f := range p.index.Frames {
			to.frames = append(to.frames, frameRef{len(to.packs) - 1, f.Offset, f.Size, f.Raw, f.Zstd})
			for _, at := range p.places[i] {
				// Frames come in the order in which they were made, so the
				// pieces of a content do, too.
				where := piece{len(to.frames) - 1, at.offset, at.length}
				if f.Deltas {
					d := at.delta
					d.piece = where
					to.deltas[at.digest] = append(to.deltas[at.digest], d)
				} else {
					to.places[at.digest] = append(to.places[at.digest], where)
				}
			}
		}
	}
}
