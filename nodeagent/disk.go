package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"relman/release"
)

// disk is what one site has on its node:
//
//	buffers/0 1 2            trees of plain files
//	buffers/<k>.manifest     what tree k is, verified and durable; absent while
//	                         the tree is not exactly that
//	buffers/<k>.new          inodes drawn for tree k, not in place yet
//	releases held current previous next active
//	                         links to trees, for other web servers (see links.go)
//	state.json               what was applied last
//	variants/                files in other codings, by content (see variants)
//
// The number of a tree is the disk's own affair. A buffer in etcd is a place
// for one release in the protocol; which tree holds that release is decided
// here, when it is filled. If the two numbers were one, a node that comes back
// after missed flips would have to fill the very tree that it serves from
// whenever active has come to stand in that buffer: it would go dark, or
// change what visitors are reading. So a claim is true when any verified tree
// holds the release, and a fill takes a tree that nobody needs.
type disk struct {
	dir   string
	root  *os.Root // of the site
	trees *os.Root // of its buffers
	bufs  []*buffer

	variants *variants // for the releases that are opened here
}

// buffer is one tree. Its manifest, its open release and its damage change only
// under the lock of its site; the rest belongs to the worker.
type buffer struct {
	name     string
	manifest *release.Manifest // what it holds, verified and durable; nil: not known to be anything
	open     *Release          // the same, opened for serving
	damaged  bool              // it is not that any more, as an examination found

	// What an attempt to fill has found and left. It is known only to this
	// process: nil makes the next attempt look at every byte.
	found   *tree
	spare   map[identity]bool
	checked time.Time // when its names, sizes and times were last as in the manifest
	wipe    bool      // nothing in it can be believed, not even what reads well
}

func (b *buffer) spareDir() string     { return b.name + ".new" }
func (b *buffer) manifestFile() string { return b.name + ".manifest" }

// id is the release that it holds, "" for none.
func (b *buffer) id() release.ID {
	if b.manifest == nil {
		return ""
	}
	return b.manifest.ID()
}

// spareName is where an inode waits for its place in a tree. The name says
// what it should be, so that an attempt that was cut off is resumed by
// looking, without a journal that could be wrong about the tree.
func spareName(buffer string, id identity) string { return buffer + ".new/" + id.name() }

func (id identity) name() string {
	name := id.digest.Hex() + "-" + strconv.FormatInt(id.mtime, 10)
	if id.exec {
		name += "x"
	}
	return name
}

// glance compares a held buffer's names, sizes and times with its manifest.
func (d *disk) glance(ctx context.Context, b *buffer) error {
	err := d.check(ctx, b.name, b.manifest, 0)
	if err == nil {
		b.checked = time.Now()
	}
	return err
}

// openDisk opens the directory of a site, or makes it.
func openDisk(dir string, site release.Site, buffers int) (*disk, error) {
	path := filepath.Join(dir, "sites", string(site))
	if err := makeDirs(filepath.Dir(path), path, filepath.Join(path, "buffers")); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	trees, err := root.OpenRoot("buffers")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d := &disk{dir: path, root: root, trees: trees}
	d.grow(buffers)
	return d, nil
}

// makeDirs makes directories that are not there, for everybody to read whatever
// the process's umask. The first one may be deep.
func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			continue // with the mode that somebody gave it
		}
		if err := errors.Join(os.MkdirAll(dir, modeDir), os.Chmod(dir, modeDir)); err != nil {
			return err
		}
	}
	return nil
}

// grow makes it at least n buffers.
func (d *disk) grow(n int) {
	for k := len(d.bufs); k < n; k++ {
		d.bufs = append(d.bufs, &buffer{name: strconv.Itoa(k)})
	}
}

func (d *disk) close() error { return errors.Join(d.trees.Close(), d.root.Close()) }

// read finds what a buffer says that it holds, nil for nothing. A manifest
// that cannot be read is no manifest.
func (d *disk) read(b *buffer) (*release.Manifest, error) {
	raw, err := d.trees.ReadFile(b.manifestFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.manifestFile(), err)
	}
	return m, nil
}

// openRelease opens a verified tree for serving.
func (d *disk) openRelease(b *buffer, m *release.Manifest) (*Release, error) {
	r, err := OpenRelease(filepath.Join(d.dir, "buffers", b.name), m)
	if err == nil {
		r.variants = d.variants
	}
	return r, err
}
