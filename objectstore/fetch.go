package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// FetchOptions bound a fetch.
type FetchOptions struct {
	Workers  int               // requests at once, and frames that are written at once; 0: 4
	Progress func(bytes int64) // of contents; called from several goroutines
	Old      Old               // what is held already, to make new content out of; nil: nothing
	// Begun is what is there already of a content of several pieces, from its
	// beginning: as much of it is not fetched again. It does not have to be
	// right, since all of it is handed to write and verified with the rest. May be
	// nil, and return nil.
	Begun func(f release.File) io.Reader
	// Failed is told of deltas that were of no use; the whole content was
	// fetched instead. May be nil.
	Failed func(f release.File, err error)
}

// Old is content that whoever fetches holds. It is used by several goroutines.
// What it gives does not have to be right: what is made of it is verified.
type Old interface {
	Holds(d release.Digest, size int64) bool
	// Read returns length bytes of a content from offset on.
	Read(d release.Digest, offset, length int64) ([]byte, error)
}

const (
	fetchWorkers = 4
	mergeGap     = 128 << 10             // stored bytes that are read along rather than asked for separately
	maxRange     = packTarget + maxFrame // stored bytes of one request: any pack
)

// Fetch hands each wanted content to write, from several goroutines at once, in
// no promised order. The contents are distinct; a File says digest,
// size and, for errors, path. r yields exactly the content: when the bytes do
// not have the digest it returns a *CorruptError instead of io.EOF, so that a
// write that copied to the end without an error has verified bytes. What came
// damaged is asked for once more: when write returned that error, it is called
// again for the same content and has to begin anew.
//
// Where the layout has deltas, and o.Old holds what they need, only these are
// fetched. A delta that cannot be had, or does not make the content, is
// replaced by the whole content.
func Fetch(ctx context.Context, s Store, from *Stored, want []release.File, o FetchOptions, write func(f release.File, r io.Reader) error) error {
	if o.Workers <= 0 {
		o.Workers = fetchWorkers
	}
	f := &fetch{s: s, l: from.Layout, m: from.Manifest, o: o, write: write, whole: map[release.Digest]bool{}, slots: make(chan *slot, o.Workers)}
	for range o.Workers {
		f.slots <- new(slot)
	}
	f.olds.f = f
	for len(want) > 0 {
		if err := f.round(ctx, want); err != nil {
			return err
		}
		want, f.failed = f.failed, nil // a second round has no deltas that could fail
		for _, file := range want {
			f.whole[file.Digest] = true
		}
	}
	return ctx.Err()
}

type fetch struct {
	s     Store
	l     *Layout
	m     *release.Manifest
	o     FetchOptions
	write func(f release.File, r io.Reader) error
	whole map[release.Digest]bool // contents whose deltas are of no use

	olds  storedOlds
	slots chan *slot // hold what is not in use

	mu     sync.Mutex
	failed []release.File // guarded by mu: in this round
}

// slot is the memory that one frame takes on its way. There are only so many,
// so what is read and not yet written is bounded.
type slot struct {
	stored, raw, made scratch
}

// round fetches contents as long as nothing fails but deltas.
func (f *fetch) round(ctx context.Context, want []release.File) error {
	tasks, err := f.plan(want)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.o.Workers)
	for _, t := range tasks {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return t(gctx) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("fetch %s: %w", f.m.ID(), err)
	}
	return nil
}

