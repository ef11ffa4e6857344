package nodeagent

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// place changes the tree, makes it durable and says what it is. The buffer has
// been given up before. Until the last step a crash leaves a tree without a
// manifest, which nothing serves and nothing claims.
func (f *fill) place(p *plan, top *os.File) (err error) {
	b := f.buf
	defer func() {
		if err != nil { // half a tree: the next attempt reads it
			b.found, b.spare = nil, nil
		}
	}()
	if err := removeDurably(f.disk.trees, b.manifestFile()); err != nil {
		return err
	}
	if err := f.change(p); err != nil {
		return err
	}
	if err := f.point("node.after-fill"); err != nil {
		return err
	}
	if err := f.sync(top); err != nil {
		if f.repair {
			return errors.Join(err, f.takeBack(p))
		}
		// What the cache holds now may never have reached the disk, and reading
		// it would not tell, not after a restart either.
		return errors.Join(err, f.wipe())
	}
	if err := f.point("node.after-sync"); err != nil {
		return err
	}
	if err := writeDurably(f.disk.trees, b.manifestFile(), f.want.Manifest.Raw()); err != nil {
		return err
	}
	b.found, b.spare, b.checked = nil, map[identity]bool{}, time.Now()
	return nil
}

// takeBack removes what a repair has put into the tree and the disk may not
// have. The rest of it was durable before, and is served from.
func (f *fill) takeBack(p *plan) error {
	var errs []error
	for _, q := range p.parts {
		for _, s := range q.to {
			errs = append(errs, f.names.remove(f.buf.name+"/"+s.path))
		}
	}
	return errors.Join(errs...)
}

// change gives the inodes their names. Files that only the old release had go
// last: ext4 makes new inodes several times slower right after others were
// freed, and all new ones exist by then.
func (f *fill) change(p *plan) error {
	b := f.buf
	in := func(name string) string { return b.name + "/" + name }
	for _, name := range append(f.found.strays, p.clear...) {
		if err := f.names.removeAll(in(name)); err != nil {
			return err
		}
	}
	for _, name := range p.early {
		if err := f.names.remove(in(name)); err != nil {
			return err
		}
	}
	if err := f.makeDirs(p); err != nil {
		return err
	}
	for i := range p.parts {
		if err := errors.Join(f.point("node.mid-place"), f.put(&p.parts[i])); err != nil {
			return err
		}
	}
	for _, name := range p.late {
		if err := f.names.remove(in(name)); err != nil {
			return err
		}
	}
	for _, dir := range p.dirs {
		if err := f.names.removeDir(in(dir)); err != nil {
			return err
		}
	}
	return f.disk.trees.RemoveAll(b.spareDir())
}

// makeDirs makes the directories that new names need.
func (f *fill) makeDirs(p *plan) error {
	made := map[string]bool{f.buf.name: true}
	for i := range p.parts {
		for _, s := range p.parts[i].to {
			if s.taken {
				continue
			}
			if err := f.names.mkdirAll(path.Dir(f.buf.name+"/"+s.path), made); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone lets a name be gone already.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// put gives one inode its places in the tree.
func (f *fill) put(q *part) error {
	b := f.buf
	spare, from, to := spareName(b.name, identityOf(q.file)), q.from, q.to
	inSpare := q.how != byLink || q.own
	switch {
	case f.direct(q): // it is in the first place already
		from, to, inSpare = f.drawnAs(q), to[1:], false
	case inSpare:
		from = spare
	}
	for i, s := range to {
		to, last := b.name+"/"+s.path, i == len(to)-1
		switch {
		case inSpare && last:
			if err := f.names.rename(spare, to); err != nil {
				return err
			}
		case s.taken: // over the old file in one step
			tmp := b.spareDir() + "/link"
			if err := f.linkOrCopy(from, tmp, q); err != nil {
				return err
			}
			if err := f.names.rename(tmp, to); err != nil {
				return err
			}
		default:
			if err := f.linkOrCopy(from, to, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkOrCopy makes one more name for an inode, or one more inode where the
// file system has no more names for it.
func (f *fill) linkOrCopy(from, to string, q *part) error {
	err := f.names.link(from, to)
	if !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	src, _, err := f.disk.openFile(from)
	if err != nil {
		return err
	}
	defer src.Close() // only read
	return f.create(to, q.file, &verifying{r: src, from: from, want: q.file.Digest})
}
