package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sort"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// Stored is a release as it is in the store.
type Stored struct {
	Manifest *release.Manifest
	Layout   *Layout
}

// Load reads a release's manifest, checks it, and reads its layout.
func Load(ctx context.Context, s Store, site release.Site, id release.ID, digest release.Digest) (*Stored, error) {
	m, err := ReadManifest(ctx, s, site, id, digest)
	if err != nil {
		return nil, err
	}
	raw, err := getCompressed(ctx, s, layoutKey(site, id), maxLayoutBytes)
	if err != nil {
		return nil, err
	}
	l, err := parseLayout(raw, m)
	if err != nil {
		return nil, err
	}
	return &Stored{m, l}, nil
}

// ReadManifest reads a release's manifest. It is the one with this digest,
// whatever the store says.
func ReadManifest(ctx context.Context, s Store, site release.Site, id release.ID, digest release.Digest) (*release.Manifest, error) {
	key := manifestKey(site, id)
	raw, err := getCompressed(ctx, s, key, release.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	if release.Sum(raw) != digest {
		return nil, &CorruptError{Key: key, What: "the manifest", Want: digest}
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if m.Site != site || m.ID() != id {
		return nil, fmt.Errorf("%s: %w: it is release %s of %s", key, ErrCorrupt, m.ID(), m.Site)
	}
	return m, nil
}

// FetchOptions bound a fetch.
type FetchOptions struct {
	Workers  int // 0: 4
	Progress func(bytes int64)
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
// damaged is asked for once more before that; write may therefore be called
// twice for the same content, the second time after the first returned an error.
func Fetch(ctx context.Context, s Store, from *Stored, want []release.File, o FetchOptions, write func(f release.File, r io.Reader) error) error {
	workers := o.Workers
	if workers <= 0 {
		workers = fetchWorkers
	}
	f := &fetch{s: s, l: from.Layout, id: from.Manifest.ID(), o: o, write: write}
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
		return fmt.Errorf("fetch %s: %w", f.id, err)
	}
	return ctx.Err()
}

type fetch struct {
	s     Store
	l     *Layout
	id    release.ID
	o     FetchOptions
	write func(f release.File, r io.Reader) error
}

// wanted is a small content in a frame.
type wanted struct {
	file release.File
	at   piece
}

// span is a range of a pack that is read in one request, with what is wanted
// of its frames.
type span struct {
	pack   int
	frames []int // in the order of their offsets
	wanted map[int][]wanted
}

// plan makes tasks: one for each content of several pieces, and one for each
// stretch of frames that lie close together.
func (f *fetch) plan(want []release.File) ([]func(context.Context) error, error) {
	var tasks []func(context.Context) error
	small := map[int][]wanted{}
	for _, file := range want {
		pieces, ok := f.l.places[file.Digest]
		switch {
		case !ok:
			return nil, fmt.Errorf("fetch %s: %w: the layout has no place for %s", f.id, ErrCorrupt, file.Path)
		case len(pieces) == 1:
			small[pieces[0].frame] = append(small[pieces[0].frame], wanted{file, pieces[0]})
		default:
			tasks = append(tasks, func(ctx context.Context) error { return f.large(ctx, file, pieces) })
		}
	}
	for _, s := range f.spans(small) {
		tasks = append(tasks, func(ctx context.Context) error { return f.span(ctx, s) })
	}
	return tasks, nil
}

// spans groups frames into requests.
func (f *fetch) spans(small map[int][]wanted) []span {
	frames := make([]int, 0, len(small))
	for i := range small {
		frames = append(frames, i)
	}
	sort.Slice(frames, func(i, j int) bool {
		a, b := f.l.frames[frames[i]], f.l.frames[frames[j]]
		return a.Pack < b.Pack || a.Pack == b.Pack && a.Offset < b.Offset
	})
	var out []span
	var begin, end int64
	for _, i := range frames {
		fr := f.l.frames[i]
		n := len(out)
		if n == 0 || out[n-1].pack != fr.Pack || fr.Offset-end > mergeGap || fr.Offset+fr.Size-begin > maxRange {
			out = append(out, span{pack: fr.Pack, wanted: small})
			begin, n = fr.Offset, n+1
		}
		out[n-1].frames = append(out[n-1].frames, i)
		end = fr.Offset + fr.Size
	}
	return out
}

// span reads a stretch of a pack. Frames that come damaged are asked for once
// more, one by one.
func (f *fetch) span(ctx context.Context, s span) error {
	first, last := f.l.frames[s.frames[0]], f.l.frames[s.frames[len(s.frames)-1]]
	body, err := f.get(ctx, s.pack, first.Offset, last.Offset+last.Size-first.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	at := first.Offset
	for _, i := range s.frames {
		fr := f.l.frames[i]
		if _, err := io.CopyN(io.Discard, body, fr.Offset-at); err != nil {
			return f.broken(s.pack, err)
		}
		stored := make([]byte, fr.Size)
		if _, err := io.ReadFull(body, stored); err != nil {
			return f.broken(s.pack, err)
		}
		at = fr.Offset + fr.Size
		if err := f.frame(ctx, i, stored, s.wanted[i]); err != nil {
			return err
		}
	}
	return nil
}

// frame writes what is wanted of a frame.
func (f *fetch) frame(ctx context.Context, i int, stored []byte, want []wanted) error {
	left, err := f.tryFrame(i, stored, want)
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	stored, again := f.readFrame(ctx, i)
	if again != nil {
		return again
	}
	_, err = f.tryFrame(i, stored, left)
	return err
}

// tryFrame returns what it did not write.
func (f *fetch) tryFrame(i int, stored []byte, want []wanted) ([]wanted, error) {
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

// large streams a content of several pieces, or of none.
func (f *fetch) large(ctx context.Context, file release.File, pieces []piece) error {
	once := func() error {
		r := &pieceReader{ctx: ctx, f: f, file: file, pieces: pieces}
		last := -1
		if len(pieces) > 0 {
			last = pieces[len(pieces)-1].frame
		}
		return f.deliver(file, r, last)
	}
	err := once()
	if errors.Is(err, ErrCorrupt) {
		err = once()
	}
	return err
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

func (f *fetch) readFrame(ctx context.Context, i int) ([]byte, error) {
	fr := f.l.frames[i]
	body, err := f.get(ctx, fr.Pack, fr.Offset, fr.Size)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	stored := make([]byte, fr.Size)
	if _, err := io.ReadFull(body, stored); err != nil {
		return nil, f.broken(fr.Pack, err)
	}
	return stored, nil
}

func (f *fetch) get(ctx context.Context, pack int, offset, length int64) (io.ReadCloser, error) {
	return f.s.Get(ctx, packKey(f.l.packs[pack].Digest), offset, length)
}

// broken is a body that ended early: the object is shorter than the layout
// says, or the connection went.
func (f *fetch) broken(pack int, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s ends early: %w", ErrCorrupt, packKey(f.l.packs[pack].Digest), err)
	}
	return err
}

// corrupt names the object and the file that came out wrong.
func (f *fetch) corrupt(frame int, file release.File, why error) error {
	c := &CorruptError{Key: layoutKeyword, What: file.Path, Want: file.Digest}
	if frame >= 0 {
		c.Key = packKey(f.l.packs[f.l.frames[frame].Pack].Digest)
	}
	if why != nil {
		return fmt.Errorf("%w: %w", c, why)
	}
	return c
}

const layoutKeyword = "the layout"

// pieceReader reads the pieces of one content, one frame at a time.
type pieceReader struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call of write
	f      *fetch
	file   release.File
	pieces []piece
	part   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 {
		if len(r.pieces) == 0 {
			return 0, io.EOF
		}
		at := r.pieces[0]
		stored, err := r.f.readFrame(r.ctx, at.frame)
		if err != nil {
			return 0, err
		}
		fr := r.f.l.frames[at.frame]
		raw, err := unpackFrame(stored, fr.Zstd, fr.Raw)
		if err != nil {
			return 0, r.f.corrupt(at.frame, r.file, err)
		}
		r.part, r.pieces = raw[at.offset:at.offset+at.size], r.pieces[1:]
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	return n, nil
}
