package objectstore

import (
	"context"
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
	o.mu.Lock()
	at := slices.IndexFunc(o.kept, func(k *oldFrame) bool { return k.frame == i })
	if at < 0 {
		at = len(o.kept)
		o.kept = append(o.kept, &oldFrame{frame: i})
	}
	k := o.kept[at]
	if len(o.kept) > mostOldFrames {
		o.kept = slices.Delete(o.kept, 0, 1)
	}
	o.mu.Unlock()
	k.once.Do(func() {
		stored, err := o.f.readFrame(ctx, i)
		if err == nil {
			fr := o.f.l.frames[i]
			if k.raw, err = unpackFrame(stored, fr.Zstd, fr.Raw); err != nil {
				err = o.f.corrupt(i, file, err)
			}
		}
		k.err = err
	})
	if k.err != nil {
		o.drop(k)
	}
	return k.raw, k.err
}

// drop forgets a frame that could not be had: whoever tries again fetches it
// again.
func (o *storedOlds) drop(k *oldFrame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = slices.DeleteFunc(o.kept, func(other *oldFrame) bool { return other == k })
}
