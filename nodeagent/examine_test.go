package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// damages are what can happen to a file of a tree behind the agent's back.
var damages = map[string]func(name string) error{
	"vanished":         os.Remove,
	"another size":     func(name string) error { return replace(name, "another size") },
	"another time":     func(name string) error { return os.Chtimes(name, time.Now(), time.Now()) },
	"another mode":     func(name string) error { return os.Chmod(name, 0o644) },
	"a directory":      func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o755)) },
	"a link elsewhere": func(name string) error { return errors.Join(os.Remove(name), os.Symlink("/etc/passwd", name)) },
	"no tree at all":   func(name string) error { return os.RemoveAll(filepath.Dir(name)) },
}

// replace puts another file in the place of one, with its time and mode.
func replace(name, content string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	// At once: somebody who looks meanwhile would begin to repair.
	tmp := name + "~"
	return errors.Join(os.WriteFile(tmp, []byte(content), 0o644), os.Chtimes(tmp, info.ModTime(), info.ModTime()),
		os.Chmod(tmp, info.Mode()), os.Rename(tmp, name))
}

// TestFill_damagedSource: what is to be linked, and is not there as it was
// verified, is fetched, and its buffer is suspect.
func TestFill_damagedSource(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			d := newDrawing(t)
			b := build{"a": {content: "one"}, "b": {content: "two"}}
			r1, r2 := d.shelf.publish(t, b), d.shelf.publish(t, b.with("c", "three"))
			if err := d.fill(t.Context(), 0, r1); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(d.tree(0), "a")); err != nil {
				t.Fatal(err)
			}
			if err := d.fill(t.Context(), 1, r2); err != nil {
				t.Fatal(err)
			}
			if err := expectTree(d.tree(1), r2.Manifest); err != nil {
				t.Error(err)
			}
			if !d.suspects["0"] || len(d.suspects) != 1 {
				t.Errorf("suspect: %v", d.suspects)
			}
		})
	}
}

// TestFill_damagedOwn: so is what was to stay in the buffer itself.
func TestFill_damagedOwn(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			d := newDrawing(t)
			b := build{"a": {content: "one"}, "b": {content: "two"}}
			r1, r2 := d.shelf.publish(t, b), d.shelf.publish(t, b.with("c", "three"))
			if err := d.fill(t.Context(), 0, r1); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(d.tree(0), "a")); err != nil {
				t.Fatal(err)
			}
			d.bufs[0].checked = time.Time{} // long ago
			if err := d.fill(t.Context(), 0, r2); err != nil {
				t.Fatal(err)
			}
			if err := expectTree(d.tree(0), r2.Manifest); err != nil {
				t.Error(err)
			}
			if !d.suspects["0"] {
				t.Errorf("suspect: %v", d.suspects)
			}
		})
	}
}

// rot changes a byte of a file in place, which only its bytes tell.
func rot(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	raw[len(raw)/2] ^= 1
	return errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, raw, 0o644),
		os.Chtimes(name, info.ModTime(), info.ModTime()), os.Chmod(name, info.Mode()))
}

