//go:build !noembed

package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
)

// openMetadata chooses where ETags and the like are kept: in extended
// attributes where the directory has them, else in files beside the objects.
// What was chosen once stays, even if the file system learns attributes later.
func openMetadata(objects, sidecar string, s syncer) (meta.MetadataStorer, error) {
	if _, err := os.Stat(sidecar); err != nil && attributesWork(objects) {
		return attributes{s, objects, meta.XattrMeta{}}, nil
	}
	if err := os.MkdirAll(sidecar, 0o700); err != nil {
		return nil, err
	}
	if err := s.syncPath(filepath.Dir(sidecar)); err != nil {
		return nil, err
	}
	m, err := meta.NewSideCar(sidecar)
	if err != nil {
		return nil, fmt.Errorf("metadata beside the objects: %w", err)
	}
	return files{s, sidecar, m}, nil
}

// attributesWork tries it out.
func attributesWork(dir string) bool {
	f, err := os.CreateTemp(dir, ".attributes-")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return meta.XattrMeta{}.StoreAttribute(f, "", "", "relman", []byte("1")) == nil
}

// attributes syncs what is written to a path. What is written to an open file
// belongs to a write that syncs the file itself.
type attributes struct {
	syncer
	root string
	meta.XattrMeta
}

func (a attributes) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	err := a.XattrMeta.StoreAttribute(f, bucket, object, attribute, value)
	if err != nil || f != nil {
		return err
	}
	return a.syncPath(filepath.Join(a.root, bucket, object))
}

func (a attributes) DeleteAttribute(bucket, object, attribute string) error {
	if err := a.XattrMeta.DeleteAttribute(bucket, object, attribute); err != nil {
		return err
	}
	return a.syncPath(filepath.Join(a.root, bucket, object))
}

// files syncs every file of the sidecar directory as it is written. That is
// slower than one sync at the end, and simpler; it is the fallback.
type files struct {
	syncer
	root string
	meta.SideCar
}

func (m files) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	if err := m.SideCar.StoreAttribute(f, bucket, object, attribute, value); err != nil {
		return err
	}
	return m.syncBetween(filepath.Join(m.root, bucket, object, "meta", attribute), m.root)
}

func (m files) DeleteAttribute(bucket, object, attribute string) error {
	if err := m.SideCar.DeleteAttribute(bucket, object, attribute); err != nil {
		return err
	}
	return m.syncRemoved(filepath.Join(m.root, bucket, object, "meta", attribute), m.root)
}

func (m files) DeleteAttributes(bucket, object string) error {
	if err := m.SideCar.DeleteAttributes(bucket, object); err != nil {
		return err
	}
	return m.syncRemoved(filepath.Join(m.root, bucket, object, "meta"), m.root)
}

func (m files) RenameObject(bucket, from, to string) error {
	if err := m.SideCar.RenameObject(bucket, from, to); err != nil {
		return err
	}
	if err := m.syncRemoved(filepath.Join(m.root, bucket, to), m.root); err != nil {
		return err
	}
	return m.syncRemoved(filepath.Join(m.root, bucket, from), m.root)
}
