package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// olds is what this disk holds, for contents that are made out of old ones.
// It is found only when a release has such contents.
type olds struct {
	f     *fill
	once  sync.Once
	paths map[release.Digest]oldFile

	mu      sync.Mutex
	used    map[release.Digest]bool // guarded by mu: what was read
	useless bool                    // guarded by mu: a delta was
}

type oldFile struct {
	path string // below the buffers
	size int64
}

func newOlds(f *fill) *olds { return &olds{f: f, used: map[release.Digest]bool{}} }

func (o *olds) find() {
	o.paths = map[release.Digest]oldFile{}
	for _, t := range append([]tree{*o.f.found}, o.f.others...) {
		for _, file := range t.files {
			o.paths[file.Digest] = oldFile{t.name + "/" + file.Path, file.Size}
		}
	}
}

// Holds is objectstore.Old.
func (o *olds) Holds(d release.Digest, size int64) bool {
	o.once.Do(o.find)
	old, ok := o.paths[d]
	return ok && old.size == size
}

// Read is objectstore.Old. Bytes that are not as they were show when what is
// made of them is verified.
func (o *olds) Read(d release.Digest, offset, length int64) ([]byte, error) {
	o.once.Do(o.find)
	old, ok := o.paths[d]
	if !ok {
		return nil, fmt.Errorf("%s is not held", d)
	}
	o.mu.Lock()
	o.used[d] = true
	o.mu.Unlock()
	b, err := o.f.disk.readPart(old, offset, length)
	if err != nil && !isScarce(err) {
		o.f.suspectFile(old.path, err)
	}
	return b, err
}

func (d *disk) readPart(old oldFile, offset, length int64) ([]byte, error) {
	f, info, err := d.openFile(old.path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	if info.Size() != old.size {
		return nil, notAsVerified(old.path)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(io.NewSectionReader(f, offset, length), b)
	return b, err
}

// failed notes that a delta was of no use.
func (o *olds) failed(file release.File, err error) {
	o.mu.Lock()
	o.useless = true
	o.mu.Unlock()
	o.f.failed(file, err)
}

// examine finds out, where deltas were of no use, whether it is this disk that
// has rotted: it reads what they were applied to.
func (o *olds) examine(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.useless {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.f.workers)
	for d := range o.used {
		old := o.paths[d]
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sum, err := o.f.disk.hash(old.path)
			if isScarce(err) {
				return err
			}
			if err != nil || sum != d {
				o.f.suspectFile(old.path, errors.Join(notAsVerified(old.path), err))
			}
			return nil
		})
	}
	return g.Wait()
}
