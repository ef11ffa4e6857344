package objectstore

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPackCache: an update is published without reading the base from the
// store; a cache that is wrong costs the deltas only, and is forgotten.
func TestPackCache(t *testing.T) {
	st, dir := &counted{Store: NewMemory()}, filepath.Join(t.TempDir(), "packs")
	cache := NewPackCache(st, dir)
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
	_, s = publish(t, NewPackCache(st, dir), s, 3, write(t, new2))
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
	cache := NewPackCache(NewMemory(), dir)
	cache.used = mostCached
	files := map[string]string{"a.html": "<p>a</p>"}
	_, s := publish(t, cache, nil, 1, write(t, files))
	wantContents(t, cache, s, files)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%d packs are kept: %v", len(entries), err)
	}
}
