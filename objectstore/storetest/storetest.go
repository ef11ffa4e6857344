// Package storetest is the contract of objectstore.Store as a test: every
// implementation passes it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sort"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"relman/objectstore"
)

// Run tests a kind of store. open returns an empty store, new for each call.
func Run(t *testing.T, open func(t *testing.T) objectstore.Store) {
	for name, test := range map[string]func(*testing.T, objectstore.Store){
		"round trip":      roundTrip,
		"too small":       tooSmall,
		"ranges":          ranges,
		"missing":         missing,
		"create only":     createOnly,
		"create race":     createRace,
		"replace":         replace,
		"list":            list,
		"delete":          remove,
		"concurrent":      concurrent,
		"cancelled calls": cancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b) // never fails
	return b
}

func put(t *testing.T, s objectstore.Store, key string, body []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, body, true); err != nil {
		t.Fatal(err)
	}
}

func get(ctx context.Context, s objectstore.Store, key string, offset, length int64) ([]byte, error) {
	r, err := s.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func roundTrip(t *testing.T, s objectstore.Store) {
	for _, size := range []int{1, 1 << 10, 6 << 20, 20 << 20} {
		key := fmt.Sprintf("packs/ab/%d.pack", size)
		body := random(uint64(size), size)
		put(t, s, key, body)
		got, err := get(t.Context(), s, key, 0, -1)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes: got %d back, %v", size, len(got), err)
		}
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Size != int64(size) || info.Key != key || info.Modified.IsZero() {
			t.Errorf("%d bytes: %+v, %v", size, info, err)
		}
	}
}

func tooSmall(t *testing.T, s objectstore.Store) {
	if err := s.Put(t.Context(), "packs/ab/empty.pack", nil, true); err == nil {
		t.Error("an empty object was taken")
	}
	if _, err := s.Stat(t.Context(), "packs/ab/empty.pack"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Error(err)
	}
}

func ranges(t *testing.T, s objectstore.Store) {
	body := random(1, 10_000)
	put(t, s, "packs/ab/x.pack", body)
	for _, r := range []struct{ offset, length, want int64 }{
		{0, 1, 1}, {0, 10_000, 10_000}, {5_000, 10, 10}, {9_999, 1, 1}, {9_000, -1, 1_000}, {0, 0, 0},
	} {
		got, err := get(t.Context(), s, "packs/ab/x.pack", r.offset, r.length)
		if err != nil || !bytes.Equal(got, body[r.offset:r.offset+r.want]) {
			t.Errorf("%d bytes from %d: got %d, %v", r.length, r.offset, len(got), err)
		}
	}
	for _, r := range [][2]int64{{9_000, 2_000}, {10_000, 1}, {20_000, 5}} {
		if got, err := get(t.Context(), s, "packs/ab/x.pack", r[0], r[1]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes from %d: got %d, %v; want ErrUnexpectedEOF", r[1], r[0], len(got), err)
		}
	}
}

func missing(t *testing.T, s objectstore.Store) {
	for _, length := range []int64{-1, 0, 10} {
		if _, err := get(t.Context(), s, "packs/no/such.pack", 0, length); !errors.Is(err, objectstore.ErrNotFound) {
			t.Errorf("get %d bytes: %v", length, err)
		}
	}
	if _, err := s.Stat(t.Context(), "packs/no/such.pack"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("stat: %v", err)
	}
}

func createOnly(t *testing.T, s objectstore.Store) {
	const key = "sites/www/releases/000001-3f9ac1d2e4b5/manifest.zst"
	put(t, s, key, []byte("first"))
	if err := s.Put(t.Context(), key, []byte("first"), true); !errors.Is(err, objectstore.ErrExists) {
		t.Errorf("second put: %v", err)
	}
	if got, err := get(t.Context(), s, key, 0, -1); string(got) != "first" || err != nil {
		t.Errorf("it holds %q, %v", got, err)
	}
}

func createRace(t *testing.T, s objectstore.Store) {
	const racers = 16
	var won, lost atomic.Int32
	var g errgroup.Group
	for range racers {
		g.Go(func() error {
			switch err := s.Put(t.Context(), "packs/ab/race.pack", []byte("same"), true); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, objectstore.ErrExists):
				lost.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if won.Load() != 1 || lost.Load() != racers-1 {
		t.Errorf("%d won and %d lost", won.Load(), lost.Load())
	}
}

func replace(t *testing.T, s objectstore.Store) {
	const key = "sites/www/releases/000001-3f9ac1d2e4b5/layout.zst"
	for _, body := range []string{"one", "two, longer"} {
		if err := s.Put(t.Context(), key, []byte(body), false); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t.Context(), s, key, 0, -1); string(got) != body || err != nil {
			t.Errorf("it holds %q, %v", got, err)
		}
	}
}

func list(t *testing.T, s objectstore.Store) {
	const n = 1_100 // more than one page
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			return s.Put(t.Context(), fmt.Sprintf("packs/%02x/%04d.pack", i%7, i), []byte("x"), false)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "sites/www/releases/000001-3f9ac1d2e4b5/manifest.zst", []byte("x"))
	var keys []string
	if err := s.List(t.Context(), "packs/", func(i objectstore.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	sort.Strings(keys)
	if len(keys) != n || keys[0] != "packs/00/0000.pack" {
		t.Errorf("%d keys, the first %q", len(keys), keys[:1])
	}
	stop := errors.New("enough")
	calls := 0
	if err := s.List(t.Context(), "packs/", func(objectstore.Info) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := s.List(t.Context(), "nothing/", func(i objectstore.Info) error { return fmt.Errorf("lists %s", i.Key) }); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, s objectstore.Store) {
	put(t, s, "packs/ab/gone.pack", []byte("x"))
	for range 2 {
		if err := s.Delete(t.Context(), "packs/ab/gone.pack"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Stat(t.Context(), "packs/ab/gone.pack"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Error(err)
	}
	put(t, s, "packs/ab/gone.pack", []byte("x"))
}

func concurrent(t *testing.T, s objectstore.Store) {
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			key, body := fmt.Sprintf("packs/cc/%d.pack", i), random(uint64(i), 100_000)
			if err := s.Put(t.Context(), key, body, true); err != nil {
				return err
			}
			got, err := get(t.Context(), s, key, 10, 50_000)
			if err != nil || !bytes.Equal(got, body[10:50_010]) {
				return fmt.Errorf("%s: got %d bytes, %w", key, len(got), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func cancelled(t *testing.T, s objectstore.Store) {
	put(t, s, "packs/ab/x.pack", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "packs/ab/y.pack", []byte("y"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if _, err := get(ctx, s, "packs/ab/x.pack", 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Stat(ctx, "packs/ab/x.pack"); !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
}
