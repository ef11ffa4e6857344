package nodeagent

import (
	"fmt"
	"io"
	"sync"

	"relman/release"
)

// olds is what this disk holds, for contents that are made out of old ones.
// It is found only when a release has such contents.
type olds struct {
	f     *fill
	once  sync.Once
	paths map[release.Digest]oldFile
}

type oldFile struct {
	path string // below the buffers
	size int64
}

func newOlds(f *fill) *olds { return &olds{f: f} }

func (o *olds) find() {
	o.paths = map[release.Digest]oldFile{}
	for _, t := range append([]tree{*o.f.found}, o.f.others...) {
		for _, file := range t.files {
			o.paths[file.Digest] = oldFile{t.name + "/" + file.Path, file.Size}
		}
	}
}

// Holds is objectstore.Old.
func (o *olds) Holds(d release.Digest, size int64) bool {
	o.once.Do(o.find)
	old, ok := o.paths[d]
	return ok && old.size == size
}

// Read is objectstore.Old. A file that is not as it was shows when what is made
// of it is verified.
func (o *olds) Read(d release.Digest, offset, length int64) ([]byte, error) {
	o.once.Do(o.find)
	old, ok := o.paths[d]
	if !ok {
		return nil, fmt.Errorf("%s is not held", d)
	}
	f, info, err := o.f.disk.openFile(old.path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	if info.Size() != old.size {
		return nil, notAsVerified(old.path)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(io.NewSectionReader(f, offset, length), b)
	return b, err
}
