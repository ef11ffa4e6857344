package objectstore

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestPackCache: an update is published without reading the base from the
// store; a cache that is wrong costs the deltas only, and is forgotten.
func TestPackCache(t *testing.T) {
	st, dir := &counted{Store: NewMemory()}, filepath.Join(t.TempDir(), "packs")
	cache := NewPackCache(st, dir, "")
	old, new := versions()
	first, base := publish(t, cache, nil, 1, write(t, old))
	if err := cache.Prune(first.Layout()); err != nil {
		t.Fatal(err)
	}
	st.bytes = 0
	u, s := publish(t, cache, base, 2, write(t, new))
	if u.Stats.Deltas != 52 || st.bytes != 0 {
		t.Errorf("%d deltas, %d bytes of packs were fetched for them", u.Stats.Deltas, st.bytes)
	}
	wantContents(t, st, s, new)

	if err := cache.Prune(u.Layout()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(u.Layout().packs) {
		t.Errorf("%d packs are kept of %d: %v", len(entries), len(u.Layout().packs), err)
	}
	for _, e := range entries {
		if err := os.WriteFile(filepath.Join(dir, e.Name()), []byte("not a pack"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, new2 := versions()
	for name := range new2 {
		new2[name] += "once more"
	}
	_, s = publish(t, NewPackCache(st, dir, ""), s, 3, write(t, new2))
	wantContents(t, st, s, new2)
	for _, e := range entries {
		if raw, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && string(raw) == "not a pack" {
			t.Errorf("%s is still there", e.Name())
		}
	}
}

// TestPackCache_full: what cannot be kept is stored all the same.
func TestPackCache_full(t *testing.T) {
	dir := t.TempDir()
	cache := NewPackCache(NewMemory(), dir, "")
	cache.used = mostCached
	files := map[string]string{"a.html": "<p>a</p>"}
	_, s := publish(t, cache, nil, 1, write(t, files))
	wantContents(t, cache, s, files)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%d packs are kept: %v", len(entries), err)
	}
}

// TestPackCache_unreadable: what cannot be read is as if it were not there.
func TestPackCache_unreadable(t *testing.T) {
	st, dir := NewMemory(), t.TempDir()
	cache := NewPackCache(st, dir, "")
	_, base := publish(t, cache, nil, 1, write(t, map[string]string{"a.html": page(1, "one")}))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d objects are kept: %v", len(entries), err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if base, err = Load(t.Context(), cache, "www", base.Manifest.ID(), base.Manifest.Digest()); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"a.html": page(1, "two")}
	_, s := publish(t, cache, base, 2, write(t, files))
	wantContents(t, st, s, files)
}

// TestPackCache_onlyHere: a large file is not stored as deltas alone when the
// version that they need is in the cache and no longer in the store.
func TestPackCache_onlyHere(t *testing.T) {
	old := noise(200, maxFrame+maxFrame/4)
	for _, lost := range []bool{false, true} {
		st := NewMemory()
		cache := NewPackCache(st, t.TempDir(), "")
		_, base := publish(t, cache, nil, 1, write(t, map[string]string{"big.bin": old}))
		if lost {
			for _, p := range base.Layout.packs {
				if err := st.Delete(t.Context(), packKey(p.Digest)); err != nil {
					t.Fatal(err)
				}
			}
		}
		files := map[string]string{"big.bin": "x" + old}
		u, s := publish(t, cache, base, 2, write(t, files))
		wantContents(t, st, s, files)
		if got := s.Layout.derived(s.Manifest.Files[0].Digest); got == lost {
			t.Errorf("the base's pack is lost: %v; stored as deltas alone: %v; %+v", lost, got, u.Stats)
		}
	}
}

// TestSection: an error of the disk is one of the bytes, which are then read
// from the store.
func TestSection(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &section{io.NewSectionReader(f, 0, 10), f}
	defer s.Close()
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("reading a directory: %v", err)
	}
}

// TestPackCache_load: a base that was published from here is read from here,
// unless it was damaged or the store has been swept since.
func TestPackCache_load(t *testing.T) {
	st, dir := &counted{Store: NewMemory()}, t.TempDir()
	_, base := publish(t, NewPackCache(st, dir, "1"), nil, 1, write(t, map[string]string{"a.html": page(1, "one")}))
	gets := func(stamp string) int {
		t.Helper()
		before := st.gets
		if _, err := Load(t.Context(), NewPackCache(st, dir, stamp), "www", base.Manifest.ID(), base.Manifest.Digest()); err != nil {
			t.Fatal(err)
		}
		return st.gets - before
	}
	if n := gets("1"); n != 0 {
		t.Errorf("nothing changed: %d requests", n)
	}
	if n := gets("2"); n != 1 {
		t.Errorf("the store was swept: %d requests, want one for the layout", n)
	}
	name := filepath.Join(dir, string(base.Manifest.ID())+".manifest")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := gets("1"); n != 1 {
		t.Errorf("the manifest is damaged: %d requests, want one for it", n)
	}
}

// TestPackCache_resumed: a pack that was on its way before is looked for, one
// that is new is not.
func TestPackCache_resumed(t *testing.T) {
	st, dir := &counted{Store: NewMemory()}, t.TempDir()
	files := map[string]string{"a.html": page(1, "one")}
	first, _ := publish(t, NewPackCache(st, dir, ""), nil, 1, write(t, files))
	puts := st.puts
	again, _ := publish(t, NewPackCache(st, dir, ""), nil, 1, write(t, files))
	if st.puts-puts != 2 || again.Stats.UploadedBytes != 0 || first.Stats.UploadedBytes == 0 {
		t.Errorf("%d objects were sent again, layout and manifest are 2; %+v", st.puts-puts, again.Stats)
	}
}
