package objectstore

import (
	"context"
	"errors"
	"slices"
	"sync"

	"relman/release"
)

// storedOlds are the old contents that derived contents are made out of, as far
// as they are needed at the moment. Their pieces overlap what neighbouring
// deltas need, so the last few are kept.
type storedOlds struct {
	f    *fetch
	mu   sync.Mutex
	kept []*oldFrame // guarded by mu, the latest last
}

// oldFrame is a frame that is fetched once for all who wait for it.
type oldFrame struct {
	frame int
	once  sync.Once
	raw   []byte
	err   error
}

const mostOldFrames = 3

// read is what one delta needs.
func (o *storedOlds) read(ctx context.Context, file release.File, d *delta) ([]byte, error) {
	out := make([]byte, 0, d.span)
	var at int64
	for _, p := range o.f.l.based[d.old.Digest] {
		begin, end := max(d.from-at, 0), min(d.from+d.span-at, p.length)
		at += p.length
		if begin >= end {
			continue
		}
		raw, err := o.frame(ctx, p.frame, file)
		if err != nil {
			return nil, err
		}
		out = append(out, raw[p.offset+begin:p.offset+end]...)
	}
	return out, nil
}

func (o *storedOlds) frame(ctx context.Context, i int, file release.File) ([]byte, error) {
	for {
		k := o.get(i)
		k.once.Do(func() { k.raw, k.err = o.fetch(ctx, i, file) })
		if k.err == nil {
			return k.raw, nil
		}
		o.drop(k)
		if ctx.Err() != nil || !errors.Is(k.err, context.Canceled) {
			return nil, k.err
		}
		// Only whoever fetched it for both has given up.
	}
}

// get is a frame that is kept, or is to be from now on.
func (o *storedOlds) get(i int) *oldFrame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at := slices.IndexFunc(o.kept, func(k *oldFrame) bool { return k.frame == i }); at >= 0 {
		return o.kept[at]
	}
	k := &oldFrame{frame: i}
	if o.kept = append(o.kept, k); len(o.kept) > mostOldFrames {
		o.kept = slices.Delete(o.kept, 0, 1)
	}
	return k
}

func (o *storedOlds) fetch(ctx context.Context, i int, file release.File) ([]byte, error) {
	stored, err := o.f.readFrame(ctx, i)
	if err != nil {
		return nil, err
	}
	fr := o.f.l.frames[i]
	raw, err := unpackFrame(nil, stored, fr.Zstd, fr.Raw)
	if err != nil {
		return nil, o.f.corrupt(i, file, err)
	}
	return raw, nil
}

// forget drops all frames: what was made out of one of them is wrong.
func (o *storedOlds) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = nil
}

// drop forgets a frame that could not be had: whoever tries again fetches it
// again.
func (o *storedOlds) drop(k *oldFrame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = slices.DeleteFunc(o.kept, func(other *oldFrame) bool { return other == k })
}
