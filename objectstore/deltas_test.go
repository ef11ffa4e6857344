package objectstore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/release"
)

// held is content that a node has: that of one build.
type held map[release.Digest]string

func hold(files map[string]string) held {
	h := held{}
	for _, content := range files {
		h[release.Sum([]byte(content))] = content
	}
	return h
}

func (h held) Holds(d release.Digest, size int64) bool { return int64(len(h[d])) == size }

func (h held) Read(d release.Digest, offset, length int64) ([]byte, error) {
	if _, ok := h[d]; !ok {
		return nil, os.ErrNotExist
	}
	return []byte(h[d][offset : offset+length]), nil
}

// page is a page of a site that stamps its version into all of them.
func page(i uint64, stamp string) string {
	return strings.Repeat("<p>a paragraph of every page</p>\n", 30) + "<!-- " + stamp + " -->" + noise(i, 3000) + stamp
}

// versions are two versions of a build, and what of the second is new.
func versions() (old, new map[string]string) {
	old = map[string]string{"same.html": page(100, "never stamped"), "big.bin": noise(200, maxFrame+maxFrame/4), "gone.html": page(101, "v1"), "app.3f9ac1d2.js": page(300, "v1")}
	new = map[string]string{
		"same.html":       old["same.html"],
		"big.bin":         old["big.bin"][:maxFrame/2] + "inserted" + old["big.bin"][maxFrame/2:maxFrame+5] + noise(201, 5000) + old["big.bin"][maxFrame+9000:],
		"added.html":      noise(102, 4000),
		"app.77aa01bc.js": page(300, "v2"),
		"tiny.txt":        "v2",
	}
	old["tiny.txt"] = "v1"
	for i := range uint64(50) {
		name := "pages/" + string(rune('a'+i%26)) + "/" + string(rune('a'+i/26)) + ".html"
		old[name], new[name] = page(i, "version 1.0"), page(i, "version 1.10")
	}
	return old, new
}

// counted counts the bytes that are read.
type counted struct {
	Store
	mu    sync.Mutex
	bytes int64
	gets  int
	puts  int
}

func (c *counted) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += max(length, 0)
	c.gets++
	return c.Store.Get(ctx, key, offset, length)
}

func (c *counted) Put(ctx context.Context, key string, body []byte, create bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	return c.Store.Put(ctx, key, body, create)
}

// update publishes both versions, but for some paths.
func update(t *testing.T, st Store, without ...string) (old, new map[string]string, u *Upload, s *Stored) {
	t.Helper()
	old, new = versions()
	for _, path := range without {
		delete(old, path)
		delete(new, path)
	}
	_, base := publish(t, st, nil, 1, write(t, old))
	u, s = publish(t, st, base, 2, write(t, new))
	return old, new, u, s
}

// fetchOver reads all that is new in a release over what is held.
func fetchOver(ctx context.Context, st Store, s *Stored, h held, failed func(release.File, error)) (held, error) {
	var want []release.File
	for _, c := range contents(s.Manifest) {
		if _, ok := h[c.Digest]; !ok {
			want = append(want, c)
		}
	}
	var mu sync.Mutex
	got := held{}
	err := Fetch(ctx, st, s, want, FetchOptions{Old: h, Failed: failed}, func(f release.File, r io.Reader) error {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		got[f.Digest] = string(b)
		return nil
	})
	if err == nil && len(got) != len(want) {
		err = errors.New("not all was handed over")
	}
	for d, content := range got {
		if release.Sum([]byte(content)) != d {
			err = errors.Join(err, errors.New("a wrong content was handed over"))
		}
	}
	return got, err
}

func TestDeltas(t *testing.T) {
	st := &counted{Store: NewMemory()}
	old, new, u, s := update(t, st)
	// 50 pages, the script with another name and the large file.
	if u.Stats.Deltas != 52 {
		t.Errorf("%d deltas, want 52", u.Stats.Deltas)
	}
	wantContents(t, st, s, new) // without the base
	st.bytes = 0
	if _, err := fetchOver(t.Context(), st, s, hold(old), func(f release.File, err error) { t.Errorf("%s: %v", f.Path, err) }); err != nil {
		t.Fatal(err)
	}
	// What has no counterpart, and the bytes that differ with what leads to them.
	if most := int64(4000 + 5000 + 50*200 + 8192); st.bytes > most {
		t.Errorf("%d bytes were fetched, want at most %d", st.bytes, most)
	}
}

