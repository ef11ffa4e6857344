package objectstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"relman/release"
)

// write makes a build out of contents by path.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		name := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func noise(seed uint64, n int) string {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return string(b)
}

// odd are the contents at which something could go wrong.
func odd() map[string]string {
	return map[string]string{
		"empty.txt":            "",
		"empty/again.txt":      "",
		"one.txt":              "1",
		"same/a.html":          "<p>the same</p>",
		"same/b.html":          "<p>the same</p>",
		"frame.bin":            noise(2, frameTarget),
		"frame+1.bin":          noise(3, frameTarget+1),
		"piece.bin":            noise(5, maxFrame),
		"pieces.bin":           noise(7, 2*maxFrame+12345),
		"zeros.bin":            strings.Repeat("\x00", 3<<20),
		"zeros-in-pieces.bin":  strings.Repeat("\x00", maxFrame+1),
		"text.css":             strings.Repeat("a { color: red }\n", 1000),
		"sp ace/ü.html":        "<p>ü</p>",
		"deep/er/and/deep.svg": "<svg/>",
	}
}

// publish uploads and commits a build as release seq.
func publish(t testing.TB, st Store, base *Stored, seq uint64, dir string) (*Upload, *Stored) {
	t.Helper()
	u, s, err := tryPublish(t.Context(), st, base, seq, dir)
	if err != nil {
		t.Fatal(err)
	}
	return u, s
}

