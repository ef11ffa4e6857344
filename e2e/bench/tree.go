package main

import (
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// tree is what a directory holds, by path: the digest of each file, or of what
// a link points to.
type tree struct {
	digests map[string][sha256.Size]byte
	bytes   int64
}

// readTree reads every byte below a directory, with all cores.
func readTree(dir string) (tree, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return tree{}, err
	}
	var paths []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return tree{}, err
	}
	digests := make([][sha256.Size]byte, len(paths))
	sizes := make([]int64, len(paths))
	var g errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() error {
			buf := make([]byte, 256<<10)
			for i := w; i < len(paths); i += workers {
				var err error
				if digests[i], sizes[i], err = digestOf(paths[i], buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return tree{}, err
	}
	t := tree{digests: map[string][sha256.Size]byte{}}
	for i, path := range paths {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return tree{}, err
		}
		t.digests[rel] = digests[i]
		t.bytes += sizes[i]
	}
	return t, nil
}

func digestOf(path string, buf []byte) (sum [sha256.Size]byte, size int64, err error) {
	if info, err := os.Lstat(path); err != nil {
		return sum, 0, err
	} else if info.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(path)
		return sha256.Sum256([]byte(to)), 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	// Without its other methods the file is read through buf.
	size, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf)
	h.Sum(sum[:0])
	return sum, size, err
}

// differs counts the files that are missing, different, or too many in got.
func (t tree) differs(got tree) int {
	n := 0
	for path, want := range t.digests {
		if d, ok := got.digests[path]; !ok || d != want {
			n++
		}
	}
	for path := range got.digests {
		if _, ok := t.digests[path]; !ok {
			n++
		}
	}
	return n
}
