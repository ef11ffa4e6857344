package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// boot opens what is on the disk and serves the release that was applied last,
// before etcd is reached: a site outlives a loss of all of etcd and a restart
// of its nodes. Responses say that this is unconfirmed, and the node is not
// ready. Nothing is believed that was not looked at (N9).
func (s *site) boot(ctx context.Context) error {
	d, err := openDisk(s.cfg.Dir, s.name, s.cfg.Buffers)
	if err != nil {
		return err
	}
	if !s.cfg.Plain {
		d.variants = s.variants
	}
	if err := s.open(ctx, d); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

func (s *site) open(ctx context.Context, d *disk) error {
	st, err := readState(d.root)
	if err != nil {
		// It is written so that a crash cannot do this. What is shown is
		// decided by etcd then.
		s.log.Error("state not read", "error", err)
	}
	s.mu.Lock()
	s.disk, s.applied, s.stored = d, st, st
	s.mu.Unlock()
	s.recall()
	s.front.setOpening(true)
	found, err := manifests(d)
	if err != nil {
		return err
	}
	// What can be shown comes first, the rest after it.
	slices.SortStableFunc(found, func(a, b held) int { return rank(b, st.Release) - rank(a, st.Release) })
	for _, h := range found {
		if err := s.admit(ctx, h); err != nil {
			return err
		}
	}
	if err := s.readRetained(); err != nil {
		s.log.Warn("old assets are not kept for open pages", "error", err)
	}
	if err := s.readLinks(); err != nil {
		s.log.Error("links not restored", "error", err) // a disk that is full or read-only can still be served from
	}
	s.front.setOpening(false)
	return nil
}

// held is a buffer with what it says that it holds.
type held struct {
	buf      *buffer
	manifest *release.Manifest
	err      error
}

func rank(h held, id release.ID) int {
	if h.manifest != nil && h.manifest.ID() == id {
		return 1
	}
	return 0
}

// manifests finds the buffers that say that they hold something.
func manifests(d *disk) (found []held, err error) {
	entries, err := d.list(".")
	if err != nil {
		return nil, err
	}
	for k := range cluster.MaxBuffers {
		for _, e := range entries {
			if e.Name() == fmt.Sprint(k) {
				d.grow(k + 1)
			}
		}
	}
	for _, b := range d.bufs {
		m, err := d.read(b)
		if m != nil || err != nil {
			found = append(found, held{b, m, err})
		}
	}
	return found, nil
}

// admit takes a buffer into use if it is what it says, and shows it if it is
// what was shown last. One that is not is no longer verified: its manifest
// goes, and the next fill reads it.
func (s *site) admit(ctx context.Context, h held) error {
	err := h.err
	if err == nil {
		err = s.disk.check(ctx, h.buf.name, h.manifest, s.cfg.BootHash)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if isScarce(err) {
		return err
	}
	if err != nil {
		s.log.Error("release on disk is not as it was verified", "buffer", h.buf.name, "error", err)
		if err := removeDurably(s.disk.trees, h.buf.manifestFile()); err != nil {
			s.log.Error("manifest not removed", "buffer", h.buf.name, "error", err)
		}
		return nil
	}
	h.buf.checked = time.Now()
	r, err := s.disk.openRelease(h.buf, h.manifest)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.buf.manifest, h.buf.open = h.manifest, r
	s.hold()
	if h.manifest.ID() == s.applied.Release && s.cfg.OnStart == ServeLast {
		s.front.Show(r, s.applied.Epoch)
	}
	return nil
}

// close closes what is open; requests under way still end on it.
func (s *site) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alarm != nil {
		s.alarm.Stop()
	}
	if s.disk == nil {
		return nil
	}
	var errs []error
	for _, r := range s.retained {
		errs = append(errs, r.rel.Close())
	}
	s.retained = nil
	for _, b := range s.disk.bufs {
		errs = append(errs, b.open.Close())
		b.open, b.manifest, b.damaged = nil, nil, false
	}
	s.hold()
	errs = append(errs, s.variants.close(), s.disk.close())
	s.disk = nil
	return errors.Join(errs...)
}
