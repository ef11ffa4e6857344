package nodeagent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"relman/release"
)

const variantsDir = "variants"

// variantName is what a variant is called on the disk.
func variantName(d release.Digest, c coding, m made) string {
	return d.Hex() + "-" + c.String() + "-" + strconv.FormatInt(m.size, 10) + "-" + hex.EncodeToString(m.sum[:])
}

// parseVariantName reads what variantName wrote, and nothing else.
func parseVariantName(name string) (d release.Digest, c coding, m made, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 {
		return d, c, m, false
	}
	d, err := release.ParseDigest(parts[0])
	c = coding(max(0, slices.Index(codingNames[:], parts[1])))
	size, sizeErr := strconv.ParseInt(parts[2], 10, 64)
	raw, sumErr := hex.DecodeString(parts[3])
	if errors.Join(err, sizeErr, sumErr) != nil || size <= 0 {
		return d, c, m, false
	}
	m.size = size
	copy(m.sum[:], raw)
	return d, c, m, variantName(d, c, m) == name
}

// openVariant opens a variant. That it has its size is all that is looked at:
// its bytes have been read before.
func openVariant(root *os.Root, d release.Digest, c coding, m made) (*os.File, error) {
	name := variantName(d, c, m)
	file, err := root.OpenFile(name, readOnly, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != m.size) {
		err = notAsVerified(variantsDir + "/" + name)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// openDir opens the directory, and finds what earlier processes left in it. What
// one of them had not finished goes.
func (m *maker) openDir() (err error) {
	if m.dir != nil {
		return nil
	}
	info, err := m.site.Lstat(variantsDir)
	if err == nil && !info.IsDir() {
		err = errors.Join(m.site.Remove(variantsDir), fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(m.site.Mkdir(variantsDir, modeDir), m.site.Chmod(variantsDir, modeDir))
	}
	if err != nil {
		return err
	}
	root, err := m.site.OpenRoot(variantsDir)
	if err != nil {
		return err
	}
	top, err := root.Open(".")
	if err != nil {
		return errors.Join(err, root.Close())
	}
	if err := m.find(root, top); err != nil {
		return errors.Join(err, top.Close(), root.Close())
	}
	m.top, m.dir = top, root
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root = root
	return nil
}

// find lists what there is. None of it is believed yet.
func (m *maker) find(root *os.Root, top *os.File) error {
	m.unread = map[release.Digest]set{}
	entries, err := top.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		d, c, one, ok := parseVariantName(e.Name())
		s := m.unread[d]
		if !ok || !e.Type().IsRegular() || s[c].size > 0 {
			if err := root.RemoveAll(e.Name()); err != nil {
				return err
			}
			continue
		}
		s[c] = one
		m.unread[d] = s
	}
	return nil
}

// finish makes a batch of variants durable with one syncfs, and then gives them
// their names. A crash before leaves what openDir removes; one after it, whole
// variants.
func (m *maker) finish(ctx context.Context) (err error) {
	if len(m.batch) == 0 {
		return nil
	}
	if err := m.pace.rest(ctx); err != nil {
		return err
	}
	batch := m.batch
	m.batch, m.batched = nil, 0
	defer func() { err = errors.Join(err, m.discard(batch)) }()
	if err := m.point("node.before-variants-sync"); err != nil {
		return err
	}
	if err := m.sync(m.top); err != nil {
		return err
	}
	if err := m.point("node.after-variants-sync"); err != nil {
		return err
	}
	for len(batch) > 0 {
		b := batch[0]
		name := variantName(b.of, b.coding, b.made)
		if err := m.dir.Rename(b.tmp, name); err != nil { // something that is no file is in the way
			if err := errors.Join(m.dir.RemoveAll(name), m.dir.Rename(b.tmp, name)); err != nil {
				return err
			}
		}
		m.keep(b.of, b.coding, b.made)
		batch = batch[1:]
	}
	return nil
}

// discard removes what has not got its name.
func (m *maker) discard(batch []written) error {
	var errs []error
	for _, b := range batch {
		errs = append(errs, m.dir.Remove(b.tmp))
	}
	return errors.Join(errs...)
}

// A node makes no variants that could be in the way of a release.
var errNoRoom = fmt.Errorf("less is free than the largest release takes: %w", syscall.ENOSPC)

// roomFor looks whether the largest release that is held would fit a second
// time, and the batch beside it.
func (m *maker) roomFor(held []*Release) error {
	bytes, inodes, err := m.room(m.top)
	if err != nil {
		return err
	}
	for _, r := range held {
		if bytes < r.manifest.Bytes+2*batchBytes || inodes >= 0 && inodes < int64(r.manifest.Count)+2*batchFiles {
			return errNoRoom
		}
	}
	return nil
}

// leave leaves the directory. Requests still look into it.
func (m *maker) leave() {
	if m.top != nil {
		m.top.Close() // only a handle
	}
}