// TestDeltas_useless: where deltas are of no use, whole contents are fetched.
func TestDeltas_useless(t *testing.T) {
	mem := NewMemory()
	old, new, _, s := update(t, mem, "big.bin")
	deltaPacks := map[string]bool{}
	for _, all := range s.Layout.deltas {
		for _, d := range all {
			deltaPacks[packKey(s.Layout.packs[s.Layout.frames[d.frame].Pack].Digest)] = true
		}
	}
	spoil := func(how func([]byte) []byte) Store { return &spoiled{Store: mem, keys: deltaPacks, how: how} }
	wrong := hold(old)
	for d, content := range wrong {
		b := []byte(content)
		for i := range b {
			b[i] ^= 1
		}
		wrong[d] = string(b)
	}
	tests := []struct {
		name string
		st   Store
		held held
	}{
		{"the pack is gone", spoil(nil), hold(old)},
		{"a byte is wrong", spoil(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), hold(old)},
		{"cut short", spoil(func(b []byte) []byte { return b[:len(b)/2] }), hold(old)},
		{"another's bytes", spoil(func(b []byte) []byte { return []byte(noise(9, len(b))) }), hold(old)},
		{"the old version is damaged", mem, wrong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			failed := 0
			got, err := fetchOver(t.Context(), tt.st, s, tt.held, func(release.File, error) {
				mu.Lock()
				defer mu.Unlock()
				failed++
			})
			if err != nil {
				t.Fatal(err)
			}
			if failed == 0 || len(got) != 53 {
				t.Errorf("%d contents, %d deltas failed", len(got), failed)
			}
			for path, content := range new {
				if _, has := got[release.Sum([]byte(content))]; !has && path != "same.html" {
					t.Errorf("%s was not handed over", path)
				}
			}
		})
	}
}

// spoiled damages some objects, or has them no more.
type spoiled struct {
	Store
	keys map[string]bool
	how  func([]byte) []byte // nil: they are gone
}

func (s *spoiled) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if !s.keys[key] {
		return s.Store.Get(ctx, key, offset, length)
	}
	if s.how == nil {
		return s.Store.Get(ctx, key+"-gone", offset, length)
	}
	r, err := s.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(string(s.how(b)))), nil
}

// TestDeltas_noBase: a base that cannot be read back costs the deltas only.
func TestDeltas_noBase(t *testing.T) {
	for name, st := range map[string]Store{
		"gone":    &spoiled{Store: NewMemory(), keys: map[string]bool{}},
		"damaged": &spoiled{Store: NewMemory(), keys: map[string]bool{}, how: func(b []byte) []byte { return b[:1] }},
	} {
		t.Run(name, func(t *testing.T) {
			old, new := versions()
			_, base := publish(t, st, nil, 1, write(t, old))
			for _, p := range base.Layout.packs {
				st.(*spoiled).keys[packKey(p.Digest)] = true
			}
			delete(new, "same.html") // it would have to come from there
			u, s := publish(t, st, base, 2, write(t, new))
			if u.Stats.Deltas != 0 {
				t.Errorf("%d deltas", u.Stats.Deltas)
			}
			wantContents(t, st, s, new)
		})
	}
}

// TestPublish_sendsNothingTwice: a publisher that starts again sends no pack twice.
func TestPublish_sendsNothingTwice(t *testing.T) {
	files := map[string]string{}
	for i := range uint64(28) {
		files[string(rune('a'+i%26))+string(rune('a'+i/26))+".bin"] = noise(i, 1<<20)
	}
	dir := write(t, files)
	st := &counted{Store: NewMemory()}
	publish(t, st, nil, 1, dir)
	all := st.puts - 2 // the layout and the manifest
	st.puts = 0
	u, s := publish(t, st, nil, 1, dir)
	if u.Stats.UploadedBytes != 0 || st.puts != 2 || all < 4 {
		t.Errorf("%d packs, then %d puts and %d bytes", all, st.puts, u.Stats.UploadedBytes)
	}
	wantContents(t, st, s, files)
}

func TestPairing(t *testing.T) {
	tests := []struct {
		path, stem string
		made       bool
	}{
		{"index.html", "index.html", false},
		{"js/app.3f9ac1d2.js", "js/app.*.js", true},
		{"js/app-3f9ac1d2.min.js", "js/app-*.min.js", true},
		{"js/chunk_DfA21xQe.js", "js/chunk_*.js", true},
		{"guide/v1.25/a.html", "guide/v1.25/a.html", false},
		{"release-2026.html", "release-2026.html", false},
		{"kernel-api.html", "kernel-api.html", false},
	}
	for _, tt := range tests {
		got, made := stem(tt.path)
		if made != tt.made || made && strings.ReplaceAll(got, "*", "") != strings.ReplaceAll(strings.ReplaceAll(tt.stem, "-*", "*"), "*", "") && got == "" {
			t.Errorf("%s: %s, %v", tt.path, got, made)
		}
	}
	a, _ := stem("js/app.3f9ac1d2.js")
	b, _ := stem("js/app.77aa01bc.js")
	c, _ := stem("js/lib.77aa01bc.js")
	if a != b || b == c {
		t.Errorf("%s, %s and %s", a, b, c)
	}
}