// TestFill_rottenInode: an inode that two trees share has rotted, and one of
// them lost its manifest. What was read to be wrong there is not linked from the
// other one, which is the same bytes.
func TestFill_rottenInode(t *testing.T) {
	d := newDrawing(t)
	r := d.shelf.publish(t, build{"p/a": {content: "one"}, "x": {content: "xxxx"}, "y": {content: "yyyy"}})
	for k := range 2 {
		if err := d.fill(t.Context(), k, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{rot(filepath.Join(d.tree(0), "x")), rot(filepath.Join(d.tree(0), "y")),
		os.Remove(d.tree(1) + ".manifest")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d.reopen(t)
	if err := d.fill(t.Context(), 1, r); err != nil {
		t.Fatal(err)
	}
	if err := expectTree(d.tree(1), r.Manifest); err != nil {
		t.Error(err)
	}
	if !d.suspects["0"] {
		t.Errorf("suspect: %v", d.suspects)
	}
}

// withhold makes a file unreadable, for root too, until the test ends.
func withhold(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		skip(t, fmt.Sprintf("no lease on a file in %s: %v", t.TempDir(), err))
	}
}

// TestFill_unreadable: a file that cannot be read is not a reason to leave the
// rest undone. It is drawn from the store, and who should have had it is
// suspect.
func TestFill_unreadable(t *testing.T) {
	d := newDrawing(t)
	one := d.shelf.publish(t, build{"p/a": {content: "one"}, "x": {content: "x"}})
	two := d.shelf.publish(t, build{"p/a": {content: "one", exec: true}, "x": {content: "x"}})
	if err := d.fill(t.Context(), 0, one); err != nil {
		t.Fatal(err)
	}
	withhold(t, filepath.Join(d.tree(0), "p/a"))
	if err := d.fill(t.Context(), 1, two); err != nil { // a copy of it
		t.Fatal(err)
	}
	if err := expectTree(d.tree(1), two.Manifest); err != nil {
		t.Error(err)
	}
	if !d.suspects["0"] || d.count[byFetch] != 1 {
		t.Errorf("suspect: %v, %v", d.suspects, d.count)
	}
	d.bufs[0].damaged = true
	if err := d.fill(t.Context(), 0, one); err != nil { // a repair
		t.Fatal(err)
	}
	if err := expectTree(d.tree(0), one.Manifest); err != nil {
		t.Error(err)
	}
}

// TestFill_linkedDirectory: a link leads from the tree that is filled into one
// that is served, which stays as it was. The next attempt knows of the link.
func TestFill_linkedDirectory(t *testing.T) {
	b := build{"p/a": {content: "one"}, "p/b": {content: "two"}, "x": {content: "x"}}
	for linked, to := range map[string]string{"p": "../0/p", ".": "0"} {
		t.Run(linked, func(t *testing.T) {
			d := newDrawing(t)
			one, two := d.shelf.publish(t, b), d.shelf.publish(t, b.with("p/a", "new").without("p/b").with("p/c/d", "deep"))
			for k := range 2 {
				if err := d.fill(t.Context(), k, one); err != nil {
					t.Fatal(err)
				}
			}
			was := inodes(t, d.tree(0))
			link := filepath.Join(d.tree(1), linked)
			if err := errors.Join(os.RemoveAll(link), os.Symlink(to, link), os.Symlink("0", d.tree(1)+".new")); err != nil {
				t.Fatal(err)
			}
			err := d.fill(t.Context(), 1, two)
			if !maps.Equal(was, inodes(t, d.tree(0))) {
				t.Fatalf("another tree changed, and the fill ended with %v", err)
			}
			if err != nil {
				err = d.fill(t.Context(), 1, two)
			}
			if err := errors.Join(err, expectTree(d.tree(1), two.Manifest)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOpenDir: no way leads over a link or upwards, by one system call or many.
func TestOpenDir(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755), os.Symlink("a", filepath.Join(dir, "link")),
		os.Symlink("b", filepath.Join(dir, "a/link"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	top, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	for _, open := range []func(int, string) (int, error){openBeneath, openSteps} {
		for name, ok := range map[string]bool{
			".": true, "a": true, "a/b": true, "a/b/c": true,
			"link": false, "link/b": false, "a/link": false, "a/link/c": false, "a/none": false, "..": false, "a/../../x": false,
		} {
			fd, err := open(int(top.Fd()), name)
			if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
				skip(t, "no openat2 here")
			}
			if err == nil {
				err = unix.Close(fd)
			}
			if (err == nil) != ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// unaudited does what makes claims untrue for a moment, and has them audited
// again when it is over.
func (n *node) unaudited(f func()) {
	n.t.Helper()
	set := func(audit func(map[int]release.ID) error) {
		n.etcd.mu.Lock()
		defer n.etcd.mu.Unlock()
		n.etcd.audit = audit
	}
	set(nil)
	n.guest.damaged.Store(true)
	f()
	n.guest.damaged.Store(false)
	set(n.claimsTrue)
}

// whole waits until nothing is damaged any more and everything is claimed.
func (n *node) whole(want ...*objectstore.Stored) {
	n.t.Helper()
	n.holds(want...)
	n.until("claims", func() error { return n.claims(want...) })
}

// TestNode_damagedSource: files vanish from every tree of a running node. The
// next rollout does not fail by it, and all that the node holds is made right,
// by what is damaged alone.
func TestNode_damagedSource(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			b := firstBuild()
			r1 := n.rollOut(b)
			r2 := n.rollOut(b.with("index.html", "two"))
			n.until("settled", func() error { return expectTree(n.link("previous"), r1.Manifest) })
			front, previous := n.link("current"), n.link("previous")
			was := inodes(t, front)
			var r3 *objectstore.Stored
			n.unaudited(func() {
				for _, tree := range []string{front, previous} {
					if err := damage(filepath.Join(tree, "d0/e0/f0")); err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
				}
				r3 = n.publish(b.with("index.html", "three"))
				n.etcd.startRollout(r3.Manifest.ID())
				n.claimed()
				n.whole(r1, r2, r3)
			})
			n.serves(r2)
			if n.link("current") != front || n.link("previous") != previous {
				t.Error("a repair went elsewhere")
			}
			changed := 0
			for file, inode := range inodes(t, front) {
				if was[file] != inode {
					changed++
				}
			}
			if most := len(r2.Manifest.Files); changed > most || name == "vanished" && changed != 1 {
				t.Errorf("%d of %d files changed", changed, most)
			}
			n.etcd.flip(t)
			n.serves(r3)
			n.etcd.rollback(t)
			n.serves(r2)
		})
	}
}

// TestNode_patrol: what vanishes and nobody asks for is found and repaired too,
// once there is nothing else to do.
func TestNode_patrol(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.idle = time.Nanosecond
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	n.until("settled", func() error { return expectTree(n.link("previous"), r1.Manifest) })
	n.unaudited(func() {
		if err := os.Remove(filepath.Join(n.link("previous"), "d0/e0/f0")); err != nil {
			t.Fatal(err)
		}
		n.until("repaired", func() error {
			n.agent.sites[0].poke()
			return expectTree(n.link("previous"), r1.Manifest)
		})
		n.whole(r1, r2)
	})
}

// TestNode_damagedFront: while the store cannot repair what is shown, it is
// shown on but for what is damaged; it is not claimed, and the node is not
// ready. A rollback to a damaged release waits for its repair.
func TestNode_damagedFront(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	faulty := &faultyStore{Store: n.shelf.store}
	n.store = faulty
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	n.until("settled", func() error { return expectTree(n.link("previous"), r1.Manifest) })
	n.unaudited(func() {
		faulty.set(func(_ context.Context, key string) error {
			return fmt.Errorf("get %s: %w", key, objectstore.ErrUnavailable)
		}, false)
		for _, tree := range []string{"current", "previous"} {
			// The same size, time and mode: only its bytes tell.
			name := filepath.Join(n.link(tree), "d0/e0/f0")
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := replace(name, strings.Repeat("x", len(raw))); err != nil {
				t.Fatal(err)
			}
		}
		s := n.agent.sites[0]
		s.suspect(filepath.Base(n.link("current")), errNotAsVerified)
		n.until("gives up its claims", func() error {
			if ok, _ := n.agent.Ready(); ok || n.claims(r1) == nil || n.claims(r2) == nil {
				return fmt.Errorf("ready %v, or still claimed", ok)
			}
			if st := n.status(); st.State != cluster.NodeSyncing || st.Error == nil || st.Error.Class != ClassS3Unreachable {
				return fmt.Errorf("%+v, error %+v", st, st.Error)
			}
			return n.asks(r2)
		})
		faulty.set(nil, false)
		n.whole(r1, r2)
		n.serves(r2)
	})
	n.etcd.rollback(t)
	n.serves(r1)
}

// TestNode_suspectWithoutCause: a buffer that turns out to be whole keeps its
// claim and its manifest.
func TestNode_suspectWithoutCause(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	was := inodes(t, filepath.Join(n.siteDir(), "buffers"))
	n.etcd.mu.Lock()
	txns := len(n.etcd.txns)
	n.etcd.mu.Unlock()
	s := n.agent.sites[0]
	s.suspect(filepath.Base(n.link("current")), errNotAsVerified)
	n.until("is examined", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.disk.bufs[0].open.suspect.Load() {
			return errors.New("still suspect")
		}
		return nil
	})
	n.serves(r1)
	n.halt()
	if len(n.etcd.txns) != txns || !maps.Equal(was, inodes(t, filepath.Join(n.siteDir(), "buffers"))) {
		t.Errorf("transactions %v", n.etcd.txns[txns:])
	}
}

// TestSite_repairNotDurable: a repair of what is served, of which the disk says
// that it may be lost, is taken back, and nothing else is.
func TestSite_repairNotDurable(t *testing.T) {
	b := firstBuild()
	s, r := bareSite(t, b)
	v := activeIs(r[0], 1)
	s.see(v)
	s.stored = s.applied
	front := s.disk.bufs[0]
	tree := filepath.Join(s.disk.dir, "buffers", front.name)
	was := inodes(t, tree)
	if err := os.Remove(filepath.Join(tree, "d0/e0/f0")); err != nil {
		t.Fatal(err)
	}
	s.suspect(front.name, errNotAsVerified)
	if err := s.examine(t.Context(), v); err != nil || s.holds(r[0].Manifest.ID()) {
		t.Fatalf("%v, held %v", err, s.holds(r[0].Manifest.ID()))
	}
	s.cfg.sync = func(*os.File) error { return &os.PathError{Op: "syncfs", Path: "disk", Err: syscall.EIO} }
	again := Move{Do: Fetch, Release: r[0].Manifest.ID()}
	if err := s.fetch(t.Context(), v, again); classOf(err) != ClassDisk || s.holds(r[0].Manifest.ID()) {
		t.Fatalf("%v, held %v", err, s.holds(r[0].Manifest.ID()))
	}
	delete(was, filepath.Join(tree, "d0/e0/f0"))
	if now := inodes(t, tree); !maps.Equal(was, now) {
		t.Errorf("left behind: %d files, want %d", len(now), len(was))
	}
	s.cfg.sync = syncAll
	if err := s.fetch(t.Context(), v, again); err != nil || !s.holds(r[0].Manifest.ID()) {
		t.Fatalf("%v, held %v", err, s.holds(r[0].Manifest.ID()))
	}
	if err := expectTree(tree, r[0].Manifest); err != nil {
		t.Error(err)
	}
}

// TestSite_admitScarce: that a starting process can open no more files says
// nothing about what the disk holds. It is looked at again.
func TestSite_admitScarce(t *testing.T) {
	s, r := bareSite(t, firstBuild())
	b := s.disk.bufs[0]
	err := &os.PathError{Op: "open", Path: b.manifestFile(), Err: syscall.EMFILE}
	if err := s.admit(t.Context(), held{b, nil, err}); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("admitted: %v", err)
	}
	if m, err := s.disk.read(b); err != nil || m == nil || m.ID() != r[0].Manifest.ID() {
		t.Errorf("its manifest: %v, %v", m, err)
	}
}
