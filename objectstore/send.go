package objectstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"

	"relman/failpoint"
	"relman/release"
)

// rawFrame is content on its way to a compressor.
type rawFrame struct {
	raw     []byte
	entries []PackEntry
	built   chan builtFrame // gets the frame when it is compressed
}

// builtFrame is a frame as it is stored.
type builtFrame struct {
	stored  []byte
	raw     int64
	zstd    bool
	entries []PackEntry
}

// builtPack is a pack that is in the store.
type builtPack struct {
	digest release.Digest
	size   int64
	index  PackIndex
}

// send reads contents, compresses them and stores them as packs. Frames are
// compressed by several goroutines and put into packs in the order in which they
// were read, so that the same contents always make the same packs: a publisher
// that starts again finds the packs of the one before. What is in flight is
// bounded: some frames per worker, and uploadsAtOnce packs and two.
//
// inOrder is closed only behind the last frame. Where reading fails it stays
// open and the context ends, so that no pack is closed early and stored in vain.
func (w *upload) send(ctx context.Context, missing []release.File) (*Layout, error) {
	g, ctx := errgroup.WithContext(ctx)
	toCompress := make(chan *rawFrame)
	inOrder := make(chan *rawFrame, w.workers)
	g.Go(func() error {
		defer close(toCompress)
		err := w.read(ctx, missing, func(f *rawFrame) error {
			for _, c := range []chan *rawFrame{inOrder, toCompress} {
				select {
				case c <- f:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		close(inOrder)
		return nil
	})
	for range w.workers {
		g.Go(func() error { return compress(toCompress) })
	}
	var packs []builtPack
	g.Go(func() (err error) {
		packs, err = w.pack(ctx, inOrder)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	w.stats.Packs = len(packs)
	return layoutOf(packs, missing), nil
}

// compress turns raw frames into built ones.
func compress(frames <-chan *rawFrame) error {
	for f := range frames {
		stored, z, err := packFrame(f.raw)
		if err != nil {
			return err
		}
		f.built <- builtFrame{stored, int64(len(f.raw)), z, f.entries}
	}
	return nil
}

// read cuts contents into raw frames: small ones share a frame, a large one
// has frames of its own.
func (w *upload) read(ctx context.Context, missing []release.File, emit func(*rawFrame) error) error {
	byPath := make(map[string]BuildFile, len(w.build.Files))
	for _, f := range w.build.Files {
		byPath[f.Path] = f
	}
	shared := newRawFrame()
	flush := func() error {
		if len(shared.raw) == 0 {
			return nil
		}
		f := shared
		shared = newRawFrame()
		return emit(f)
	}
	for _, f := range missing {
		if err := ctx.Err(); err != nil {
			return err
		}
		if int64(len(shared.raw))+f.Size > frameTarget {
			if err := flush(); err != nil {
				return err
			}
		}
		alone := f.Size > frameTarget
		err := w.readContent(byPath[f.Path], f.Digest, func(at int64, part []byte) error {
			if alone {
				own := newRawFrame()
				own.raw, own.entries = part, []PackEntry{{f.Digest, at, 0, int64(len(part))}}
				return emit(own)
			}
			shared.entries = append(shared.entries, PackEntry{f.Digest, at, int64(len(shared.raw)), int64(len(part))})
			shared.raw = append(shared.raw, part...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return flush()
}

func newRawFrame() *rawFrame { return &rawFrame{built: make(chan builtFrame, 1)} }

// readContent reads a file again, in parts of at most maxFrame, and makes sure
// that it is still what was hashed.
func (w *upload) readContent(f BuildFile, want release.Digest, each func(at int64, part []byte) error) error {
	s, err := w.open(f)
	if err != nil {
		return err
	}
	defer s.f.Close()
	sum := sha256.New()
	for at := int64(0); at < f.Size; {
		part := make([]byte, min(f.Size-at, maxFrame))
		if _, err := io.ReadFull(s.f, part); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s: %w: it is shorter than it was", f.Path, ErrChanged)
		} else if err != nil {
			return fmt.Errorf("%w: %w", ErrBuild, err)
		}
		sum.Write(part)
		if err := each(at, part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	if !sameSum(sum, want) {
		return s.changed()
	}
	return nil
}

func sameSum(h hash.Hash, want release.Digest) bool {
	var got release.Digest
	h.Sum(got[:0])
	return got == want
}

// pack collects frames into packs and stores them, several at once.
func (w *upload) pack(ctx context.Context, frames <-chan *rawFrame) ([]builtPack, error) {
	var packs []*builtPack
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploadsAtOnce)
	b := &packBuilder{}
	closePack := func() {
		full, done := b, &builtPack{}
		first := len(packs) == 0
		packs = append(packs, done)
		b = &packBuilder{}
		g.Go(func() error {
			err := w.store(ctx, full, done)
			if err == nil && first {
				err = failpoint.Point("publish.after-first-pack")
			}
			return err
		})
	}
	err := each(ctx, frames, func(built builtFrame) {
		b.add(built)
		if b.full() {
			closePack()
		}
	})
	if err == nil && len(b.body) > 0 {
		closePack()
	}
	// Where a pack could not be stored, that is the error: the context's end
	// only follows from it.
	if err := errorOr(g.Wait(), err); err != nil {
		return nil, err
	}
	out := make([]builtPack, len(packs))
	for i, p := range packs {
		out[i] = *p
	}
	return out, nil
}

// each hands over the frames in their order, each when it is compressed.
func each(ctx context.Context, frames <-chan *rawFrame, do func(builtFrame)) error {
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			select {
			case built := <-f.built:
				do(built)
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// store puts one pack. One that is there already is the same: its name is the
// digest of its bytes.
func (w *upload) store(ctx context.Context, b *packBuilder, out *builtPack) error {
	body, digest, err := b.finish()
	if err != nil {
		return err
	}
	switch err := w.p.Store.Put(ctx, packKey(digest), body, true); {
	case err == nil:
		w.sent.Add(int64(len(body)))
	case !errors.Is(err, ErrExists):
		return err
	}
	*out = builtPack{digest, int64(len(body)), b.index}
	w.progress()
	return nil
}

// layoutOf is the layout of freshly made packs.
func layoutOf(packs []builtPack, all []release.File) *Layout {
	l := &Layout{places: make(map[release.Digest][]piece, len(all))}
	for _, f := range all {
		l.places[f.Digest] = nil // an empty content has no pieces
	}
	for i, p := range packs {
		l.packs = append(l.packs, packRef{p.digest, p.size})
		for _, f := range p.index.Frames {
			l.frames = append(l.frames, frameRef{i, f.Offset, f.Size, f.Raw, f.Zstd})
			for _, e := range f.Contents {
				// Frames come in the order in which they were read, so the
				// pieces of a content do, too.
				l.places[e.Digest] = append(l.places[e.Digest], piece{len(l.frames) - 1, e.Offset, e.Size})
			}
		}
	}
	return l
}
