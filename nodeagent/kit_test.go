package nodeagent

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"relman/objectstore"
	"relman/release"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const www release.Site = "www"

// page is one file of a build.
type page struct {
	content string
	exec    bool
}

// build is a whole build: pages by path.
type build map[string]page

func (b build) with(path, content string) build {
	b = maps.Clone(b)
	b[path] = page{content: content}
	return b
}

func (b build) without(path string) build {
	b = maps.Clone(b)
	delete(b, path)
	return b
}

// write writes the pages into a directory.
func (b build) write(t testing.TB, dir string) string {
	t.Helper()
	for path, p := range b {
		name, mode := filepath.Join(dir, path), fs.FileMode(0o644)
		if p.exec {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(p.content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// memoryDir is a directory in memory where there is such a thing: nodes in
// tests sync all the time, and would wait for each other and for everybody
// else's writes. Filling is tested on the disk too, by itself.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "relman-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// shelf publishes builds of one site, one release after the other.
type shelf struct {
	store *objectstore.Memory
	last  *objectstore.Stored
	seq   uint64
	all   sync.Map // release.ID to *release.Manifest
}

func newShelf() *shelf { return &shelf{store: objectstore.NewMemory()} }

// publish stores a build as the next release.
func (s *shelf) publish(t testing.TB, b build) *objectstore.Stored {
	t.Helper()
	return s.publishDir(t, b.write(t, t.TempDir()))
}

func (s *shelf) publishDir(t testing.TB, dir string) *objectstore.Stored {
	t.Helper()
	scan, err := objectstore.Scan(t.Context(), dir, objectstore.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := &objectstore.Publisher{Store: s.store, Site: www, Base: s.last, Workers: 2}
	u, err := p.Upload(t.Context(), scan)
	if err != nil {
		t.Fatal(err)
	}
	s.seq++
	m, err := u.Commit(t.Context(), s.seq, time.Unix(1_700_000_000+int64(s.seq)*60, 0))
	if err != nil {
		t.Fatal(err)
	}
	s.all.Store(m.ID(), m)
	s.last, err = objectstore.Load(t.Context(), s.store, www, m.ID(), m.Digest())
	if err != nil {
		t.Fatal(err)
	}
	return s.last
}

// expectTree compares a directory with a manifest: every byte, size, time and
// mode, and nothing else. It shares no code with what it checks.
func expectTree(dir string, m *release.Manifest) error {
	want := map[string]release.File{}
	dirs := map[string]bool{".": true}
	for _, f := range m.Files {
		want[f.Path] = f
		for d := filepath.Dir(f.Path); d != "."; d = filepath.Dir(d) {
			dirs[d] = true
		}
	}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if !dirs[rel] {
				return fmt.Errorf("%s: a directory that the release does not have", rel)
			}
			return nil
		}
		f, ok := want[rel]
		if !ok {
			return fmt.Errorf("%s: not in the release", rel)
		}
		delete(want, rel)
		return expectFile(name, f)
	})
	if err != nil {
		return err
	}
	if len(want) > 0 {
		return fmt.Errorf("%d files missing: %v", len(want), slices.Sorted(maps.Keys(want)))
	}
	return nil
}

func expectFile(name string, f release.File) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o444)
	if f.Exec {
		mode = 0o555
	}
	switch {
	case release.Digest(sha256.Sum256(raw)) != f.Digest:
		return fmt.Errorf("%s: wrong bytes", f.Path)
	case info.Mode() != mode:
		return fmt.Errorf("%s: mode %v, want %v", f.Path, info.Mode(), mode)
	case !info.ModTime().Equal(time.Unix(f.MTime, 0)):
		return fmt.Errorf("%s: time %v, want %v", f.Path, info.ModTime(), time.Unix(f.MTime, 0))
	}
	return nil
}

// heldIn finds the releases that a site's directory holds, whole and durable,
// with the trees that hold them.
func heldIn(siteDir string) (map[release.ID]string, error) {
	held := map[release.ID]string{}
	found, err := filepath.Glob(filepath.Join(siteDir, "buffers", "*.manifest"))
	if err != nil {
		return nil, err
	}
	for _, name := range found {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := release.ParseManifest(raw)
		if err != nil {
			return nil, err
		}
		tree := strings.TrimSuffix(name, ".manifest")
		if err := expectTree(tree, m); err != nil {
			return nil, fmt.Errorf("%s says that it is %s: %w", tree, m.ID(), err)
		}
		held[m.ID()] = tree
	}
	return held, nil
}
