package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"relman/objectstore"
	"relman/release"
)

// drawing is a disk without an agent, for filling buffers one by one.
type drawing struct {
	*disk
	shelf *shelf
	count map[how]int
	point func(string) error

	through   objectstore.Store // nil: the shelf's own
	syncError error
	mu        sync.Mutex // guards what follows while a fill runs
	suspects  map[string]bool
	useless   int // deltas
}

func newDrawing(t testing.TB) *drawing {
	t.Helper()
	d := &drawing{shelf: newShelf()}
	d.open(t, t.TempDir())
	return d
}

func (d *drawing) open(t testing.TB, dir string) {
	t.Helper()
	var err error
	if d.disk, err = openDisk(dir, www, 3); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close() }) // a test may have closed it
	d.point = func(string) error { return nil }
}

// reopen is a new process on the same disk.
func (d *drawing) reopen(t testing.TB) {
	t.Helper()
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	d.open(t, filepath.Dir(filepath.Dir(d.dir)))
	for _, b := range d.bufs {
		var err error
		if b.manifest, err = d.read(b); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *drawing) fill(ctx context.Context, k int, want *objectstore.Stored) error {
	b := d.bufs[k]
	d.count, d.suspects = map[how]int{}, map[string]bool{}
	store := objectstore.Store(d.shelf.store)
	if d.through != nil {
		store = d.through
	}
	f := &fill{
		disk: d.disk, buf: b, want: want, store: store, workers: 3, log: slog.New(slog.DiscardHandler),
		point:  func(name string) error { return d.point(name) },
		sync:   func(top *os.File) error { return errors.Join(d.syncError, syncAll(top)) },
		giveUp: func() error { b.manifest = nil; return nil },
		suspect: func(buffer string, _ error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.suspects[buffer] = true
		},
		count:   func(h how, n int) { d.count[h] += n },
		fetched: func(int64) {},
		failed:  func(release.File, error) { d.mu.Lock(); defer d.mu.Unlock(); d.useless++ },
	}
	for _, o := range d.bufs {
		if o != b && o.manifest != nil {
			f.others = append(f.others, tree{name: o.name, files: o.manifest.Files})
		}
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	b.manifest = want.Manifest
	return nil
}

func (d *drawing) tree(k int) string { return filepath.Join(d.dir, "buffers", d.bufs[k].name) }

// inodes is what a fill must not change of another tree.
func inodes(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		st := info.Sys().(*syscall.Stat_t)
		found[name] = fmt.Sprint(st.Ino, info.Mode(), info.ModTime().UnixNano(), release.Sum(raw))
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// mutate makes the next build out of one, in the ways that builds change.
func mutate(r *rand.Rand, b build, seen []build) build {
	b = maps.Clone(b)
	names := slices.Sorted(maps.Keys(b))
	for range 1 + r.IntN(4) {
		name := names[r.IntN(len(names))]
		p, ok := b[name]
		if !ok {
			continue
		}
		switch r.IntN(9) {
		case 0: // another content
			b[name] = page{content: fmt.Sprint("content ", r.IntN(1e6)), exec: p.exec}
		case 1: // as long as before
			c := []byte(p.content + "x")
			c[r.IntN(len(c))] ^= 1
			b[name] = page{content: string(c[:len(p.content)]), exec: p.exec}
		case 2:
			p.exec = !p.exec
			b[name] = p
		case 3:
			b[name] = page{exec: p.exec} // empty
		case 4: // moved
			delete(b, name)
			b[fmt.Sprintf("moved/%d/%s", r.IntN(3), filepath.Base(name))] = p
		case 5: // a file becomes a directory
			delete(b, name)
			b[name+"/inside"] = p
		case 6: // a directory becomes a file
			dir := strings.SplitN(name, "/", 2)[0]
			for other := range b {
				if strings.HasPrefix(other, dir+"/") {
					delete(b, other)
				}
			}
			b[dir] = page{content: p.content}
		case 7: // the same content twice
			b[fmt.Sprintf("copy-%d", r.IntN(5))] = p
		case 8: // back to an older build
			return maps.Clone(seen[r.IntN(len(seen))])
		}
	}
	b["always"] = page{content: "here"}
	// Moves may have put a file where a directory is.
	for name := range b {
		for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
			delete(b, d)
		}
	}
	return b
}

func firstBuild() build {
	b := build{"always": {content: "here"}, "index.html": {content: "<h1>one</h1>"}, "empty": {}, "run.sh": {content: "#!/bin/sh", exec: true}}
	for i := range 12 {
		b[fmt.Sprintf("d%d/e%d/f%d", i%3, i%2, i)] = page{content: strings.Repeat(fmt.Sprint(i), 1+i*7)}
	}
	return b
}

// TestFill_sequences redraws buffers through random histories, with attempts
// that are cut off at random and new processes in between: each fill ends in
// exactly the release, and touches no other buffer.
func TestFill_sequences(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			d := newDrawing(t)
			b := firstBuild()
			seen := []build{b}
			var releases []*objectstore.Stored
			for step := range 18 {
				if step > 0 {
					b = mutate(r, b, seen)
					seen = append(seen, b)
				}
				releases = append(releases, d.shelf.publish(t, b))
				want := releases[max(0, len(releases)-1-r.IntN(4))]
				d.cutOff(t, r, step%3, releases[r.IntN(len(releases))])
				before := []map[string]string{inodes(t, d.tree((step+1)%3)), inodes(t, d.tree((step+2)%3))}
				if err := d.fill(t.Context(), step%3, want); err != nil {
					t.Fatal(err)
				}
				if err := expectTree(d.tree(step%3), want.Manifest); err != nil {
					t.Fatalf("step %d, release %s: %v", step, want.Manifest.ID(), err)
				}
				for i, was := range before {
					if !maps.Equal(was, inodes(t, d.tree((step+1+i)%3))) {
						t.Fatalf("step %d: another buffer changed", step)
					}
				}
			}
			if left, err := filepath.Glob(filepath.Join(d.dir, "buffers", "*.new")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// cutOff starts a fill that fails somewhere, and mostly a new process.
func (d *drawing) cutOff(t *testing.T, r *rand.Rand, k int, want *objectstore.Stored) {
	t.Helper()
	left := r.IntN(40)
	if r.IntN(2) == 0 {
		return
	}
	stop := errors.New("cut off")
	d.point = func(name string) error {
		if left--; left < 0 {
			return stop
		}
		return nil
	}
	if err := d.fill(t.Context(), k, want); err != nil && !errors.Is(err, stop) {
		t.Fatal(err)
	}
	d.point = func(string) error { return nil }
	if r.IntN(3) > 0 {
		d.reopen(t)
	}
}

// TestFill_work: a fill costs what changed. It fetches nothing that the disk
// has, and leaves the inodes alone that are right.
func TestFill_work(t *testing.T) {
	d := newDrawing(t)
	b := firstBuild()
	r1 := d.shelf.publish(t, b)
	r2 := d.shelf.publish(t, b.with("index.html", "<h1>two</h1>").with("new/page", "new"))
	r3 := d.shelf.publish(t, b.with("index.html", "<h1>three</h1>").with("moved/page", "new"))
	for _, c := range []struct {
		buffer int
		want   *objectstore.Stored
		count  map[how]int
	}{
		{0, r1, map[how]int{byKeep: 0, byFetch: len(b)}},
		{1, r2, map[how]int{byKeep: 0, byLink: len(b) - 1, byFetch: 2}},
		{0, r3, map[how]int{byKeep: len(b) - 1, byCopy: 1, byFetch: 1}},
		{2, r2, map[how]int{byKeep: 0, byLink: len(b) + 1}},
		{2, r2, map[how]int{byKeep: len(b) + 1}},
	} {
		if err := d.fill(t.Context(), c.buffer, c.want); err != nil {
			t.Fatal(err)
		}
		if err := expectTree(d.tree(c.buffer), c.want.Manifest); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(d.count, c.count) {
			t.Errorf("release %s into %d: %v, want %v", c.want.Manifest.ID(), c.buffer, d.count, c.count)
		}
	}
}

// directoryModes is what the directories below one have.
func directoryModes(t *testing.T, dir string) map[fs.FileMode]int {
	t.Helper()
	n := map[fs.FileMode]int{}
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n[info.Mode().Perm()]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFill_directoryModes: another web server can read the trees, whatever the
// agent's umask, and when a directory has been closed to it, it is opened again.
func TestFill_directoryModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	d := newDrawing(t)
	b := build{"p/q/a": {content: "one"}, "x": {content: "x"}}
	r := d.shelf.publish(t, b)
	if err := d.fill(t.Context(), 0, r); err != nil {
		t.Fatal(err)
	}
	want := map[fs.FileMode]int{0o755: 5} // the site's, its buffers, the tree, p and q
	if got := directoryModes(t, d.dir); !maps.Equal(got, want) {
		t.Errorf("modes %o, want %o", got, want)
	}
	for path := range b { // what the umask was is read once in a process
		if err := os.Chmod(filepath.Join(d.tree(0), path), modePlain); err != nil {
			t.Fatal(err)
		}
	}
	closed := func() {
		for _, dir := range []string{"p/q", "p", "."} {
			if err := os.Chmod(filepath.Join(d.tree(0), dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	closed()
	found, _, err := d.differences(t.Context(), "0", r.Manifest, map[inode]release.Digest{}, &VerifyProgress{})
	if err != nil || len(found) != 3 || found[0].Path != "." || found[2].Path != "p/q" {
		t.Errorf("a verification finds %v %v", found, err)
	}
	if err := d.check(t.Context(), "0", r.Manifest, 0); err != nil {
		t.Error(err)
	}
	if got := directoryModes(t, d.dir); !maps.Equal(got, want) {
		t.Errorf("after a check: modes %o, want %o", got, want)
	}
	closed()
	d.bufs[0].manifest = nil
	if err := d.fill(t.Context(), 0, r); err != nil {
		t.Fatal(err)
	}
	if got := directoryModes(t, d.dir); !maps.Equal(got, want) {
		t.Errorf("after a fill: modes %o, want %o", got, want)
	}
}

// TestFill_twice: one content of two modes is fetched once, into an empty buffer
// and into one that holds a release.
func TestFill_twice(t *testing.T) {
	d := newDrawing(t)
	old := d.shelf.publish(t, build{"z": {content: "z"}})
	want := d.shelf.publish(t, build{"a": {content: "same"}, "b": {content: "same", exec: true}, "c/d": {content: "c"}})
	if err := d.fill(t.Context(), 1, old); err != nil {
		t.Fatal(err)
	}
	for k := range 2 {
		held := d.bufs[1-k].manifest
		d.bufs[1-k].manifest = nil // not to be copied from
		if err := d.fill(t.Context(), k, want); err != nil {
			t.Fatal(err)
		}
		d.bufs[1-k].manifest = held
		if err := expectTree(d.tree(k), want.Manifest); err != nil {
			t.Error(err)
		}
		if d.count[byFetch] != 2 || d.count[byCopy] != 1 || len(d.suspects) != 0 {
			t.Errorf("buffer %d: %v, suspect %v", k, d.count, d.suspects)
		}
	}
}

// TestFill_spoiledSource: bytes that are copied on this disk are verified like
// those from the store, and fetched when they have changed.
func TestFill_spoiledSource(t *testing.T) {
	d := newDrawing(t)
	r1 := d.shelf.publish(t, build{"a": {content: "good bytes"}})
	r2 := d.shelf.publish(t, build{"b": {content: "good bytes"}, "c": {content: "good bytes", exec: true}})
	if err := d.fill(t.Context(), 0, r1); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(d.tree(0), "a")
	if err := errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, []byte("rotten!!!!"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := d.fill(t.Context(), 1, r2); err != nil {
		t.Fatal(err)
	}
	if err := expectTree(d.tree(1), r2.Manifest); err != nil {
		t.Fatal(err)
	}
	if d.count[byFetch] != 2 {
		t.Errorf("%v", d.count)
	}
}

// TestFill_strays: whatever somebody has left in an unverified buffer is gone
// afterwards, and a link there leads nowhere.
func TestFill_strays(t *testing.T) {
	d := newDrawing(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := d.tree(0)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(tree, "x/empty/deep"), 0o755),
		os.MkdirAll(filepath.Join(tree, "index.html/dir"), 0o755),
		os.MkdirAll(filepath.Join(d.dir, "buffers/0.new/odd"), 0o755),
		os.WriteFile(filepath.Join(tree, "x/extra"), []byte("extra"), 0o600),
		os.WriteFile(filepath.Join(d.dir, "buffers/0.new/odd/file"), []byte("extra"), 0o600),
		os.Symlink(outside, filepath.Join(tree, "d")),
		os.Symlink("..", filepath.Join(tree, "up")),
		syscall.Mkfifo(filepath.Join(tree, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := d.shelf.publish(t, build{"index.html": {content: "hello"}, "d/page": {content: "page"}, "up/page": {content: "page"}})
	if err := d.fill(t.Context(), 0, want); err != nil {
		t.Fatal(err)
	}
	if err := expectTree(tree, want.Manifest); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(outside); err != nil || string(raw) != "mine" {
		t.Errorf("%q %v", raw, err)
	}
}

// TestFill_resume: what an attempt has fetched before it was killed is not
// fetched again, and is looked at first.
func TestFill_resume(t *testing.T) {
	d := newDrawing(t)
	b := build{}
	for i := range 20 {
		b[fmt.Sprintf("f%d", i)] = page{content: strings.Repeat(fmt.Sprint("file ", i), 10)}
	}
	want := d.shelf.publish(t, b)
	stop := errors.New("killed")
	n := 0
	d.point = func(name string) error {
		if n++; name == "node.mid-place" && n > 8 {
			return stop
		}
		return nil
	}
	if err := d.fill(t.Context(), 0, want); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	d.reopen(t)
	var spoiled string
	err := filepath.WalkDir(filepath.Join(d.dir, "buffers"), func(name string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && spoiled == "" {
			spoiled = name
			err = errors.Join(os.Remove(name), os.WriteFile(name, []byte("torn"), 0o444))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.fill(t.Context(), 0, want); err != nil {
		t.Fatal(err)
	}
	if err := expectTree(d.tree(0), want.Manifest); err != nil {
		t.Fatal(err)
	}
	if d.count[byFetch] != 1 || d.count[byKeep] != 19 {
		t.Errorf("%v, spoiled %s", d.count, spoiled)
	}
}

// TestFill_notDurable: when the disk says that it may have lost a write, the
// bytes in memory prove nothing. The tree is gone, what it shares with others
// is not, and all of it is drawn anew.
func TestFill_notDurable(t *testing.T) {
	for _, restart := range []bool{false, true} {
		d := newDrawing(t)
		b := firstBuild()
		r1, r2 := d.shelf.publish(t, b), d.shelf.publish(t, b.with("index.html", "two"))
		if err := d.fill(t.Context(), 0, r1); err != nil {
			t.Fatal(err)
		}
		d.syncError = &os.PathError{Op: "syncfs", Path: "disk", Err: syscall.EIO}
		if err := d.fill(t.Context(), 1, r2); classOf(err) != ClassDisk {
			t.Fatalf("%v", err)
		}
		d.syncError = nil
		if found, err := heldIn(d.dir); err != nil || len(found) != 1 {
			t.Errorf("held: %v %v", found, err)
		}
		if restart {
			d.reopen(t)
		}
		if err := d.fill(t.Context(), 1, r2); err != nil {
			t.Fatal(err)
		}
		if d.count[byFetch] != 1 || d.count[byKeep] != 0 {
			t.Errorf("restart %v: %v", restart, d.count)
		}
		if err := expectTree(d.tree(1), r2.Manifest); err != nil {
			t.Error(err)
		}
	}
}
