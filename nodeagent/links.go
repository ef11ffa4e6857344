package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"

	"relman/release"
)

// Links are for web servers other than the node's own:
//
//	releases/<id>/tree      the tree of each release that is held
//	held/<k>                the same trees, by place
//	current previous next   the trees of what is shown, what was shown before, and
//	                        what was prepared last
//	active                  the releases/<id> of what is shown
//
// A server that resolves "active" learns the name of the release together with
// its files, in one step, and can pin a visitor to it. The name stands before the
// release is claimed and goes before its tree is changed. Flips touch neither it nor
// what is in held: who has found a file there finds it a moment later.
//
// They are turned in this order: whoever looks in current, previous, next and then in
// current again finds what the old release has and what the new one has, at
// any moment of a flip.
var linkNames = []string{"previous", "current", "active", "next"}

const (
	releasesDir = "releases"
	treeLink    = "tree"
	heldDir     = "held"
)

func treeOf(id release.ID) string { return releasesDir + "/" + string(id) + "/" + treeLink }

// holder is the buffer that holds a release, nil when none does.
func (s *site) holder(id release.ID) *buffer {
	for _, b := range s.disk.bufs {
		if b.open != nil && b.id() == id {
			return b
		}
	}
	return nil
}

// relink names what is held and points the links at buffers.
func (s *site) relink(want map[string]*buffer) error {
	changed := false
	for _, b := range s.disk.bufs {
		if b.open == nil || s.named[b.id()] == b {
			continue
		}
		if err := s.disk.nameRelease(b); err != nil {
			return fmt.Errorf("name %s: %w", b.id(), err)
		}
		s.named[b.id()], changed = b, true
	}
	for _, name := range linkNames {
		if b := want[name]; b != s.links[name] {
			if err := s.disk.link(name, b); err != nil {
				return fmt.Errorf("link %s: %w", name, err)
			}
			s.links[name], changed = b, true
		}
	}
	if !changed {
		return nil
	}
	if err := s.cfg.point("node.after-symlink"); err != nil {
		return err
	}
	return syncDir(s.disk.root, ".")
}

// unlink removes the links to a buffer that is given up, and the name of what
// it held.
func (s *site) unlink(b *buffer) error {
	want := map[string]*buffer{}
	for name, to := range s.links {
		if to != b {
			want[name] = to
		}
	}
	if err := s.relink(want); err != nil {
		return err
	}
	for id, to := range s.named {
		if to == b {
			if err := s.disk.unname(id, b); err != nil {
				return fmt.Errorf("remove the name of %s: %w", id, err)
			}
			delete(s.named, id)
		}
	}
	return nil
}

// readLinks learns where the links point. Those to what is not verified go.
func (s *site) readLinks() error {
	if err := s.readNames(); err != nil {
		return err
	}
	for _, name := range linkNames {
		target, err := s.disk.root.Readlink(name)
		s.links[name] = &buffer{} // something else than any buffer
		for _, b := range s.disk.bufs {
			if err == nil && b.open != nil && target == linkTarget(name, b) {
				s.links[name] = b
			}
		}
	}
	shown := s.holder(s.applied.Release)
	want := map[string]*buffer{"current": shown, "active": shown}
	for _, name := range []string{"previous", "next"} {
		if b := s.links[name]; b.open != nil {
			want[name] = b
		}
	}
	return s.relink(want)
}

// readNames learns which releases have names, and removes those that are wrong.
func (s *site) readNames() error {
	for _, b := range s.disk.bufs {
		if b.open == nil {
			if err := gone(s.disk.root.Remove(heldDir + "/" + b.name)); err != nil {
				return err
			}
		}
	}
	entries, err := fs.ReadDir(s.disk.root.FS(), releasesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries { // those that are right are made anew
		if s.holder(release.ID(e.Name())) == nil {
			if err := s.disk.root.RemoveAll(releasesDir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes a link of the site point to a buffer, or removes it when b is
// nil. Readers see the old link or the new one, never none (but for nil).
func (d *disk) link(name string, b *buffer) error {
	if b == nil {
		return gone(d.root.Remove(name))
	}
	return d.turn(name, linkTarget(name, b))
}

func linkTarget(name string, b *buffer) string {
	if name == "active" {
		return releasesDir + "/" + string(b.id())
	}
	return "buffers/" + b.name
}

// turn makes a link lead elsewhere, in one step.
func (d *disk) turn(name, target string) error {
	tmp := name + ".tmp"
	if err := gone(d.root.Remove(tmp)); err != nil {
		return err
	}
	if err := d.root.Symlink(target, tmp); err != nil {
		return err
	}
	return d.root.Rename(tmp, name)
}

// nameRelease makes releases/<id>/tree and held/<k> lead to a buffer.
func (d *disk) nameRelease(b *buffer) error {
	for _, dir := range []string{heldDir, releasesDir, releasesDir + "/" + string(b.id())} {
		if err := d.root.Mkdir(dir, modeDir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.root.Chmod(dir, modeDir); err != nil { // the umask may have closed it to others
			return err
		}
	}
	// A start makes them anew if a crash loses them.
	if err := d.turn(treeOf(b.id()), "../../buffers/"+b.name); err != nil {
		return err
	}
	return d.turn(heldDir+"/"+b.name, "../buffers/"+b.name)
}

// unname removes the name of a release, durably: what comes to be in the tree
// next is another release.
func (d *disk) unname(id release.ID, b *buffer) error {
	err := errors.Join(gone(d.root.Remove(heldDir+"/"+b.name)), d.root.RemoveAll(releasesDir+"/"+string(id)))
	if err != nil {
		return err
	}
	return errors.Join(syncDir(d.root, heldDir), syncDir(d.root, releasesDir))
}
