package nodeagent

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"relman/objectstore"
)

// ending is a store whose packs end, all together, after some bytes.
type ending struct {
	objectstore.Store
	left atomic.Int64
	read atomic.Int64
}

var errEnded = errors.New("the wire was cut")

func (e *ending) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	body, err := e.Store.Get(ctx, key, offset, length)
	return &endingBody{body, e}, err
}

type endingBody struct {
	io.ReadCloser
	e *ending
}

func (b *endingBody) Read(p []byte) (int, error) {
	p = p[:min(len(p), 64<<10)]
	if b.e.left.Add(int64(-len(p))) < 0 {
		return 0, errEnded
	}
	n, err := b.ReadCloser.Read(p)
	b.e.read.Add(int64(n))
	return n, err
}

// TestFill_largeFile: what an attempt that was cut off has fetched of a large
// file is not fetched again, whether it ended by an error or with its process;
// where it is not right any more, the file comes out right all the same.
func TestFill_largeFile(t *testing.T) {
	const size, piece = 28 << 20, 8 << 20
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // never fails
	for name, spoil := range map[string]func(part string) error{
		"as it was": func(string) error { return nil },
		"one byte is wrong": func(part string) error {
			f, err := os.OpenFile(part, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{content[100] + 1}, 100)
			return errors.Join(err, f.Close())
		},
		"it is a pipe": func(part string) error { return errors.Join(os.Remove(part), syscall.Mkfifo(part, 0o600)) },
		"it is longer": func(part string) error { return os.Truncate(part, size+5) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrawing(t)
			want := d.shelf.publish(t, build{"big.bin": page{content: string(content)}, "a.html": page{content: "a"}})
			e := &ending{Store: d.shelf.store}
			e.left.Store(27 << 20) // more than three pieces, which are fetched at once
			d.through = e
			if err := d.fill(t.Context(), 0, want); !errors.Is(err, errEnded) {
				t.Fatal(err)
			}
			parts, err := filepath.Glob(filepath.Join(d.dir, "buffers", "0.new", "*"+begunSuffix))
			if err != nil || len(parts) != 1 {
				t.Fatalf("of the large file there is %v, %v", parts, err)
			}
			d.reopen(t)
			if err := spoil(parts[0]); err != nil {
				t.Fatal(err)
			}
			e.left.Store(1 << 40)
			e.read.Store(0)
			if err := d.fill(t.Context(), 0, want); err != nil {
				t.Fatal(err)
			}
			if err := expectTree(d.tree(0), want.Manifest); err != nil {
				t.Error(err)
			}
			if got := e.read.Load(); name == "as it was" && got > size-piece+1<<20 {
				t.Errorf("%d bytes were fetched again, of %d", got, size)
			}
			if left, err := filepath.Glob(filepath.Join(d.dir, "buffers", "0.new", "*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

// TestFill_anotherLargeFile: what was begun of a file that is not wanted any more
// is removed.
func TestFill_anotherLargeFile(t *testing.T) {
	d := newDrawing(t)
	part := filepath.Join(d.dir, "buffers", "0.new", "0000"+begunSuffix)
	if err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o755), os.WriteFile(part, make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	want := d.shelf.publish(t, build{"a.html": page{content: "a"}})
	d.point = func(name string) error {
		if _, err := os.Stat(part); name == "node.before-fetch" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("when the fetch begins: %v", err)
		}
		return nil
	}
	if err := d.fill(t.Context(), 0, want); err != nil {
		t.Fatal(err)
	}
}

// TestFill_largeFileEnded: an attempt that was cut off when a large file had its
// mode, and one that left another name for what it has begun, are in nobody's
// way: a file that only its owner could write to is gone on with, and what has
// that other name keeps its bytes.
func TestFill_largeFileEnded(t *testing.T) {
	content := make([]byte, begunFrom+5)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content) // never fails
	for name, linked := range map[string]bool{"its mode": false, "another name": true} {
		t.Run(name, func(t *testing.T) {
			d := newDrawing(t)
			want := d.shelf.publish(t, build{"big.bin": page{content: string(content)}})
			file, _ := want.Manifest.Lookup("big.bin")
			part := filepath.Join(d.dir, "buffers", begunName("0", file))
			other := filepath.Join(t.TempDir(), "other")
			err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o755), os.WriteFile(part, content[:10], 0o444))
			if linked {
				err = errors.Join(err, os.Link(part, other))
			}
			if err != nil {
				t.Fatal(err)
			}
			d.point = func(at string) error {
				if at != "node.before-fetch" {
					return nil
				}
				switch info, err := os.Stat(part); {
				case linked && !errors.Is(err, os.ErrNotExist):
					t.Errorf("it is written to: %v", err)
				case !linked && (err != nil || info.Mode() != modeBegun):
					t.Errorf("%v, %v: it cannot be written to", info, err)
				}
				return nil
			}
			if err := d.fill(t.Context(), 0, want); err != nil {
				t.Fatal(err)
			}
			if err := expectTree(d.tree(0), want.Manifest); err != nil {
				t.Error(err)
			}
			if raw, err := os.ReadFile(other); linked && (err != nil || len(raw) != 10) {
				t.Errorf("the other name has %d bytes, %v", len(raw), err)
			}
		})
	}
}