func tryPublish(ctx context.Context, st Store, base *Stored, seq uint64, dir string) (*Upload, *Stored, error) {
	b, err := Scan(ctx, dir, ScanOptions{})
	if err != nil {
		return nil, nil, err
	}
	u, err := (&Publisher{Store: st, Site: "www", Base: base}).Upload(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	m, err := u.Commit(ctx, seq, time.Unix(1_700_000_000, 0))
	if err != nil {
		return u, nil, err
	}
	s, err := Load(ctx, st, "www", m.ID(), m.Digest())
	return u, s, err
}

// fetched reads all contents of a release back, by digest.
func fetched(ctx context.Context, st Store, s *Stored) (map[release.Digest]string, error) {
	var mu sync.Mutex
	got := map[release.Digest]string{}
	err := Fetch(ctx, st, s, contents(s.Manifest), FetchOptions{}, func(f release.File, r io.Reader) error {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		got[f.Digest] = string(b)
		return nil
	})
	return got, err
}

func wantContents(t testing.TB, st Store, s *Stored, files map[string]string) {
	t.Helper()
	got, err := fetched(t.Context(), st, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Manifest.Files) != len(files) {
		t.Fatalf("%d files, want %d", len(s.Manifest.Files), len(files))
	}
	for path, want := range files {
		f, ok := s.Manifest.Lookup(path)
		if !ok || got[f.Digest] != want {
			t.Errorf("%s: found %v, %d bytes, want %d", path, ok, len(got[f.Digest]), len(want))
		}
	}
}

func TestPublish_oddContents(t *testing.T) {
	st := NewMemory()
	_, s := publish(t, st, nil, 1, write(t, odd()))
	wantContents(t, st, s, odd())
}

func TestPublish_onlyWhatIsNew(t *testing.T) {
	st := NewMemory()
	files := odd()
	_, first := publish(t, st, nil, 1, write(t, files))
	files["one.txt"] = "2"
	files["moved/text.css"] = files["text.css"]
	delete(files, "text.css")
	u, second := publish(t, st, first, 2, write(t, files))
	if u.Stats.NewFiles != 1 || u.Stats.NewBytes != 1 || u.Stats.Packs != 1 || u.Stats.UploadedBytes > 1000 {
		t.Errorf("sent %+v for one byte that is new", u.Stats)
	}
	wantContents(t, st, second, files)

	u, _ = publish(t, st, second, 3, write(t, files))
	if !u.Unchanged() || u.Stats.Packs != 0 {
		t.Errorf("the same build: unchanged %v, %+v", u.Unchanged(), u.Stats)
	}
	files["one.txt"] = "3"
	if u, _ = publish(t, st, second, 3, write(t, files)); u.Unchanged() {
		t.Error("another build is unchanged")
	}
}

// failing is a store of which one call in a row fails.
type failing struct {
	Store
	mu   sync.Mutex
	puts int
	fail int // which Put
}

var errDisk = errors.New("no space in the store")

func (f *failing) Put(ctx context.Context, key string, body []byte, create bool) error {
	f.mu.Lock()
	f.puts++
	now := f.puts
	f.mu.Unlock()
	if now == f.fail {
		return errDisk
	}
	return f.Store.Put(ctx, key, body, create)
}

// TestPublish_resumes: a publisher that ends at any of its writes leaves
// nothing that a second one stumbles over, and the second one finds the packs.
func TestPublish_resumes(t *testing.T) {
	files := map[string]string{"a.html": "<p>a</p>", "b.html": "", "big/1.bin": noise(1, 5<<20), "big/2.bin": noise(2, 5<<20), "big/3.bin": noise(3, 1<<20)}
	dir := write(t, files)
	whole := &failing{Store: NewMemory()}
	publish(t, whole, nil, 1, dir)
	if whole.puts < 4 {
		t.Fatalf("%d writes are too few for this test", whole.puts)
	}
	for n := 1; n <= whole.puts; n++ {
		st := NewMemory()
		if _, _, err := tryPublish(t.Context(), &failing{Store: st, fail: n}, nil, 1, dir); !errors.Is(err, errDisk) {
			t.Fatalf("write %d failed: %v", n, err)
		}
		_, s := publish(t, st, nil, 1, dir)
		wantContents(t, st, s, files)
		packs := 0
		if err := st.List(t.Context(), "packs/", func(Info) error { packs++; return nil }); err != nil {
			t.Fatal(err)
		}
		if packs != whole.puts-2 {
			t.Errorf("write %d failed: %d packs in the end, a publish makes %d", n, packs, whole.puts-2)
		}
	}
}

// damaged is a store whose packs come out wrong.
type damaged struct {
	Store
	times int // how often, negative: always
	how   func(body []byte) []byte
	mu    sync.Mutex
}

func (d *damaged) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Store.Get(ctx, key, offset, length)
	if err != nil || !strings.HasPrefix(key, "packs/") {
		return r, err
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times != 0 {
		d.times--
		body = d.how(body)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func TestFetch_damage(t *testing.T) {
	files := map[string]string{"a.txt": noise(1, 50_000), "b.html": strings.Repeat("<p>hello</p>", 10_000), "c.bin": noise(2, maxFrame+5)}
	st := NewMemory()
	_, s := publish(t, st, nil, 1, write(t, files))
	for name, how := range map[string]func([]byte) []byte{
		"a byte is wrong": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut short":       func(b []byte) []byte { return b[:len(b)/2] },
		"another's bytes": func(b []byte) []byte { return []byte(noise(9, len(b))) },
		"nothing":         func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fetched(t.Context(), &damaged{Store: st, times: -1, how: how}, s)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(fmt.Sprint(err), "packs/") {
				t.Errorf("error %v", err)
			}
			for d, body := range got {
				if release.Sum([]byte(body)) != d {
					t.Errorf("a wrong content was handed over as %s", d)
				}
			}
		})
	}
	once := &damaged{Store: st, times: 1, how: func(b []byte) []byte { b[len(b)/2] ^= 1; return b }}
	wantContents(t, once, s, files)
}

// TestFetch_damagedBase: a base that comes damaged once, and only then, does
// not keep a file from being made out of it.
func TestFetch_damagedBase(t *testing.T) {
	old := noise(200, maxFrame+maxFrame/4)
	st := NewMemory()
	_, base := publish(t, st, nil, 1, write(t, map[string]string{"big.bin": old}))
	files := map[string]string{"big.bin": "x" + old}
	_, s := publish(t, st, base, 2, write(t, files))
	flip := func(b []byte) []byte {
		if len(b) > 1<<20 { // a frame of the base, not of deltas
			b[len(b)/2] ^= 1
		}
		return b
	}
	wantContents(t, &damaged{Store: st, times: 2, how: flip}, s, files)
	key := packKey(base.Layout.packs[0].Digest)
	if _, err := fetched(t.Context(), &damaged{Store: st, times: -1, how: flip}, s); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) {
		t.Errorf("always damaged: %v, want %s to be named", err, key)
	}
}

