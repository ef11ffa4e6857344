package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// skip is for what this machine cannot do; where nothing may be skipped it is
// a failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("RELMAN_NO_SKIP") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// faultyStore is a store in front of another, with faults that come and go.
type faultyStore struct {
	objectstore.Store
	mu    sync.Mutex
	fault func(ctx context.Context, key string) error
	wrong bool // packs have other bytes
}

func (s *faultyStore) set(f func(ctx context.Context, key string) error, wrong bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.wrong = f, wrong
}

func (s *faultyStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	fault, wrong := s.fault, s.wrong
	s.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, key); err != nil {
			return nil, err
		}
	}
	r, err := s.Store.Get(ctx, key, offset, length)
	if err != nil || !wrong || !strings.HasPrefix(key, "packs/") {
		return r, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	for i := 0; i < len(b); i += 7 {
		b[i] ^= 0x55
	}
	return io.NopCloser(strings.NewReader(string(b))), err
}

// TestNode_storeErrors: what is wrong with the store is in the status by its
// class and name, the node serves on, and goes on by itself when it is right
// again.
func TestNode_storeErrors(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	faulty := &faultyStore{Store: n.shelf.store}
	n.store = faulty
	n.start()
	b := firstBuild()
	last := n.rollOut(b)
	always := func(err error) func(context.Context, string) error {
		return func(_ context.Context, key string) error {
			if !strings.HasPrefix(key, "packs/") {
				return nil
			}
			return fmt.Errorf("get %s: %w", key, err)
		}
	}
	for i, c := range []struct {
		fault func(context.Context, string) error
		wrong bool
		class cluster.Class
	}{
		{always(objectstore.ErrNotFound), false, ClassObjectMissing},
		{always(objectstore.ErrDenied), false, ClassS3Denied},
		{always(objectstore.ErrUnavailable), false, ClassS3Unreachable},
		{nil, true, ClassHash},
		{func(context.Context, string) error { return objectstore.ErrUnavailable }, false, ClassS3Unreachable},
	} {
		faulty.set(c.fault, c.wrong)
		r := n.publish(b.with("index.html", fmt.Sprint("release ", i)))
		n.etcd.startRollout(r.Manifest.ID())
		n.until("says what is wrong", func() error {
			st := n.status()
			if st.Error == nil || st.Error.Class != c.class || st.State != cluster.NodePreparing || st.Release != last.Manifest.ID() {
				return fmt.Errorf("%+v, error %+v, want %s", st, st.Error, c.class)
			}
			if i < 4 && !strings.Contains(st.Error.Text, "packs/") {
				return fmt.Errorf("the object is not named: %s", st.Error.Text)
			}
			if i < 4 && strings.Count(st.Error.Text, string(r.Manifest.ID())) != 1 {
				return fmt.Errorf("the release is not named once: %s", st.Error.Text)
			}
			return nil
		})
		if ok, why := n.agent.Ready(); !ok {
			t.Errorf("not ready: %s", why)
		}
		n.answers(last, "")
		faulty.set(nil, false)
		n.claimed()
		n.etcd.flip(t)
		n.serves(r)
		if st := n.status(); st.Error != nil {
			t.Errorf("the error stays: %+v", st.Error)
		}
		last = r
	}
}

// TestNode_superseded: a newer rollout ends the fill of the one before, and
// begins only when all of that has ended (N3).
func TestNode_superseded(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	faulty := &faultyStore{Store: n.shelf.store}
	n.store = faulty
	n.start()
	b := firstBuild()
	n.rollOut(b)
	stuck, goOn := make(chan string, 100), make(chan struct{})
	faulty.set(func(_ context.Context, key string) error {
		if strings.HasPrefix(key, "packs/") {
			stuck <- key
			<-goOn // like a writer that does not hear
		}
		return nil
	}, false)
	r2 := n.publish(b.with("index.html", "never shown"))
	n.etcd.startRollout(r2.Manifest.ID())
	<-stuck
	faulty.set(nil, false)
	r3 := n.publish(b.with("index.html", "shown"))
	n.etcd.startRollout(r3.Manifest.ID())
	n.etcd.mu.Lock()
	claims := fmt.Sprint(n.etcd.claims)
	n.etcd.mu.Unlock()
	time.Sleep(50 * time.Millisecond)
	n.etcd.mu.Lock()
	if now := fmt.Sprint(n.etcd.claims); now != claims {
		t.Errorf("claims %s became %s while a fill had not ended", claims, now)
	}
	n.etcd.mu.Unlock()
	close(goOn)
	n.claimed()
	n.etcd.flip(t)
	n.serves(r3)
}

