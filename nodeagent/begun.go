package nodeagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"relman/objectstore"
	"relman/release"
)

// A large file is drawn under a name of its own, and what there is of it is used
// by the next attempt: it may have taken long to fetch. Nobody believes it; it
// is verified with the rest.
const (
	begunFrom   = 8 << 20 // bytes of a file that is worth it
	begunSuffix = ".part"
	modeBegun   = 0o600
)

// begunName is where a large file is while it is incomplete.
func begunName(buffer string, file release.File) string {
	return spareName(buffer, identityOf(file)) + begunSuffix
}

// begun is what an attempt before has drawn of a large file, nil for nothing.
func (f *fill) begun(file release.File) io.Reader {
	if file.Size <= begunFrom {
		return nil
	}
	name := begunName(f.buf.name, file)
	part, err := f.disk.trees.OpenFile(name, os.O_RDWR|readOnly, 0)
	if err != nil {
		return nil // it is fetched
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts[name] = part
	return io.NewSectionReader(part, 0, file.Size)
}

// partOf is the incomplete file to write to.
func (f *fill) partOf(name string) (*os.File, error) {
	f.mu.Lock()
	part := f.parts[name]
	delete(f.parts, name)
	f.mu.Unlock()
	if part != nil {
		return part, nil
	}
	return f.disk.trees.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, modeBegun)
}

// createLarge writes a large file of the release under a name that nothing
// uses. What is there of it is written again by the same bytes. On an error
// there is no file of that name, and what there is of it stays unless it is
// wrong, or takes room that is needed.
func (f *fill) createLarge(name string, file release.File, r io.Reader) error {
	tmp := begunName(f.buf.name, file)
	part, err := f.partOf(tmp)
	if err != nil {
		return err
	}
	err = f.copyTo(io.NewOffsetWriter(part, 0), file, r)
	if err == nil {
		err = errors.Join(part.Truncate(file.Size), part.Chmod(modeOf(file)))
	}
	if err = errors.Join(err, part.Close()); err == nil {
		mtime := time.Unix(file.MTime, 0)
		err = f.disk.trees.Chtimes(tmp, mtime, mtime)
	}
	if err == nil {
		return f.names.rename(tmp, name)
	}
	if errors.Is(err, objectstore.ErrCorrupt) || isScarce(err) {
		err = errors.Join(err, f.disk.trees.Remove(tmp))
	}
	return err
}

// copyTo writes a file, and counts what is drawn.
func (f *fill) copyTo(w io.Writer, file release.File, r io.Reader) error {
	buf := copyBuffers.Get().(*[128 << 10]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(w, counting{f, r}, buf[:])
	if err == nil && n != file.Size {
		err = fmt.Errorf("%w: %s has %d bytes, the manifest says %d", objectstore.ErrCorrupt, file.Path, n, file.Size)
	}
	if err != nil {
		f.done.Add(-n)
	}
	return err
}

// keepBegun removes what was begun and is not wanted any more, and says how
// many bytes of what is wanted are there.
func (f *fill) keepBegun(p *plan) (have int64, err error) {
	wanted := map[string]bool{}
	for _, q := range p.parts {
		if q.how == byFetch && q.file.Size > begunFrom {
			wanted[path.Base(begunName(f.buf.name, q.file))] = true
		}
	}
	entries, err := fs.ReadDir(f.disk.trees.FS(), f.buf.spareDir())
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), begunSuffix) {
			continue
		}
		name := f.buf.spareDir() + "/" + e.Name()
		if info, err := e.Info(); err == nil && wanted[e.Name()] && info.Mode().IsRegular() && !isShared(info) {
			// One that was cut off at its end has the mode of the release already.
			if err := f.disk.trees.Chmod(name, modeBegun); err != nil {
				return 0, err
			}
			have += info.Size()
			continue
		}
		if err := f.disk.trees.RemoveAll(name); err != nil {
			return 0, err
		}
	}
	return have, nil
}

// isShared reports whether a file has other names, under which it would change
// too.
func isShared(info fs.FileInfo) bool {
	_, shared := inodeOf(info)
	return shared
}

// closeBegun closes what was not written to in the end.
func (f *fill) closeBegun() {
	for _, part := range f.parts {
		_ = part.Close() // only read
	}
}