// TestFetch_begun: of a large file only the pieces are fetched that are not
// there; what is there is not believed.
func TestFetch_begun(t *testing.T) {
	body := noise(200, 3*maxFrame+maxFrame/4)
	st := &counted{Store: NewMemory()}
	files := map[string]string{"big.bin": body}
	_, s := publish(t, st, nil, 1, write(t, files))
	for _, c := range []struct {
		name, begun string
		fetched     int // bytes
	}{
		{"nothing", "", len(body)},
		{"less than a piece", body[:maxFrame-1], len(body)},
		{"a piece and a half", body[:maxFrame+maxFrame/2], len(body) - maxFrame},
		{"all", body, 0},
		{"more than all", body + "x", 0},
		{"other bytes", noise(3, 2*maxFrame), len(body) - 2*maxFrame + len(body)}, // and then all
	} {
		st.bytes = 0
		got := ""
		o := FetchOptions{Begun: func(release.File) io.Reader { return strings.NewReader(c.begun) }}
		err := Fetch(t.Context(), st, s, contents(s.Manifest), o, func(_ release.File, r io.Reader) error {
			b, err := io.ReadAll(r)
			got = string(b)
			return err
		})
		if err != nil || got != body {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if st.bytes != int64(c.fetched) {
			t.Errorf("%s: %d bytes were fetched, want %d", c.name, st.bytes, c.fetched)
		}
	}
}

func TestFetch_missingPack(t *testing.T) {
	st := NewMemory()
	_, s := publish(t, st, nil, 1, write(t, map[string]string{"a.txt": "a"}))
	var key string
	if err := st.List(t.Context(), "packs/", func(i Info) error { key = i.Key; return st.Delete(t.Context(), i.Key) }); err != nil {
		t.Fatal(err)
	}
	if _, err := fetched(t.Context(), st, s); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), key) {
		t.Errorf("error %v, want one that names %s", err, key)
	}
}

func TestLoad_forged(t *testing.T) {
	st := NewMemory()
	_, a := publish(t, st, nil, 1, write(t, map[string]string{"a.txt": "a"}))
	if _, err := Load(t.Context(), st, "www", a.Manifest.ID(), release.Sum([]byte("other"))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another digest: %v", err)
	}
	if _, err := Load(t.Context(), st, "shop", a.Manifest.ID(), a.Manifest.Digest()); !errors.Is(err, ErrNotFound) {
		t.Errorf("another site: %v", err)
	}
}

