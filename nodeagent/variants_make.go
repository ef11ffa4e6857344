package nodeagent

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"relman/objectstore"
	"relman/release"
)

// maker is the one who changes what is in the directory of a site's variants.
type maker struct {
	*variants
	site    *os.Root
	dir     *os.Root // of the variants
	top     *os.File // the same
	pace    pace
	unread  map[release.Digest]set       // on the disk since before this process
	useless map[release.Digest]codingSet // would not be smaller
	batch   []written                    // not durable yet
	batched int64                        // its bytes
	drawn   int                          // numbers the files that are being written

	// While a pass lasts.
	zstd       *zstd.Encoder
	gzip       *gzip.Writer
	zstdReader *zstd.Decoder
}

func newMaker(v *variants, site *os.Root) *maker {
	return &maker{variants: v, site: site, pace: pace{aside: v.aside}, useless: map[release.Digest]codingSet{}}
}

// written is a variant that has no name yet.
type written struct {
	tmp    string
	of     release.Digest
	coding coding
	made   made
}

// How much is made durable at once.
const (
	batchFiles = 256
	batchBytes = 16 << 20
)

// window bounds the memory of the encoder; a decoder has to take 8 MiB (RFC 9659).
const window = 4 << 20

var (
	errUseless = errors.New("it would not be smaller by a tenth")
	errOther   = errors.New("it does not decode to the file")
	errNotHeld = errors.New("the release is not held any more")
)

// pass brings the variants to what the releases that are held call for.
func (m *maker) pass(ctx context.Context) (err error) {
	m.mu.Lock()
	held := m.held
	m.undone = false
	m.mu.Unlock()
	m.pace.since = time.Now()
	defer func() {
		batch := m.batch
		m.batch, m.batched = nil, 0
		err = errors.Join(err, m.discard(batch))
		m.zstd, m.gzip = nil, nil
		if m.zstdReader != nil {
			m.zstdReader.Close()
			m.zstdReader = nil
		}
		if err != nil {
			m.mu.Lock()
			m.undone = true
			m.mu.Unlock()
		}
	}()
	if err := m.openDir(); err != nil {
		return err
	}
	if err := m.sweep(ctx, held); err != nil {
		return err
	}
	for _, r := range held {
		for _, f := range r.manifest.Files {
			if err := m.pace.rest(ctx); err != nil {
				return err
			}
			if err := m.ensure(ctx, held, r, f); err != nil {
				return err
			}
			if m.superseded(held) { // what is shown now may be another one
				return m.finish(ctx)
			}
		}
	}
	return m.finish(ctx)
}

func (m *maker) superseded(held []*Release) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return !slices.Equal(m.held, held)
}

// has reports whether there is a variant, or will be.
func (m *maker) has(d release.Digest, c coding) bool {
	if slices.ContainsFunc(m.batch, func(w written) bool { return w.of == d && w.coding == c }) {
		return true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.made[d][c].size > 0
}

// ensure brings the variants of one file into use: those of the build, those
// that are on the disk, and those that have to be made.
func (m *maker) ensure(ctx context.Context, held []*Release, r *Release, f release.File) error {
	given, err := m.accept(ctx, r, f)
	if err != nil || !compressible(f) {
		return m.source(r, err)
	}
	for _, c := range []coding{zstandard, gzipped} {
		if given.has(c) || m.useless[f.Digest].has(c) || m.has(f.Digest, c) {
			continue
		}
		found, err := m.reread(ctx, f.Digest, c)
		if err != nil {
			return err
		}
		if found {
			continue
		}
		if len(m.batch) == 0 {
			if err := m.roomFor(held); err != nil {
				return err
			}
		}
		err = m.make(ctx, r, f, c)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errOther):
			m.log.Error("variant made here is wrong, and is not used", "file", f.Path, "coding", c.String(), "error", err)
			fallthrough
		case errors.Is(err, errUseless):
			m.useless[f.Digest] = m.useless[f.Digest].with(c)
		case err != nil:
			return m.source(r, err)
		}
		if len(m.batch) >= batchFiles || m.batched >= batchBytes {
			if err := m.finish(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// source takes errors that speak of a file of a release for what they are: no
// reason to stop, and for the agent to look at.
func (m *maker) source(r *Release, err error) error {
	file, ok := errors.AsType[*fileError](err)
	switch {
	case errors.Is(err, errNotHeld):
		return nil
	case !ok || isScarce(err):
		return err
	}
	m.mu.Lock()
	m.undone = true
	m.mu.Unlock()
	if r.doubt() {
		m.log.Warn("file on disk is not as verified", "file", file.path, "release", r.ID(), "error", err)
		m.poke()
	}
	return nil
}

// openFile opens a file of a release that may be given up meanwhile. It holds
// the release for the moment only: a fill waits for those who do.
func (m *maker) openFile(r *Release, f release.File) (*os.File, error) {
	if !r.acquire() {
		return nil, errNotHeld
	}
	file, err := r.open(f)
	if rerr := r.release(); rerr != nil {
		m.log.Warn("release not closed", "release", r.ID(), "error", rerr)
	}
	return file, err
}

// make writes one variant, and reads it to see that it is one.
func (m *maker) make(ctx context.Context, r *Release, f release.File, c coding) error {
	src, err := m.openFile(r, f)
	if err != nil {
		return err
	}
	defer src.Close() // only read
	m.drawn++
	tmp := strconv.Itoa(m.drawn) + ".tmp"
	dst, err := m.dir.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, modePlain)
	if err != nil {
		return err
	}
	out := &measured{w: dst, sum: sha256.New(), most: f.Size * 9 / 10}
	err = m.encode(ctx, c, out, src, f)
	if err == nil {
		_, err = dst.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = m.decodes(ctx, c, dst, f)
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, m.dir.Remove(tmp))
	}
	m.batch = append(m.batch, written{tmp, f.Digest, c, made{out.n, out.first()}})
	m.batched += out.n
	return nil
}

// encode writes a file in another coding.
func (m *maker) encode(ctx context.Context, c coding, out io.Writer, src io.Reader, f release.File) (err error) {
	var enc io.WriteCloser
	if c == gzipped {
		if m.gzip == nil {
			if m.gzip, err = gzip.NewWriterLevel(nil, 6); err != nil {
				return err
			}
		}
		m.gzip.Reset(out)
		enc = m.gzip
	} else {
		if m.zstd == nil {
			if m.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true)); err != nil {
				return err
			}
		}
		m.zstd.ResetContentSize(out, f.Size)
		enc = m.zstd
	}
	err = m.pace.copy(ctx, enc, &verifying{r: src, from: f.Path, want: f.Digest})
	if errors.Is(err, objectstore.ErrCorrupt) || errors.Is(err, errNotAsVerified) {
		return &fileError{f.Path, err}
	}
	if err != nil {
		return err
	}
	return enc.Close()
}

// measured is a file that is being written and may not become large.
type measured struct {
	w       io.Writer
	sum     hash.Hash
	n, most int64
}

// Write is io.Writer.
func (w *measured) Write(b []byte) (int, error) {
	if w.n += int64(len(b)); w.n > w.most {
		return 0, errUseless
	}
	w.sum.Write(b)
	return w.w.Write(b)
}

func (w *measured) first() sum { return sum(w.sum.Sum(nil)[:len(sum{})]) }
