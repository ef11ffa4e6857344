package nodeagent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"relman/objectstore"
	"relman/release"
)

// draw makes every inode that the tree lacks, in spare. Sources are read
// before anything of the tree is replaced.
func (f *fill) draw(ctx context.Context, p *plan) error {
	var fetch, copies []*part
	for i := range p.parts {
		switch q := &p.parts[i]; {
		case q.how == byLink && q.own:
			if err := f.takeOwn(q); err != nil {
				return err
			}
		case q.how == byFetch:
			fetch = append(fetch, q)
		case q.how == byCopy:
			if q.like != nil {
				q.from = f.drawnAs(q.like)
			}
			copies = append(copies, q)
		}
	}
	if err := f.fetch(ctx, fetch); err != nil {
		return err
	}
	spoiled, err := f.copyAll(ctx, copies)
	if err != nil {
		return err
	}
	// What a source no longer holds comes from the store after all.
	return f.fetch(ctx, spoiled)
}

// takeOwn puts a name for an inode of the tree itself into spare: its old name
// may be given to another file before the new one is given to it.
func (f *fill) takeOwn(q *part) error {
	id := identityOf(q.file)
	if err := f.names.link(q.from, spareName(f.buf.name, id)); err != nil {
		return err
	}
	f.buf.spare[id] = true
	return nil
}

// fetch draws what only the store has, and every content once.
func (f *fill) fetch(ctx context.Context, parts []*part) error {
	byDigest := make(map[release.Digest]*part, len(parts))
	want := make([]release.File, 0, len(parts))
	var again []*part
	for _, q := range parts {
		first := byDigest[q.file.Digest]
		switch {
		case q.file.Size == 0:
			if err := f.empty(q); err != nil {
				return err
			}
		case first != nil:
			q.from = f.drawnAs(first)
			again = append(again, q)
		default:
			byDigest[q.file.Digest] = q
			want = append(want, q.file)
		}
	}
	if len(want) == 0 {
		return nil
	}
	olds := newOlds(f)
	o := objectstore.FetchOptions{Workers: f.workers, Progress: f.fetched, Old: olds, Begun: f.begun, Failed: olds.failed}
	err := objectstore.Fetch(ctx, f.store, f.want, want, o,
		func(file release.File, r io.Reader) error { return f.write(byDigest[file.Digest], r) })
	if err == nil {
		err = olds.examine(ctx)
	}
	for _, q := range again {
		if err == nil {
			err = f.copy(q)
		}
	}
	return err
}

// direct: a part is drawn in its place.
func (f *fill) direct(q *part) bool {
	return f.loose && (q.how == byFetch || q.how == byCopy) && !q.to[0].taken
}

// drawnAs is where a part has been drawn.
func (f *fill) drawnAs(q *part) string {
	if f.direct(q) {
		return f.buf.name + "/" + q.to[0].path
	}
	return spareName(f.buf.name, identityOf(q.file))
}

// empty draws a file without bytes: no pack holds it.
func (f *fill) empty(q *part) error {
	if q.file.Digest != release.Sum(nil) {
		return fmt.Errorf("%w manifest: %q has no bytes and the digest of some", release.ErrInvalid, q.file.Path)
	}
	return f.write(q, bytes.NewReader(nil))
}

// write draws one inode from verified bytes.
func (f *fill) write(q *part, r io.Reader) error {
	create := f.create
	if q.file.Size > begunFrom {
		create = f.createLarge
	}
	if err := create(f.drawnAs(q), q.file, r); err != nil {
		return err
	}
	if !f.direct(q) {
		f.mu.Lock()
		f.buf.spare[identityOf(q.file)] = true
		f.mu.Unlock()
	}
	f.once.Do(func() { f.onceErr = f.point("node.mid-fetch") })
	return f.onceErr
}

// create writes a file of the release under a name that nothing uses. On an
// error there is no such file.
func (f *fill) create(name string, file release.File, r io.Reader) error {
	write := func(w io.Writer) error { return f.copyTo(w, file, r) }
	err := f.names.create(name, modeOf(file), file.MTime, write)
	if errors.Is(err, fs.ErrExist) { // an attempt before could not remove it
		if err := f.names.remove(name); err != nil {
			return err
		}
		err = f.names.create(name, modeOf(file), file.MTime, write)
	}
	return err
}

// counting counts what is drawn.
type counting struct {
	f *fill
	r io.Reader
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.f.done.Add(int64(n))
	return n, err
}

// copyAll draws what this disk has under other times. Parts whose source does
// not have the right bytes any more, or cannot be read, are returned.
func (f *fill) copyAll(ctx context.Context, parts []*part) (spoiled []*part, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.workers)
	for _, q := range parts {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := f.copy(q)
			if errors.Is(err, objectstore.ErrCorrupt) || errors.Is(err, errNotAsVerified) {
				f.log.Warn("file on disk is not as verified", "file", q.from, "error", err)
				f.suspectFile(q.from, err)
				f.mu.Lock()
				defer f.mu.Unlock()
				q.how, spoiled = byFetch, append(spoiled, q)
				return nil
			}
			return err
		})
	}
	return spoiled, g.Wait()
}

func (f *fill) copy(q *part) error {
	src, _, err := f.disk.openFile(q.from)
	if err != nil {
		return unreadable(q.from, err)
	}
	defer src.Close() // only read
	return f.write(q, &verifying{r: src, from: q.from, want: q.file.Digest})
}

// unreadable says of an error that it speaks of a file on this disk, if it does.
func unreadable(name string, err error) error {
	if isScarce(err) || errors.Is(err, errNotAsVerified) {
		return err
	}
	return fmt.Errorf("%w: %w", notAsVerified(name), err)
}

// verifying reads a file and ends in a CorruptError instead of io.EOF when its
// bytes are not those of want.
type verifying struct {
	r    io.Reader
	from string
	want release.Digest
	sum  hash.Hash
}

func (v *verifying) Read(b []byte) (int, error) {
	if v.sum == nil {
		v.sum = sha256.New()
	}
	n, err := v.r.Read(b)
	v.sum.Write(b[:n])
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return n, unreadable(v.from, err)
	case err != nil:
		if got := release.Digest(v.sum.Sum(nil)); got != v.want {
			return n, &objectstore.CorruptError{Key: v.from, What: "the file on this disk", Want: v.want}
		}
	}
	return n, err
}