// TestRebuild: what is where can be told from the packs alone.
func TestRebuild(t *testing.T) {
	st := NewMemory()
	_, s := publish(t, st, nil, 1, write(t, odd()))
	found := map[release.Digest]int64{}
	err := st.List(t.Context(), "packs/", func(i Info) error {
		body, err := readAll(t.Context(), st, i.Key, maxObject)
		if err != nil {
			return err
		}
		entries, err := ReadPack(body)
		for _, e := range entries {
			found[e.Digest] += e.Size
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents(s.Manifest) {
		if found[c.Digest] != c.Size {
			t.Errorf("%s: the packs have %d bytes of %d", c.Path, found[c.Digest], c.Size)
		}
	}
}

// TestPublish_fileChanges: a build that is written to is refused by name.
func TestPublish_fileChanges(t *testing.T) {
	dir := write(t, map[string]string{"a.txt": "a", "b.txt": "b"})
	b, err := Scan(t.Context(), dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.txt"), []byte("longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = (&Publisher{Store: NewMemory(), Site: "www"}).Upload(t.Context(), b)
	if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "b.txt") {
		t.Errorf("error %v", err)
	}
}

// TestPublish_cachedFileChanges: what is published is the build as it was at
// one moment, so files that need not be read are looked at too.
func TestPublish_cachedFileChanges(t *testing.T) {
	for name, change := range map[string]func(string) error{
		"written": func(name string) error { return os.WriteFile(name, []byte("A"), 0o644) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir, cache := write(t, map[string]string{"a.txt": "a", "b.txt": "b"}), filepath.Join(t.TempDir(), "cache")
			st := NewMemory()
			var base *Stored
			up := func(between func()) (*Upload, error) {
				b, err := Scan(t.Context(), dir, ScanOptions{})
				if err != nil {
					return nil, err
				}
				between()
				c := OpenCache(cache)
				c.when = time.Now().Add(settled) // as if it were later
				u, err := (&Publisher{Store: st, Site: "www", Base: base, Cache: c}).Upload(t.Context(), b)
				return u, errors.Join(err, c.Save())
			}
			u, err := up(func() {})
			if err != nil {
				t.Fatal(err)
			}
			m, err := u.Commit(t.Context(), 1, time.Unix(1_700_000_000, 0))
			if err != nil {
				t.Fatal(err)
			}
			if base, err = Load(t.Context(), st, "www", m.ID(), m.Digest()); err != nil {
				t.Fatal(err)
			}
			if u, err = up(func() {}); err != nil || u.Stats.Cached != 2 {
				t.Fatalf("nothing changed: %+v, %v", u, err)
			}
			_, err = up(func() {
				if err := change(filepath.Join(dir, "a.txt")); err != nil {
					t.Fatal(err)
				}
			})
			if !errors.Is(err, ErrChanged) || !strings.Contains(fmt.Sprint(err), "a.txt") {
				t.Errorf("a.txt is %s: %v", name, err)
			}
		})
	}
}

// meddler does something when its error is asked for the n-th time.
type meddler struct {
	context.Context
	n  atomic.Int64
	do func()
}

func (m *meddler) Err() error {
	if m.n.Add(-1) == 0 {
		m.do()
	}
	return m.Context.Err()
}

// TestPublish_directorySwapped: a symbolic link in the place of a directory
// leads to no file of another one, whenever it comes.
func TestPublish_directorySwapped(t *testing.T) {
	outside := write(t, map[string]string{"b.txt": "private", "shadow": "private"})
	refused := 0
	for n := range 12 {
		dir := write(t, map[string]string{"a.txt": "a", "z/b.txt": "b"})
		swap := func() {
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, "z")), os.Symlink(outside, filepath.Join(dir, "z"))); err != nil {
				t.Fatal(err)
			}
		}
		m := &meddler{Context: t.Context(), do: swap}
		m.n.Store(int64(n + 1))
		b, err := Scan(m, dir, ScanOptions{})
		if err == nil {
			swap()
			_, err = (&Publisher{Store: NewMemory(), Site: "www"}).Upload(t.Context(), b)
		}
		switch {
		case err == nil:
			t.Fatalf("swapped at %d: it was published", n)
		case errors.Is(err, ErrChanged):
			refused++
		}
	}
	if refused == 0 {
		t.Error("no error said that the build changed")
	}
}

