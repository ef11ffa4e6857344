package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"relman/release"
)

// PackCache wraps a store so that what was published last from this machine is
// at hand: the next publisher knows what the base has, and makes deltas out of
// its packs, without fetching anything. Losing it costs time only. What comes
// out of a pack is verified whoever gave it; manifests and layouts are kept with
// a sum.
type PackCache struct {
	Store
	dir   string
	stamp string

	mu   sync.Mutex
	used int64 // guarded by mu: bytes in it; negative before anybody counted
}

// mostCached bounds a cache of packs. What is beyond it is fetched.
const mostCached = 1 << 30

// NewPackCache keeps packs in a directory of one site. Layouts are at hand as
// long as stamp is the same: it changes whenever they may have changed in the
// store.
func NewPackCache(s Store, dir, stamp string) *PackCache {
	return &PackCache{Store: s, dir: dir, stamp: stamp, used: -1}
}

// path is where an object is kept, "" for nowhere.
func (c *PackCache) path(key string) (path string, pack bool) {
	dir, name := filepath.Split(key)
	switch {
	case strings.HasPrefix(key, "packs/"):
		return filepath.Join(c.dir, name), true
	case name == manifestName:
		return filepath.Join(c.dir, filepath.Base(dir)+".manifest"), false
	case name == layoutName:
		return filepath.Join(c.dir, filepath.Base(dir)+".layout-"+c.stamp), false
	}
	return "", false
}

// Get is Store.
func (c *PackCache) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	switch path, pack := c.path(key); {
	case path == "":
	case pack:
		if length >= 0 {
			if r := openPart(path, offset, length); r != nil {
				return r, nil
			}
		}
	case offset == 0 && length < 0:
		if body, err := os.ReadFile(path); err == nil {
			if body, ok := summed(body); ok {
				return io.NopCloser(bytes.NewReader(body)), nil
			}
			_ = os.Remove(path) // it is of no use, there or not
		}
	}
	return c.Store.Get(ctx, key, offset, length)
}

// summed is what stands behind its sum.
func summed(b []byte) (body []byte, ok bool) {
	n := len(release.Digest{})
	return b[min(n, len(b)):], len(b) > n && release.Digest(b[:n]) == release.Sum(b[n:])
}

// openPart is a part of a cached pack, nil when it is not there. One that is
// not there whole is removed.
func openPart(path string, offset, length int64) io.ReadCloser {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size()-length < offset {
		_ = f.Close()          // only read
		_ = os.RemoveAll(path) // it is of no use, there or not
		return nil
	}
	return &section{io.NewSectionReader(f, offset, length), f}
}

// section is a part of a file that is closed with it.
type section struct {
	*io.SectionReader
	io.Closer
}

// Read is io.Reader. A pack that cannot be read is no better than a wrong one.
func (s *section) Read(p []byte) (int, error) {
	n, err := s.SectionReader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("cached pack: %w: %w", ErrCorrupt, err)
	}
	return n, err
}

// Put is Store. What cannot be kept is no fault of the store. A pack that is
// kept already was on its way to the store before: it is looked for first, so
// that nothing is sent twice.
func (c *PackCache) Put(ctx context.Context, key string, body []byte, create bool) error {
	path, pack := c.path(key)
	if pack && create {
		if kept, err := os.Stat(path); err == nil && kept.Size() == int64(len(body)) {
			switch info, err := c.Stat(ctx, key); {
			case err == nil && info.Size == int64(len(body)):
				return fmt.Errorf("put %s: %w", key, ErrExists)
			case err != nil && !errors.Is(err, ErrNotFound):
				return err
			}
		}
	}
	fits := path != "" && c.room(int64(len(body)))
	if fits && pack {
		_ = c.keep(path, body)
	}
	err := c.Store.Put(ctx, key, body, create)
	if fits && !pack && err == nil {
		sum := release.Sum(body)
		_ = c.keep(path, append(sum[:], body...))
	}
	return err
}

// room counts n more bytes if they fit.
func (c *PackCache) room(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used < 0 {
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return false
		}
		entries, err := os.ReadDir(c.dir)
		if err != nil {
			return false
		}
		c.used = 0
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				c.used += info.Size()
			}
		}
	}
	if c.used+n > mostCached {
		return false
	}
	c.used += n
	return true
}

// forget removes what the cache holds, because something in it was wrong. A
// pack that is being put meanwhile may stay.
func (c *PackCache) forget() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		_ = os.RemoveAll(filepath.Join(c.dir, e.Name())) // if it stays it is found wrong again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = -1
}

// keep writes a pack so that it is there whole or not at all, as long as the
// machine does not crash; after that, what is wrong with it shows.
func (c *PackCache) keep(path string, body []byte) (err error) {
	f, err := os.CreateTemp(c.dir, "new-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(body))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Prune removes packs that a layout does not refer to, and what is kept of
// releases but for these.
func (c *PackCache) Prune(l *Layout, keep ...release.ID) error {
	used := map[string]bool{}
	for _, p := range l.packs {
		used[packName(p.Digest)] = true
	}
	for _, id := range keep {
		used[string(id)+".manifest"], used[string(id)+".layout-"+c.stamp] = true, true
	}
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prune the cache of packs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !used[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(c.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func packName(d release.Digest) string { return d.Hex() + packSuffix }
