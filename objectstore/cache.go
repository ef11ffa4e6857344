package objectstore

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"relman/release"
)

// Cache knows the digests of files that an earlier publisher read, so that they
// need not be read again: a file is the same as long as its device, inode,
// size, mtime and ctime are. Losing it costs time only.
type Cache struct {
	path string
	old  map[string]cached
	mu   sync.Mutex
	now  map[string]cached // guarded by mu
	when time.Time
}

// cached is one file in a cache.
type cached struct {
	Path   string         `json:"p"`
	Digest release.Digest `json:"h"`
	Dev    uint64         `json:"d"`
	Inode  uint64         `json:"i"`
	Size   int64          `json:"s"`
	MTime  [2]int64       `json:"m"` // seconds, nanoseconds
	CTime  [2]int64       `json:"c"`
}

// settled is how old a change has to be: one that comes within the resolution
// of the file system's clock could leave the times as they are.
const settled = 2 * time.Second

// OpenCache reads the cache of one build directory. A file that is not there or
// is damaged is an empty cache.
func OpenCache(path string) *Cache {
	c := &Cache{path: path, old: map[string]cached{}, now: map[string]cached{}, when: time.Now()}
	f, err := os.Open(path)
	if err != nil {
		return c
	}
	defer f.Close() // only read
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var e cached
		if err := dec.Decode(&e); err != nil {
			if !errors.Is(err, io.EOF) {
				clear(c.old)
			}
			return c
		}
		c.old[e.Path] = e
	}
}

func entry(f BuildFile, d release.Digest) cached {
	return cached{
		Path: f.Path, Digest: d, Dev: f.id.dev, Inode: f.id.ino, Size: f.Size,
		MTime: stamp(f.id.mtime), CTime: stamp(f.id.ctime),
	}
}

func stamp(t syscall.Timespec) [2]int64 {
	sec, nsec := t.Unix()
	return [2]int64{sec, nsec}
}

func (c *Cache) lookup(f BuildFile) (release.Digest, bool) {
	e, ok := c.old[f.Path]
	if !ok || e != entry(f, e.Digest) {
		return release.Digest{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[f.Path] = e
	return e.Digest, true
}

// note remembers a file that was read.
func (c *Cache) note(f BuildFile, d release.Digest) {
	e := entry(f, d)
	if c.when.Sub(time.Unix(e.CTime[0], e.CTime[1])) < settled {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[f.Path] = e
}

// Save writes what this publisher saw of the build, and forgets other files.
func (c *Cache) Save() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return fmt.Errorf("save the cache of digests: %w", err)
	}
	t, err := renameio.NewPendingFile(c.path, renameio.WithPermissions(fs.FileMode(0o600)))
	if err != nil {
		return fmt.Errorf("save the cache of digests: %w", err)
	}
	defer func() { err = errors.Join(err, t.Cleanup()) }()
	w := bufio.NewWriter(t)
	enc := json.NewEncoder(w)
	for _, e := range c.now {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("save the cache of digests: %w", err)
	}
	return t.CloseAtomicallyReplace()
}
