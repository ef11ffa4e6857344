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

// PackCache wraps a store so that the packs of what was published last from
// this machine are at hand: the next publisher makes deltas out of them without
// fetching them. Losing it costs time only, and nothing in it is believed: what
// comes out of a pack is verified whoever gave it.
type PackCache struct {
	Store
	dir string

	mu   sync.Mutex
	used int64 // guarded by mu: bytes in it; negative before anybody counted
}

// mostCached bounds a cache of packs. What is beyond it is fetched.
const mostCached = 1 << 30

// NewPackCache keeps packs in a directory.
func NewPackCache(s Store, dir string) *PackCache { return &PackCache{Store: s, dir: dir, used: -1} }

func (c *PackCache) path(key string) (string, bool) {
	name := filepath.Base(key)
	return filepath.Join(c.dir, name), strings.HasPrefix(key, "packs/")
}

// Get is Store.
func (c *PackCache) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if path, ok := c.path(key); ok && length >= 0 {
		if r := openPart(path, offset, length); r != nil {
			return r, nil
		}
	}
	return c.Store.Get(ctx, key, offset, length)
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

// Put is Store. A pack that cannot be kept is no fault of the store.
func (c *PackCache) Put(ctx context.Context, key string, body []byte, create bool) error {
	if path, ok := c.path(key); ok && c.room(int64(len(body))) {
		_ = c.keep(path, body)
	}
	return c.Store.Put(ctx, key, body, create)
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

// Prune removes packs that no given layout refers to.
func (c *PackCache) Prune(keep ...*Layout) error {
	used := map[string]bool{}
	for _, l := range keep {
		for _, p := range l.packs {
			used[packName(p.Digest)] = true
		}
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

func packName(d release.Digest) string { return d.Hex() + ".pack" }