func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache", "build.json")
	files := map[string]string{"a.html": page(1, "v1"), "b.html": page(2, "v1"), "big.bin": noise(3, frameTarget+1)}
	dir := write(t, files)
	st := NewMemory()
	run := func(base *Stored, seq uint64) (*Upload, *Stored) {
		t.Helper()
		b, err := Scan(t.Context(), dir, ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := OpenCache(path)
		c.when = c.when.Add(2 * settled) // as if the build had been made before
		u, err := (&Publisher{Store: st, Site: "www", Base: base, Cache: c}).Upload(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Save(); err != nil {
			t.Fatal(err)
		}
		m, err := u.Commit(t.Context(), seq, time.Unix(1_700_000_000, 0))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Load(t.Context(), st, "www", m.ID(), m.Digest())
		if err != nil {
			t.Fatal(err)
		}
		return u, s
	}
	u, s := run(nil, 1)
	if u.Stats.Cached != 0 {
		t.Errorf("%d files were not read at first", u.Stats.Cached)
	}
	if u, s = run(s, 2); u.Stats.Cached != 3 || !u.Unchanged() {
		t.Errorf("%d of 3 files were not read; unchanged: %v", u.Stats.Cached, u.Unchanged())
	}
	// The same size and the old mtime: ctime tells.
	name := filepath.Join(dir, "a.html")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	files["a.html"] = page(1, "v2")
	if err := os.WriteFile(name, []byte(files["a.html"]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if u, s = run(s, 3); u.Stats.Cached != 2 || u.Unchanged() {
		t.Errorf("%d of 3 files were not read; unchanged: %v", u.Stats.Cached, u.Unchanged())
	}
	wantContents(t, st, s, files)
	if err := os.WriteFile(path, []byte("{\"p\":\"a.html\"}\nnot JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if u, _ = run(s, 4); u.Stats.Cached != 0 || !u.Unchanged() {
		t.Errorf("a damaged cache: %d files were not read; unchanged: %v", u.Stats.Cached, u.Unchanged())
	}
}

// TestCache_unsettled: what changed a moment ago is not believed, since a
// change within the clock's resolution would not show.
func TestCache_unsettled(t *testing.T) {
	dir := write(t, map[string]string{"a.html": "<p>a</p>"})
	b, err := Scan(t.Context(), dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := OpenCache(filepath.Join(t.TempDir(), "cache"))
	c.note(b.Files[0], release.Sum([]byte("<p>a</p>")))
	if len(c.now) != 0 {
		t.Error("it was noted")
	}
}

// TestDerived: a new version of a large file is its difference alone. Whoever
// does not hold the old version makes it out of that in the store.
func TestDerived(t *testing.T) {
	st := &counted{Store: NewMemory()}
	first := noise(1, maxFrame+123_456)
	second := first[:maxFrame/2] + "inserted" + first[maxFrame/2+3000:]
	third := second[:5_000_000] + noise(2, 2000) + second[5_000_000:]
	build := func(big, page string) map[string]string {
		return map[string]string{"big.bin": big, "index.html": page}
	}
	_, s1 := publish(t, st, nil, 1, write(t, build(first, "one")))
	u2, s2 := publish(t, st, s1, 2, write(t, build(second, "two")))
	if !s2.Layout.derived(release.Sum([]byte(second))) || u2.Stats.UploadedBytes > 10_000 {
		t.Errorf("derived: %v, %d bytes were sent", s2.Layout.derived(release.Sum([]byte(second))), u2.Stats.UploadedBytes)
	}
	wantContents(t, st, s2, build(second, "two"))
	over := func(s *Stored, holds string, most int64) {
		t.Helper()
		st.bytes = 0
		if _, err := fetchOver(t.Context(), st, s, hold(build(holds, "")), func(f release.File, err error) { t.Errorf("%s: %v", f.Path, err) }); err != nil {
			t.Fatal(err)
		}
		if st.bytes > most {
			t.Errorf("%d bytes were fetched, want at most %d", st.bytes, most)
		}
	}
	over(s2, first, 10_000)

	// What does not change is taken over as it is.
	_, s3 := publish(t, st, s2, 3, write(t, build(second, "three")))
	wantContents(t, st, s3, build(second, "three"))
	over(s3, first, 10_000)

	// There is one delta at most between a file and stored bytes.
	_, s4 := publish(t, st, s3, 4, write(t, build(third, "four")))
	if s4.Layout.derived(release.Sum([]byte(third))) {
		t.Error("a derived content is derived from")
	}
	wantContents(t, st, s4, build(third, "four"))
	over(s4, second, 20_000)

	// And nothing replaces what is gone.
	var key string
	for _, d := range s3.Layout.deltas[release.Sum([]byte(second))] {
		key = packKey(s3.Layout.packs[s3.Layout.frames[d.frame].Pack].Digest)
	}
	if err := st.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := fetched(t.Context(), st, s3); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), key) {
		t.Errorf("error %v, want one that names %s", err, key)
	}
	wantContents(t, st, s4, build(third, "four"))
}
