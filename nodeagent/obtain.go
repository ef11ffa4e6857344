package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// progressEvery is how often a status tells of a fill under way.
const progressEvery = time.Second

// drainLimit is how long a fill waits for requests that still hold the release
// that it replaces. They opened their file within microseconds of taking the
// release, two flips ago, and an open file keeps its bytes; so this is for a
// request that was stalled between the two.
const drainLimit = time.Second

var errNeeded = errors.New("the buffer has come to be needed")

// obtain makes the node hold a release, in a buffer that is free for it, and
// shows it if it is active. before runs when the buffer is about to be touched.
// A damaged buffer that should hold the release is repaired instead: no claim
// stands for it any more, and nothing else is given up for it.
func (s *site) obtain(ctx context.Context, v cluster.NodeView, id release.ID, manifest release.Digest, before func(context.Context, cluster.NodeView) error) error {
	began := time.Now()
	if manifest.IsZero() {
		r, err := s.reg.Release(ctx, s.name, id)
		if err != nil {
			return fmt.Errorf("look up %s: %w", id, err)
		}
		manifest = r.Manifest
	}
	want, err := objectstore.Load(ctx, s.store, s.name, id, manifest)
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", id, err)
	}
	if err := s.cfg.point("node.after-load"); err != nil {
		return err
	}
	b := s.damagedHolder(id, want.Manifest.Digest())
	if b == nil {
		if before != nil {
			if err := before(ctx, v); err != nil {
				return err
			}
		}
		if b, err = s.free(ctx, v); err != nil {
			return fmt.Errorf("prefetch %s: %w", id, err)
		}
	}
	if err := s.fill(ctx, v, b, want); err != nil {
		return fmt.Errorf("fill buffer %s: %w", b.name, err) // what is fetched names the release
	}
	s.metrics.seconds.Observe(time.Since(began).Seconds())
	s.log.Info("release held", "release", id, "buffer", b.name, "duration_ms", time.Since(began).Milliseconds())
	return nil
}

// free finds the buffer to fill. Where all are spoken for, claims for neither
// active nor previous are given up.
func (s *site) free(ctx context.Context, v cluster.NodeView) (*buffer, error) {
	shown, _ := s.front.Shown()
	if b := pick(s.disk.bufs, shown, v, s.claims); b != nil {
		return b, nil
	}
	if lower := stale(v, s.claims); len(lower) > 0 {
		if err := s.lower(ctx, v, lower); err != nil {
			return nil, err
		}
	}
	if b := pick(s.disk.bufs, shown, v, s.claims); b != nil {
		return b, nil
	}
	return nil, errors.New("no buffer is free")
}

// fill fills a buffer, or repairs it, telling how far it is, and takes what it
// holds then into use.
func (s *site) fill(ctx context.Context, v cluster.NodeView, b *buffer, want *objectstore.Stored) error {
	f := &fill{
		disk: s.disk, buf: b, want: want, store: s.store, workers: s.cfg.Workers, log: s.log,
		point:   s.cfg.point,
		sync:    s.cfg.sync,
		giveUp:  func() error { return s.giveUp(ctx, b) },
		suspect: s.suspect,
		count:   func(h how, n int) { s.metrics.files.WithLabelValues(string(h)).Add(float64(n)) },
		fetched: func(n int64) { s.metrics.bytes.Add(float64(n)) },
		failed: func(file release.File, err error) {
			s.metrics.useless.Inc()
			s.log.Info("delta is of no use, the whole file is fetched", "file", file.Path, "error", err)
		},
	}
	if f.repair = s.damagedHolder(want.Manifest.ID(), want.Manifest.Digest()) == b; f.repair {
		f.giveUp = func() error { return context.Cause(ctx) } // it is served from on
	}
	for _, o := range s.disk.bufs {
		if o != b && o.manifest != nil && !o.damaged {
			f.others = append(f.others, tree{name: o.name, files: o.manifest.Files})
		}
	}
	stop := s.tell(ctx, v, f)
	err := f.run(ctx)
	stop()
	if err != nil {
		return err
	}
	r, err := s.disk.openRelease(b, want.Manifest)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := b.open // nil but for a repair
	b.manifest, b.open, b.damaged = want.Manifest, r, false
	s.hold()
	if id, _ := s.front.Shown(); f.repair && id == r.ID() {
		s.front.reopened(r) // its directory may be another one now
	}
	s.swap()
	s.mu.Unlock()
	if err := old.Close(); err != nil {
		s.log.Warn("release not closed", "release", old.ID(), "error", err)
	}
	return s.settle(v)
}

// tell reports a fill now and then, until stop is called.
func (s *site) tell(ctx context.Context, v cluster.NodeView, f *fill) (stop func()) {
	s.setFilling(f)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			sleep(ctx, progressEvery)
			if ctx.Err() == nil {
				s.report(ctx, v)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		s.setFilling(nil)
	}
}

func (s *site) setFilling(f *fill) {
	s.aside.filling(f != nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = f
}

// giveUp takes a buffer out of use, for good: what is active may have changed
// while the fill was drawing, so it is asked again, under the lock that a swap
// takes. What is kept of the release is there before the rest of it goes.
func (s *site) giveUp(ctx context.Context, b *buffer) error {
	s.mu.Lock()
	id, was, damaged := b.id(), b.manifest, b.damaged
	err := s.needed(ctx, id)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if was != nil && !damaged {
		s.retain(b, was)
	}
	s.mu.Lock()
	if err := s.needed(ctx, id); err != nil {
		s.mu.Unlock()
		if id != "" {
			s.drop(id)
		}
		return err
	}
	old := b.open
	b.manifest, b.open, b.damaged = nil, nil, false
	s.hold()
	s.mu.Unlock()
	err = s.unlink(b)
	if old == nil {
		return err
	}
	if cerr := old.Close(); cerr != nil {
		s.log.Warn("release not closed", "release", id, "error", cerr)
	}
	if err != nil {
		return err
	}
	for end := time.Now().Add(drainLimit); old.refs.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// needed is why the buffer of a release must not be given up, nil for nothing.
// The caller holds the lock.
func (s *site) needed(ctx context.Context, id release.ID) error {
	shown, _ := s.front.Shown()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case id != "" && (id == shown || s.view.Active.Exists() && id == s.view.Active.Value.Release):
		return errNeeded
	}
	return nil
}