// span reads a stretch of a pack. Its frames are decoded, verified and written
// while the next ones are being read. A frame that comes damaged is asked for
// once more; where the body ends early, all that is left is, frame by frame.
func (f *fetch) span(ctx context.Context, s span) error {
	first, last := f.l.frames[s.frames[0]], f.l.frames[s.frames[len(s.frames)-1]]
	body, err := f.get(ctx, s.pack, first.Offset, last.Offset+last.Size-first.Offset)
	if err != nil {
		for _, i := range s.frames {
			if left := f.giveUp(s.wanted[i], err); len(left) > 0 {
				return err
			}
		}
		return nil
	}
	defer body.Close()
	g, ctx := errgroup.WithContext(ctx)
	at, broken := first.Offset, false
	for _, i := range s.frames {
		fr, want := f.l.frames[i], s.wanted[i]
		if broken {
			if err := f.frameAgain(ctx, i, want); err != nil {
				return errorOr(g.Wait(), err)
			}
			continue
		}
		var sl *slot
		select {
		case sl = <-f.slots:
		case <-ctx.Done():
			return errorOr(g.Wait(), ctx.Err())
		}
		stored, err := next(body, fr.Offset-at, sl.stored.room(fr.Size))
		if broken = ended(err); err != nil && !broken {
			f.slots <- sl
			return errorOr(g.Wait(), err)
		}
		at = fr.Offset + fr.Size
		g.Go(func() error {
			left, err := f.frame(ctx, i, stored, want, sl)
			f.slots <- sl
			if errors.Is(err, ErrCorrupt) {
				err = f.frameAgain(ctx, i, left)
			}
			return err
		})
	}
	return g.Wait()
}

// next skips some bytes and fills a buffer with those after them, or a part of
// it with an error.
func next(body io.Reader, skip int64, to []byte) ([]byte, error) {
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return nil, err
	}
	n, err := io.ReadFull(body, to)
	return to[:n], err
}

// frameAgain asks for one frame and writes what is wanted of it. What fails
// then is final, but for deltas.
func (f *fetch) frameAgain(ctx context.Context, i int, want []wanted) error {
	f.olds.forget()
	stored, err := f.readFrame(ctx, i)
	for err == nil && len(want) > 0 {
		if want, err = f.frame(ctx, i, stored, want, new(slot)); err != nil && len(want) > 0 && len(f.giveUp(want[:1], err)) == 0 {
			want, err = want[1:], nil
		}
	}
	if err != nil && len(f.giveUp(want, err)) == 0 {
		return nil
	}
	return err
}

// giveUp notes deltas that are of no use for the second round. It returns what
// cannot be given up.
func (f *fetch) giveUp(want []wanted, err error) (left []wanted) {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
		return want
	}
	for _, w := range want {
		if w.delta == nil || w.based {
			left = append(left, w)
			continue
		}
		f.mu.Lock()
		f.failed = append(f.failed, w.file)
		f.mu.Unlock()
		if f.o.Failed != nil {
			f.o.Failed(w.file, err)
		}
	}
	return left
}

// frame writes what is wanted of a frame, and returns what it did not write.
func (f *fetch) frame(ctx context.Context, i int, stored []byte, want []wanted, sl *slot) ([]wanted, error) {
	fr := f.l.frames[i]
	raw, err := unpackFrame(sl.raw.room(fr.Raw), stored, fr.Zstd, fr.Raw)
	if err != nil {
		return want, f.corrupt(i, want[0].file, err)
	}
	for n, w := range want {
		part, err := f.make(ctx, w, raw, &sl.made)
		if err != nil {
			return want[n:], err
		}
		if err := f.deliver(w.file, bytes.NewReader(part), i); err != nil {
			return want[n:], err
		}
	}
	return nil, nil
}

// make makes what is wanted out of the frame that it is in: a part of that, or
// something new in to, where that is not nil.
func (f *fetch) make(ctx context.Context, w wanted, raw []byte, to *scratch) ([]byte, error) {
	part := raw[w.at.offset : w.at.offset+w.at.length]
	if w.delta == nil {
		return part, nil
	}
	if w.based {
		old, err := f.olds.read(ctx, w.file, w.delta)
		if err != nil {
			return nil, err
		}
		return f.apply(w, part, old, to)
	}
	old, err := f.o.Old.Read(w.delta.old.Digest, w.delta.from, w.delta.span)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: the version that it is made from cannot be read: %w", w.file.Path, ErrCorrupt, err)
	}
	return f.apply(w, part, old, to)
}

func (f *fetch) apply(w wanted, delta, old []byte, to *scratch) ([]byte, error) {
	if to == nil {
		to = new(scratch)
	}
	made, err := applyDelta(to.room(w.delta.size), delta, old, w.delta.size)
	if err != nil {
		return nil, f.corrupt(w.at.frame, w.file, err)
	}
	return made, nil
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
	stored, err := next(body, 0, make([]byte, fr.Size))
	if err != nil && !ended(err) {
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
