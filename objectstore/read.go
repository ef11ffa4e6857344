package objectstore

import (
	"context"
	"crypto/sha256"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"relman/failpoint"
	"relman/release"
)

const (
	chunkBytes = 1 << 20  // files that are read by one goroutine without a word to the others
	chunkFiles = 256      // the same, for small ones
	readAhead  = 24 << 20 // bytes that are read and not yet in a frame
)

// chunk is a run of files that is read at once. A file above frameTarget is
// alone and only hashed: it is read again if it is needed.
type chunk struct {
	files   []BuildFile
	known   []bool // its digest is known and its content not needed
	digests []release.Digest
	data    []byte // of the files that are not known, one after the other
	size    int64  // of data
	read    chan error
}

func (c *chunk) large() bool { return c.files[0].Size > frameTarget }

// chunks cuts a list of files into chunks, in order.
func (w *upload) chunks(files []BuildFile) []*chunk {
	var all []*chunk
	var last *chunk
	for _, f := range files {
		d, known := w.cached(f)
		size := f.Size
		if known {
			size = 0
		}
		if last == nil || len(last.files) == chunkFiles || last.size+size > chunkBytes || last.large() || f.Size > frameTarget {
			last = &chunk{read: make(chan error, 1)}
			all = append(all, last)
		}
		last.files, last.known, last.digests = append(last.files, f), append(last.known, known), append(last.digests, d)
		if f.Size <= frameTarget {
			last.size += size
		}
	}
	return all
}

// cached is the digest of a file that need not be read: it is the one that the
// cache saw, and what it contains is in the base.
func (w *upload) cached(f BuildFile) (d release.Digest, ok bool) {
	if w.p.Cache == nil {
		return d, false
	}
	d, ok = w.p.Cache.lookup(f)
	return d, ok && w.base.Has(d)
}

var chunkBuffers = newBuffers(chunkBytes)

// readAll reads chunks, several at once, and hands them over in order. What is
// read and not handed back yet is bounded.
func (w *upload) readAll(ctx context.Context, all []*chunk, use func(*chunk) error) error {
	g, ctx := errgroup.WithContext(ctx)
	room := semaphore.NewWeighted(readAhead)
	todo := make(chan *chunk)
	g.Go(func() error {
		defer close(todo)
		for _, c := range all {
			if err := room.Acquire(ctx, c.size); err != nil {
				return err
			}
			select {
			case todo <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range w.workers {
		g.Go(func() error {
			for c := range todo {
				c.read <- w.readChunk(ctx, c)
			}
			return nil
		})
	}
	g.Go(func() error {
		for _, c := range all {
			select {
			case err := <-c.read:
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := use(c); err != nil {
				return err
			}
			if err := failpoint.Point("publish.mid-read"); err != nil {
				return err
			}
			chunkBuffers.put(c.data)
			c.data = nil
			room.Release(c.size)
		}
		return nil
	})
	return g.Wait()
}

// readChunk reads and hashes the files of a chunk.
func (w *upload) readChunk(ctx context.Context, c *chunk) error {
	if c.size > chunkBytes {
		c.data = make([]byte, 0, c.size)
	} else if c.size > 0 {
		c.data = chunkBuffers.get()
	}
	for i, f := range c.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if c.known[i] {
			if err = w.stands(f); err != nil {
				return err
			}
			continue
		}
		if c.large() {
			c.digests[i], err = w.digest(ctx, f)
		} else {
			c.data, c.digests[i], err = w.load(f, c.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// load appends a whole file.
func (w *upload) load(f BuildFile, to []byte) (_ []byte, d release.Digest, err error) {
	s, err := w.open(f)
	if err != nil {
		return nil, d, err
	}
	defer s.close()
	begin := len(to)
	to = slices.Grow(to, int(f.Size))[:begin+int(f.Size)]
	if err := s.whole(to[begin:]); err != nil {
		return nil, d, err
	}
	return to, sha256.Sum256(to[begin:]), s.unchanged()
}
