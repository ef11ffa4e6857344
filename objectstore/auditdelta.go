package objectstore

import (
	"context"
	"errors"
	"io"
	"sync"

	"relman/release"
)

// auditFrames is how many frames of old contents are in memory at once.
const auditFrames = 8

// tryDeltas makes contents out of deltas as a node would that holds the old
// ones: those that belong to another of the releases.
func (a *audit) tryDeltas(ctx context.Context) error {
	olds := &auditOlds{ctx: ctx, a: a, frames: map[auditPlace][]byte{}}
	for _, s := range a.releases {
		var want []release.File
		for _, file := range contents(s.Manifest) {
			c := contentOf{s, file.Digest}
			if !a.useful[c] {
				continue
			}
			a.result.Deltas++
			if !a.lost[c] && s.Layout.derived(file.Digest) {
				a.result.Made++ // it was made when it was compared
				continue
			}
			if !a.lost[c] && olds.all(s.Layout.deltas[file.Digest]) {
				want = append(want, file)
			}
		}
		var broken error // of the store, not of an object
		made := len(want)
		err := Fetch(ctx, a.s, s, want, FetchOptions{Old: olds, Failed: func(f release.File, err error) {
			a.mu.Lock()
			made--
			if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDenied) || ctx.Err() != nil {
				broken = err
			}
			a.mu.Unlock()
			for _, d := range s.Layout.deltas[f.Digest] {
				p := a.packs[s.Layout.packs[s.Layout.frames[d.frame].Pack].Digest]
				a.say(packKey(p.ref.Digest), "a delta does not make %s of %s", f.Path, s.Manifest.ID())
				a.useless(p, auditDelta{s, f, d})
			}
		}}, func(_ release.File, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if err := errorOr(broken, err); err != nil {
			return err
		}
		a.result.Made += made
	}
	return nil
}

// auditOlds are contents that the audit has found right. They are read again,
// frame by frame; the last few frames stay, because neighbours of a site are
// neighbours in its packs.
type auditOlds struct {
	ctx context.Context //nolint:containedctx // lives as long as one audit
	a   *audit

	mu     sync.Mutex // guards the rest, held while a frame is read
	frames map[auditPlace][]byte
	recent []auditPlace // the last one used is last
}

// all reports whether everything is there that some deltas need.
func (o *auditOlds) all(deltas []delta) bool {
	for _, d := range deltas {
		if !o.Holds(d.old.Digest, d.old.Size) {
			return false
		}
	}
	return true
}

// Holds is Old.
func (o *auditOlds) Holds(d release.Digest, size int64) bool {
	o.a.mu.Lock()
	defer o.a.mu.Unlock()
	c := o.a.good[d]
	return c != nil && c.file.Size == size
}

// Read is Old.
func (o *auditOlds) Read(d release.Digest, offset, length int64) ([]byte, error) {
	o.a.mu.Lock()
	c := o.a.good[d]
	o.a.mu.Unlock()
	out := make([]byte, 0, length)
	var at int64
	for _, p := range c.at {
		begin, end := max(offset, at), min(offset+length, at+p.length)
		if begin < end {
			raw, err := o.frame(p)
			if err != nil {
				return nil, err
			}
			out = append(out, raw[p.offset+begin-at:p.offset+end-at]...)
		}
		at += p.length
	}
	return out, nil
}

// frame is a decoded frame.
func (o *auditOlds) frame(p auditPlace) ([]byte, error) {
	key := auditPlace{pack: p.pack, frame: p.frame}
	o.mu.Lock()
	defer o.mu.Unlock()
	raw := o.frames[key]
	for i, k := range o.recent {
		if k == key {
			o.recent = append(o.recent[:i], o.recent[i+1:]...)
			break
		}
	}
	if raw == nil {
		var err error
		if raw, err = o.read(p); err != nil {
			return nil, err
		}
		if len(o.recent) == auditFrames {
			delete(o.frames, o.recent[0])
			o.recent = o.recent[1:]
		}
		o.frames[key] = raw
	}
	o.recent = append(o.recent, key)
	return raw, nil
}

func (o *auditOlds) read(p auditPlace) ([]byte, error) {
	body, err := o.a.s.Get(o.ctx, packKey(p.pack.ref.Digest), p.frame.Offset, p.frame.Size)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	stored, err := next(body, 0, make([]byte, p.frame.Size))
	if err != nil {
		return nil, err
	}
	return unpackFrame(nil, stored, p.frame.Zstd, p.frame.Raw)
}
