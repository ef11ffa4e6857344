package nodeagent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// The modes of files on a node: nobody writes to them again.
const (
	modePlain = 0o444
	modeExec  = 0o555
	modeDir   = 0o755 // the agent itself does
)

func modeOf(f release.File) fs.FileMode {
	if f.Exec {
		return modeExec
	}
	return modePlain
}

// noTime is the time of a file that is not as relman leaves files: it equals
// no time in a manifest, so such a file is never kept, only copied from.
const noTime = -1

// mend gives a directory the mode that directories have. Whoever changed it has
// changed no file: nothing needs to be verified for it.
func (d *disk) mend(name string, info fs.FileInfo) error {
	if info.Mode().Perm() == modeDir {
		return nil
	}
	return d.trees.Chmod(name, modeDir)
}

// onlyDir removes what has the name of a directory and is none.
func (d *disk) onlyDir(name string) error {
	info, err := d.trees.Lstat(name)
	if err != nil || info.IsDir() {
		return gone(err)
	}
	return d.trees.Remove(name)
}

// walk visits everything below a directory, which is itself ".". One that does
// not exist is empty. No link is followed. visitDir has its turn before what is
// in the directory.
func (d *disk) walk(name string, visitDir func(name string, info fs.FileInfo) error, visit func(p string, info fs.FileInfo) error) error {
	var in func(p string) error
	in = func(p string) error {
		entries, err := d.list(path.Join(name, p))
		if err != nil {
			return err
		}
		for _, e := range entries {
			q := path.Join(p, e.Name())
			info, err := e.Info()
			if err != nil {
				return err
			}
			if err := visit(q, info); err != nil {
				return err
			}
			if info.IsDir() {
				if err := errors.Join(visitDir(path.Join(name, q), info), in(q)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	info, err := d.trees.Lstat(name)
	if err == nil && !info.IsDir() {
		err = notAsVerified(name)
	}
	if err == nil {
		err = visitDir(name, info)
	}
	if err == nil {
		err = in(".")
	}
	return gone(err)
}

func (d *disk) list(name string) ([]fs.DirEntry, error) {
	f, err := d.trees.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

// fileOf is what a file on the disk would be in a manifest, but for its
// content.
func fileOf(p string, info fs.FileInfo) release.File {
	f := release.File{Path: p, Size: info.Size(), Exec: info.Mode().Perm() == modeExec, MTime: info.ModTime().Unix()}
	if info.ModTime().Nanosecond() != 0 || info.Mode() != modeOf(f) {
		f.MTime = noTime
	}
	return f
}

// asVerified compares all of a file on the disk with a manifest, but its
// content.
func asVerified(info fs.FileInfo, want release.File) bool {
	got := fileOf(want.Path, info)
	return got.Size == want.Size && got.MTime == want.MTime && got.Exec == want.Exec
}

// scan reads all of a tree. A file that cannot be read is as good as one with
// wrong bytes: it is not kept.
func (d *disk) scan(ctx context.Context, name string, workers int) (*tree, error) {
	t := &tree{name: name}
	err := d.walk(name, d.mend, func(p string, info fs.FileInfo) error {
		switch {
		case info.IsDir():
			t.dirs = append(t.dirs, p)
		case info.Mode().IsRegular():
			t.files = append(t.files, fileOf(p, info))
		default:
			t.strays = append(t.strays, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t.files, func(a, b release.File) int { return strings.Compare(a.Path, b.Path) })
	var once sync.Once
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range t.files {
		f := &t.files[i]
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sum, err := d.hash(name + "/" + f.Path)
			switch {
			case isScarce(err):
				return err
			case err != nil:
				f.MTime, sum = noTime, release.Digest{}
				once.Do(func() { t.unread = err })
			}
			f.Digest = sum
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return t, nil
}

// scanSpare reads what an attempt that was cut off has drawn. What is not what
// its name says is removed.
func (d *disk) scanSpare(ctx context.Context, b *buffer, workers int) (map[identity]bool, error) {
	if err := d.onlyDir(b.spareDir()); err != nil {
		return nil, err
	}
	t, err := d.scan(ctx, b.spareDir(), workers)
	if err != nil {
		return nil, err
	}
	spare := map[identity]bool{}
	for _, f := range t.files {
		id, name := identityOf(f), b.spareDir()+"/"+f.Path
		if name == spareName(b.name, id) {
			spare[id] = true
		} else if strings.HasSuffix(name, begunSuffix) {
			continue
		} else if err := d.trees.Remove(name); err != nil {
			return nil, err
		}
	}
	for _, p := range append(t.strays, t.dirs...) {
		if err := d.trees.RemoveAll(b.spareDir() + "/" + p); err != nil {
			return nil, err
		}
	}
	return spare, nil
}

var copyBuffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// openFile opens a regular file below the buffers for reading. It waits for
// nobody, whatever has come to stand there.
func (d *disk) openFile(name string) (*os.File, fs.FileInfo, error) {
	f, err := d.trees.OpenFile(name, readOnly, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notAsVerified(name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// hash reads a file below the buffers.
func (d *disk) hash(name string) (sum release.Digest, err error) {
	f, _, err := d.openFile(name)
	if err != nil {
		return sum, err
	}
	buf := copyBuffers.Get().(*[128 << 10]byte)
	defer copyBuffers.Put(buf)
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf[:])
	h.Sum(sum[:0])
	return sum, errors.Join(err, f.Close())
}

// notAsVerified says that a tree is no longer what it was.
func notAsVerified(p string) error {
	return &os.PathError{Op: "check", Path: p, Err: errNotAsVerified}
}

// check compares a tree with its manifest after a start: every name, size,
// time and mode, and the bytes of the pages that visitors enter by and of a
// share of the files. The modes of directories are put right on the way.
func (d *disk) check(ctx context.Context, name string, m *release.Manifest, percent int) error {
	files := 0
	err := d.walk(name, d.mend, func(p string, info fs.FileInfo) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if info.IsDir() {
			if !hasUnder(m.Files, p) {
				return notAsVerified(p)
			}
			return nil
		}
		want, ok := m.Lookup(p)
		if !ok || !asVerified(info, want) {
			return notAsVerified(p)
		}
		files++
		if !isEntry(p) && rand.N(100) >= percent {
			return nil
		}
		if sum, err := d.hash(name + "/" + p); err != nil || sum != want.Digest {
			return errors.Join(notAsVerified(p), err)
		}
		return nil
	})
	if err == nil && files != m.Count {
		err = fmt.Errorf("%d of %d files: %w", files, m.Count, errNotAsVerified)
	}
	if err != nil {
		return fmt.Errorf("buffer %s: %w", name, err)
	}
	return nil
}

// isEntry picks the pages at the top and one level below it.
func isEntry(p string) bool {
	return path.Base(p) == "index.html" && strings.Count(p, "/") <= 1
}