func TestScan_problems(t *testing.T) {
	link := func(to string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Symlink(to, filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		also  func(t *testing.T, dir string)
		o     ScanOptions
		says  string // "" when it is fine
	}{
		{"plain", map[string]string{"index.html": "x"}, nil, ScanOptions{}, ""},
		{"empty", nil, nil, ScanOptions{}, "no files"},
		{"dotfile", map[string]string{".well-known/x": "x", ".yamllint": "x"}, nil, ScanOptions{}, ""},
		{"secret", map[string]string{"a/.env": "x"}, nil, ScanOptions{}, "a/.env"},
		{"secret folder", map[string]string{".git/config": "x", "a": "x"}, nil, ScanOptions{}, ".git"},
		{"secret, allowed", map[string]string{".env.local": "x"}, nil, ScanOptions{Secrets: true}, ""},
		{"case", map[string]string{"a.html": "x", "A.html": "x"}, nil, ScanOptions{}, "A.html"},
		{"bad name", map[string]string{"a:b": "x"}, nil, ScanOptions{}, "a:b"},
		{"link", map[string]string{"a": "x"}, link("a"), ScanOptions{}, "link is a symbolic link to a"},
		{"link, followed", map[string]string{"a": "x"}, link("a"), ScanOptions{FollowSymlinks: true}, ""},
		{"link out, followed", map[string]string{"a": "x"}, link("../../etc/hostname"), ScanOptions{FollowSymlinks: true}, "leaves the build"},
		{"absolute link, followed", map[string]string{"a": "x"}, link("/etc/hostname"), ScanOptions{FollowSymlinks: true}, "leaves the build"},
		{"dangling link, followed", map[string]string{"a": "x"}, link("b"), ScanOptions{FollowSymlinks: true}, "link"},
		{"link to a folder, followed", map[string]string{"d/a": "x"}, link("d"), ScanOptions{FollowSymlinks: true}, "directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, c.files)
			if c.also != nil {
				c.also(t, dir)
			}
			_, err := Scan(t.Context(), dir, c.o)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (!errors.Is(err, ErrBuild) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want ErrBuild that says %q", err, c.says)
			}
		})
	}
	many := map[string]string{}
	for i := range 12 {
		many[fmt.Sprintf("%d:", i)] = "x"
	}
	if _, err := Scan(t.Context(), write(t, many), ScanOptions{}); err == nil || strings.Count(err.Error(), "\n") != mostProblems || !strings.Contains(err.Error(), "and more") {
		t.Errorf("twelve problems: %v", err)
	}
	if _, err := Scan(t.Context(), "/no/such/dir", ScanOptions{}); !errors.Is(err, ErrBuild) {
		t.Error(err)
	}
}

func FuzzParseLayout(f *testing.F) {
	st := NewMemory()
	_, s := publish(f, st, nil, 1, write(f, map[string]string{"a.txt": "a", "b.txt": "b", "c/c.html": "ccc"}))
	raw, err := s.Layout.encode(s.Manifest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	s.Layout.deltas[release.Sum([]byte("ccc"))] = []delta{{piece{0, 0, 1}, 3, oldRef{release.Sum([]byte("old")), 3}, 0, 3}}
	if raw, err = s.Layout.encode(s.Manifest); err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseLayout(raw, s.Manifest)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := l.encode(s.Manifest); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadPack(f *testing.F) {
	b := &packBuilder{}
	b.add(builtFrame{stored: []byte("hello"), raw: 5, sizes: []int64{5}})
	body, _, err := b.finish()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := ReadPack(body); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzUnpackFrame(f *testing.F) {
	z, _, err := packFrame([]byte(strings.Repeat("hello ", 1000)), quick)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(z, int64(6000))
	f.Fuzz(func(t *testing.T, stored []byte, raw int64) {
		if raw < 1 || raw > maxFrame {
			return
		}
		if out, err := unpackFrame(nil, stored, true, raw); err == nil && int64(len(out)) != raw {
			t.Fatalf("%d bytes, want %d", len(out), raw)
		}
	})
}

func BenchmarkPublish(b *testing.B) {
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("d%d/f%d.html", i%20, i)] = strings.Repeat(fmt.Sprintf("<p>%d</p>", i), 1000) + noise(uint64(i), 200)
	}
	dir := write(b, files)
	for b.Loop() {
		publish(b, NewMemory(), nil, 1, dir)
	}
}
