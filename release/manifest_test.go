package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var day = time.Unix(1_700_000_000, 0)

func file(path, content string) File {
	return File{Path: path, Size: int64(len(content)), Digest: Sum([]byte(content))}
}

func mustNew(t testing.TB, seq uint64, created time.Time, base *Manifest, files ...File) *Manifest {
	t.Helper()
	m, err := New("www", seq, created, base, files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sample has every optional part of a line, present and absent.
func sample(t testing.TB) *Manifest {
	t.Helper()
	plain, exec, typed := file("index.html", "<h1>"), file("bin/tool", "#!"), file(`a "quoted" <&> 日本.css`, "a{}")
	exec.Exec = true
	typed.Type = `text/css; charset="utf\8"`
	return mustNew(t, 42, day, nil, plain, exec, typed, file("empty", ""))
}

func TestManifest_spelling(t *testing.T) {
	one := file("css/app.css", "a{}")
	one.Type = "text/css"
	m := mustNew(t, 7, day, nil, one)
	want := `{"relman":1,"site":"www","seq":7,"created":1700000000,"prev":"","files":1,"bytes":3,"tree":"` + m.Tree.String() + `"}
{"p":"css/app.css","s":3,"h":"` + one.Digest.Hex() + `","m":"0644","t":"text/css","u":1700000000}
`
	if string(m.Raw()) != want {
		t.Errorf("%s\nwant\n%s", m.Raw(), want)
	}
	if m.ID() != NewID(7, Sum([]byte(want))) || m.Digest() != Sum([]byte(want)) {
		t.Errorf("id %s, digest %s", m.ID(), m.Digest())
	}
}

// TestManifest_isJSON: the lines are written by hand and stay what a JSON
// encoder writes.
func TestManifest_isJSON(t *testing.T) {
	for i, line := range bytes.Split(bytes.TrimSuffix(sample(t).Raw(), newline), newline)[1:] {
		var l struct {
			P string `json:"p"`
			S int64  `json:"s"`
			H string `json:"h"`
			M string `json:"m"`
			T string `json:"t,omitempty"`
			U int64  `json:"u,omitempty"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		var again bytes.Buffer
		enc := json.NewEncoder(&again)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(l); err != nil {
			t.Fatal(err)
		}
		if got := bytes.TrimSpace(again.Bytes()); !bytes.Equal(got, line) {
			t.Errorf("%s\nis in JSON\n%s", line, got)
		}
	}
}

func TestManifest_roundTrip(t *testing.T) {
	m := sample(t)
	back, err := ParseManifest(m.Raw())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, back) {
		t.Errorf("%+v\nwant\n%+v", back, m)
	}
	if back.ID() != m.ID() || back.Digest() != m.Digest() || back.Count != 4 || back.Bytes != 9 {
		t.Errorf("header %+v", back.Header)
	}
}

func TestNew_ordersFilesAndLeavesTheCallersAlone(t *testing.T) {
	files := manyFiles(200)
	want := mustNew(t, 1, day, nil, files...)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	first := files[0]
	if got := mustNew(t, 1, day, nil, files...); !bytes.Equal(got.Raw(), want.Raw()) {
		t.Error("another order of files makes another manifest")
	}
	if files[0] != first {
		t.Error("New changed its argument")
	}
}

func TestManifest_lookup(t *testing.T) {
	m := sample(t)
	for _, f := range m.Files {
		if got, ok := m.Lookup(f.Path); !ok || got != f {
			t.Errorf("Lookup(%q) = %+v, %v", f.Path, got, ok)
		}
	}
	for _, p := range []string{"", "a", "index.htm", "index.html2", "zzz"} {
		if f, ok := m.Lookup(p); ok {
			t.Errorf("Lookup(%q) = %+v", p, f)
		}
	}
	if _, ok := (*Manifest)(nil).Lookup("index.html"); ok {
		t.Error("no manifest has a file")
	}
}

func TestNew_mtimeRule(t *testing.T) {
	at := func(m *Manifest, p string) int64 { f, _ := m.Lookup(p); return f.MTime }
	v1 := mustNew(t, 1, day, nil, file("same", "1"), file("changed", "1"), file("gone", "1"))
	v2 := mustNew(t, 2, day.Add(time.Hour), v1, file("same", "1"), file("changed", "2"), file("added", "1"))
	first, second := day.Unix(), day.Unix()+3600
	for p, want := range map[string]int64{"same": first, "changed": second, "added": second} {
		if got := at(v2, p); got != want {
			t.Errorf("%s has time %d, want %d", p, got, want)
		}
	}
	if v1.Prev != "" || v2.Prev != v1.ID() {
		t.Errorf("bases %q and %q", v1.Prev, v2.Prev)
	}
	// The publisher's clock went back: the time of what changed goes on.
	v3 := mustNew(t, 3, day.Add(-time.Hour), v2, file("same", "1"), file("changed", "3"), file("new", "1"))
	for p, want := range map[string]int64{"same": first, "changed": second + 1, "new": first - 3600} {
		if got := at(v3, p); got != want {
			t.Errorf("with a slow clock, %s has time %d, want %d", p, got, want)
		}
	}
}

func TestManifest_treeDigest(t *testing.T) {
	base := []File{file("a", "1"), file("b/c", "2")}
	m := mustNew(t, 1, day, nil, base...)
	if later := mustNew(t, 2, day.Add(time.Hour), m, base...); later.Tree != m.Tree || later.Digest() == m.Digest() {
		t.Error("the tree digest depends on sequence, base or time, or the manifest's does not")
	}
	if later := mustNew(t, 9, day.Add(time.Hour), nil, base...); later.Tree != m.Tree || later.Files[0].MTime == m.Files[0].MTime {
		t.Error("the tree digest depends on the times of files")
	}
	for what, change := range map[string]func(f *File){
		"path":    func(f *File) { f.Path = "a2" },
		"size":    func(f *File) { f.Size++ },
		"content": func(f *File) { f.Digest[0]++ },
		"mode":    func(f *File) { f.Exec = true },
		"type":    func(f *File) { f.Type = "text/plain" },
	} {
		files := []File{base[0], base[1]}
		change(&files[0])
		if mustNew(t, 1, day, nil, files...).Tree == m.Tree {
			t.Errorf("the tree digest does not depend on the %s", what)
		}
	}
}

func TestNew_refuses(t *testing.T) {
	ok := mustNew(t, 5, day, nil, file("a", "1"))
	with := func(change func(*File)) []File { f := file("a", "1"); change(&f); return []File{f} }
	huge := make([]File, 11)
	for i := range huge {
		huge[i] = File{Path: string(rune('a' + i)), Size: MaxFileSize}
	}
	tooMany := make([]File, MaxFiles+1)
	for i := range tooMany {
		tooMany[i].Path = fmt.Sprintf("%06d", i)
	}
	for _, c := range []struct {
		want  string
		site  Site
		seq   uint64
		at    time.Time
		base  *Manifest
		files []File
	}{
		{"site", "W", 6, day, nil, ok.Files},
		{"sequence number 0", "www", 0, day, nil, ok.Files},
		{"sequence number 1000000000000000000", "www", maxSeq + 1, day, nil, ok.Files},
		{"time -1", "www", 6, time.Unix(-1, 0), nil, ok.Files},
		{"time 253402300800", "www", 6, time.Unix(maxTime+1, 0), nil, ok.Files},
		{"no files", "www", 6, day, nil, nil},
		{"the base is of site", "docs", 6, day, ok, ok.Files},
		{"cannot have the base", "www", 5, day, ok, ok.Files},
		{"size -1", "www", 6, day, nil, with(func(f *File) { f.Size = -1 })},
		{"size 2147483649", "www", 6, day, nil, with(func(f *File) { f.Size = MaxFileSize + 1 })},
		{"the site is larger", "www", 6, day, nil, huge},
		{"media type", "www", 6, day, nil, with(func(f *File) { f.Type = "text/css\r\nX: y" })},
		{"media type", "www", 6, day, nil, with(func(f *File) { f.Type = strings.Repeat("x", 128) })},
		{"media type", "www", 6, day, nil, with(func(f *File) { f.Type = "täxt/css" })},
		{`path "../a"`, "www", 6, day, nil, with(func(f *File) { f.Path = "../a" })},
		{"does not come after", "www", 6, day, nil, filesAt("b", "a", "b")},
		{"where case does not count", "www", 6, day, nil, filesAt("B", "a", "b")},
		{"needs a directory", "www", 6, day, nil, filesAt("a", "a-", "a/b")},
		{"more than 200000 files", "www", 6, day, nil, tooMany},
	} {
		_, err := New(c.site, c.seq, c.at, c.base, c.files)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	if m, err := New("www", 6, day, nil, huge[:10]); err != nil || m.Bytes != MaxSiteSize {
		t.Errorf("a site of just the largest size: %v", err)
	}
}