// TestNode_aborted: after an abort the release is not claimed, and the
// next rollout starts over.
func TestNode_aborted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	faulty := &faultyStore{Store: n.shelf.store}
	n.store = faulty
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	faulty.set(func(ctx context.Context, key string) error {
		if strings.HasPrefix(key, "packs/") {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}, false)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.startRollout(r2.Manifest.ID())
	n.until("prepares", func() error {
		if st := n.status(); st.State != cluster.NodePreparing {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	n.etcd.abort()
	n.serves(r1)
	faulty.set(nil, false)
	n.etcd.startRollout(r2.Manifest.ID())
	n.claimed()
	n.etcd.flip(t)
	n.serves(r2)
}

// TestNode_tampered: files that somebody changed while the agent was down are
// found at the start; what claims them is lowered, and they are made right
// again without touching anything else.
func TestNode_tampered(t *testing.T) {
	for name, change := range map[string]func(name string) error{
		"another size": func(name string) error { return os.WriteFile(name, []byte("hacked"), 0o644) },
		"same size and time": func(name string) error {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			return errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, []byte(strings.Repeat("x", int(info.Size()))), 0o644),
				os.Chmod(name, 0o444), os.Chtimes(name, info.ModTime(), info.ModTime()))
		},
		"another size at the same time": func(name string) error {
			name = filepath.Join(filepath.Dir(name), "d0/e1/f3") // no page that is always read
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			return errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, []byte("hacked"), 0o644),
				os.Chmod(name, 0o444), os.Chtimes(name, info.ModTime(), info.ModTime()))
		},
		"removed":          os.Remove,
		"a link elsewhere": func(name string) error { return errors.Join(os.Remove(name), os.Symlink("/etc/passwd", name)) },
		"an extra file":    func(name string) error { return os.WriteFile(name+".extra", nil, 0o444) },
		"writable":         func(name string) error { return os.Chmod(name, 0o644) },
		"no tree at all":   func(name string) error { return os.RemoveAll(filepath.Dir(name)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			b := firstBuild()
			r1 := n.rollOut(b)
			r2 := n.rollOut(b.with("index.html", "two"))
			n.halt()
			if err := change(filepath.Join(n.link("current"), "index.html")); err != nil {
				t.Fatal(err)
			}
			n.start()
			n.serves(r2)
			n.holds(r1, r2)
			n.etcd.mu.Lock()
			lowered := strings.Contains(strings.Join(n.etcd.txns, " "), "lower")
			n.etcd.mu.Unlock()
			if !lowered {
				t.Error("the claim stood")
			}
			n.until("can roll back", func() error {
				n.etcd.mu.Lock()
				defer n.etcd.mu.Unlock()
				if p := n.etcd.view.Active.Value.Previous; n.etcd.claims[p.Buffer] != p.Release {
					return fmt.Errorf("claims %v", n.etcd.claims)
				}
				return nil
			})
			n.etcd.rollback(t)
			n.serves(r1)
		})
	}
}

// TestNode_lostDisk: all of the disk is gone; no claim outlives it.
func TestNode_lostDisk(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	n.halt()
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.serves(r2)
	n.holds(r1, r2)
}

// TestNode_diskFull: a release that does not fit is refused before it is
// written, by name; what is served stays; with room it goes on by itself.
func TestNode_diskFull(t *testing.T) {
	n := newNode(t)
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", 0, "size=1m"); err != nil {
		skip(t, fmt.Sprintf("no small file system: %v", err))
	}
	t.Cleanup(func() {
		n.halt()
		n.etcd.audit = nil
		if err := syscall.Unmount(n.dir, 0); err != nil {
			t.Error(err)
		}
	})
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	big := b
	for i := range 40 {
		noise := make([]byte, 100_000)
		for j := range noise {
			noise[j] = byte(rand.N(256))
		}
		big = big.with(fmt.Sprint("big", i), string(noise))
	}
	r2 := n.publish(big)
	n.etcd.startRollout(r2.Manifest.ID())
	n.until("says that the disk is full", func() error {
		st := n.status()
		if st.Error == nil || st.Error.Class != ClassNoSpace || !strings.HasPrefix(st.Error.Text, "disk full, needs 3.9 MiB, has ") {
			return fmt.Errorf("%+v", st.Error)
		}
		return nil
	})
	n.answers(r1, "")
	drawn, err := filepath.Glob(filepath.Join(n.siteDir(), "buffers/*.new/*"))
	if err != nil || len(drawn) > 0 {
		t.Errorf("written before it was known to fit: %v %v", drawn, err)
	}
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	n.claimed()
	n.etcd.flip(t)
	n.serves(r2)
}

// TestNode_diskReadOnly: the node serves on, and shows what it holds already.
func TestNode_diskReadOnly(t *testing.T) {
	n := newNode(t)
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", 0, "size=16m"); err != nil {
		skip(t, fmt.Sprintf("no file system of its own: %v", err))
	}
	t.Cleanup(func() {
		n.halt()
		n.etcd.audit = nil
		if err := syscall.Unmount(n.dir, 0); err != nil {
			t.Error(err)
		}
	})
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		skip(t, fmt.Sprintf("not made read-only: %v", err))
	}
	n.etcd.rollback(t)
	n.until("shows the previous release", func() error {
		st := n.status()
		if st.Release != r1.Manifest.ID() || st.Error == nil || st.Error.Class != ClassDisk {
			return fmt.Errorf("%+v, error %+v", st, st.Error)
		}
		return nil
	})
	n.answers(r1, "")
	n.halt()
	n.start() // remembers the release before, and says that it is not sure
	n.until("serves", func() error { return n.asks(r1) })
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	n.serves(r1)
	n.holds(r1, r2)
}

// TestNode_manifestOfAnother: what the store has under a name must be what was
// registered.
func TestNode_wrongManifest(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	r2 := n.publish(b.with("index.html", "two"))
	n.etcd.change(func(int64) {
		n.etcd.records[r2.Manifest.ID()] = cluster.ReleaseRecord{Manifest: release.Sum([]byte("another"))}
	})
	n.etcd.startRollout(r2.Manifest.ID())
	n.until("says that it is another", func() error {
		if st := n.status(); st.Error == nil || st.Error.Class != ClassHash {
			return fmt.Errorf("%+v", st.Error)
		}
		return nil
	})
}
