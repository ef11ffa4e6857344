package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// FetchOptions bound a fetch.
type FetchOptions struct {
	Workers  int               // 0: 4
	Progress func(bytes int64) // called from several goroutines
}

const (
	fetchWorkers = 4
	mergeGap     = 128 << 10 // stored bytes that are read along rather than asked for separately
	maxRange     = 8 << 20   // stored bytes of one request
)

// Fetch hands each wanted content to write, from up to Workers goroutines at
// once, in no promised order. The contents are distinct; a File says digest,
// size and, for errors, path. r yields exactly the content: when the bytes do
// not have the digest it returns a *CorruptError instead of io.EOF, so that a
// write that copied to the end without an error has verified bytes. What came
// damaged is asked for once more: when write returned that error, it is called
// again for the same content and has to begin anew.
func Fetch(ctx context.Context, s Store, from *Stored, want []release.File, o FetchOptions, write func(f release.File, r io.Reader) error) error {
	workers := o.Workers
	if workers <= 0 {
		workers = fetchWorkers
	}
	f := &fetch{s: s, l: from.Layout, m: from.Manifest, o: o, write: write}
	tasks, err := f.plan(want)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, t := range tasks {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return t(gctx) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("fetch %s: %w", f.m.ID(), err)
	}
	return ctx.Err()
}

type fetch struct {
	s     Store
	l     *Layout
	m     *release.Manifest
	o     FetchOptions
	write func(f release.File, r io.Reader) error
}

// span reads a stretch of a pack. A frame that comes damaged is asked for once
// more; where the body ends early, all that is left is, frame by frame.
func (f *fetch) span(ctx context.Context, s span) error {
	first, last := f.l.frames[s.frames[0]], f.l.frames[s.frames[len(s.frames)-1]]
	body, err := f.get(ctx, s.pack, first.Offset, last.Offset+last.Size-first.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	at, ended := first.Offset, false
	for _, i := range s.frames {
		fr, want := f.l.frames[i], s.wanted[i]
		if ended {
			if err := f.frameAgain(ctx, i, want); err != nil {
				return err
			}
			continue
		}
		stored, err := next(body, fr.Offset-at, fr.Size)
		if ended = early(err); err != nil && !ended {
			return err
		}
		at = fr.Offset + fr.Size
		left, err := f.frame(i, stored, want)
		if errors.Is(err, ErrCorrupt) {
			err = f.frameAgain(ctx, i, left)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next skips some bytes and reads the n after them, fewer with an error.
func next(body io.Reader, skip, n int64) ([]byte, error) {
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return nil, err
	}
	stored := make([]byte, n)
	got, err := io.ReadFull(body, stored)
	return stored[:got], err
}

// early tells a body that ended before its time: the object is shorter than
// the layout says.
func early(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// frameAgain asks for one frame and writes what is wanted of it.
func (f *fetch) frameAgain(ctx context.Context, i int, want []wanted) error {
	stored, err := f.readFrame(ctx, i)
	if err != nil {
		return err
	}
	_, err = f.frame(i, stored, want)
	return err
}

// frame writes what is wanted of a frame, and returns what it did not write.
func (f *fetch) frame(i int, stored []byte, want []wanted) ([]wanted, error) {
	fr := f.l.frames[i]
	raw, err := unpackFrame(stored, fr.Zstd, fr.Raw)
	if err != nil {
		return want, f.corrupt(i, want[0].file, err)
	}
	for n, w := range want {
		part := raw[w.at.offset : w.at.offset+w.at.size]
		if err := f.deliver(w.file, bytes.NewReader(part), i); err != nil {
			return want[n:], err
		}
	}
	return nil, nil
}

// deliver calls write with a reader that checks.
func (f *fetch) deliver(file release.File, r io.Reader, frame int) error {
	v := &verifier{r: r, h: sha256.New(), want: file.Digest, wrong: func() error { return f.corrupt(frame, file, nil) }}
	if err := f.write(file, v); err != nil {
		return err
	}
	if !v.whole {
		return fmt.Errorf("%s: it was not read to its end", file.Path)
	}
	if f.o.Progress != nil {
		f.o.Progress(file.Size)
	}
	return nil
}

// readFrame reads the stored bytes of a frame, or as many of them as there are.
func (f *fetch) readFrame(ctx context.Context, i int) ([]byte, error) {
	fr := f.l.frames[i]
	body, err := f.get(ctx, fr.Pack, fr.Offset, fr.Size)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	stored, err := next(body, 0, fr.Size)
	if err != nil && !early(err) {
		return nil, err
	}
	return stored, nil
}

func (f *fetch) get(ctx context.Context, pack int, offset, length int64) (io.ReadCloser, error) {
	return f.s.Get(ctx, packKey(f.l.packs[pack].Digest), offset, length)
}

// corrupt names the object and the file that came out wrong. Without a frame
// only the layout can be wrong.
func (f *fetch) corrupt(frame int, file release.File, why error) error {
	c := &CorruptError{Key: layoutKey(f.m.Site, f.m.ID()), What: file.Path, Want: file.Digest}
	if frame >= 0 {
		c.Key = packKey(f.l.packs[f.l.frames[frame].Pack].Digest)
	}
	if why != nil {
		return fmt.Errorf("%w: %w", c, why)
	}
	return c
}
