package nodeagent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"relman/release"
)

// TestVariants_restart: what a process before has made is used again, after it
// was read; what has happened to it meanwhile is never sent.
func TestVariants_restart(t *testing.T) {
	content, other := prose(1, 50_000), prose(2, 2000)
	for name, c := range map[string]struct {
		damage func(t *testing.T, w *workshop, name string)
		drawn  int // anew
		lines  int
	}{
		"nothing": {func(*testing.T, *workshop, string) {}, 0, 0},
		"truncated": {func(t *testing.T, _ *workshop, name string) {
			rewrite(t, name, func(b []byte) []byte { return b[:len(b)/2] })
		}, 1, 1},
		"empty": {func(t *testing.T, _ *workshop, name string) { rewrite(t, name, func([]byte) []byte { return nil }) }, 1, 1},
		"longer": {func(t *testing.T, _ *workshop, name string) {
			rewrite(t, name, func(b []byte) []byte { return append(b, 0) })
		}, 1, 1},
		"zeros": {func(t *testing.T, _ *workshop, name string) {
			rewrite(t, name, func(b []byte) []byte { clear(b[len(b)/2:]); return b })
		}, 1, 1},
		"bit": {func(t *testing.T, _ *workshop, name string) {
			rewrite(t, name, func(b []byte) []byte { b[len(b)-1] ^= 0x10; return b })
		}, 1, 1},
		"gone":      {func(t *testing.T, _ *workshop, name string) { must(t, os.Remove(name)) }, 1, 0},
		"directory": {func(t *testing.T, _ *workshop, name string) { must(t, os.Remove(name), os.Mkdir(name, 0o755)) }, 1, 0},
		"pipe":      {func(t *testing.T, _ *workshop, name string) { must(t, os.Remove(name), syscall.Mkfifo(name, 0o644)) }, 1, 0},
		"link": {func(t *testing.T, _ *workshop, name string) {
			must(t, os.Rename(name, name+".tmp"), os.Symlink(filepath.Base(name)+".tmp", name))
		}, 1, 0},
		"of another": {func(t *testing.T, w *workshop, name string) {
			from, err := os.ReadFile(w.of(other, zstandard))
			must(t, err)
			rewrite(t, name, func([]byte) []byte { return from })
		}, 1, 1},
		"strays": {func(t *testing.T, w *workshop, name string) {
			dir := filepath.Join(w.dir, variantsDir)
			must(t, os.WriteFile(filepath.Join(dir, "7.tmp"), []byte("half"), 0o444), os.WriteFile(name+"0", nil, 0o444),
				os.WriteFile(filepath.Join(dir, "sha256:"+filepath.Base(name)), nil, 0o444), os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		}, 0, 0},
		"all": {func(t *testing.T, w *workshop, _ string) { must(t, os.RemoveAll(filepath.Join(w.dir, variantsDir))) }, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := siteRelease(t, 1, map[string]string{"index.html": content, "other.html": other})
			before := openWorkshop(t, dir)
			before.show(r)
			before.pass()
			names := before.files()
			c.damage(t, before, before.of(content, zstandard))

			w := openWorkshop(t, dir)
			w.show(r)
			w.expect("", everything, content, noCoding) // not read yet
			w.pass()
			w.expect("", everything, content, zstandard)
			w.expect("", "gzip", content, gzipped)
			w.expect("other.html", everything, other, zstandard)
			if w.maker.drawn != c.drawn || w.lines("not as it was written") != c.lines {
				t.Errorf("%d drawn, log %s", w.maker.drawn, w.told)
			}
			if n, _ := w.size(); n != 4 || !slices.Equal(w.files(), names) {
				t.Errorf("%d variants: %q", n, w.files())
			}
		})
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestVariants_crash: whatever a crash leaves, before a batch is durable none
// of it is a variant, and after that all of it is whole.
func TestVariants_crash(t *testing.T) {
	content := prose(1, 50_000)
	r := siteRelease(t, 1, map[string]string{"index.html": content, "a.css": prose(2, 5000)})
	for point, drawn := range map[string]int{"node.before-variants-sync": 4, "node.after-variants-sync": 4, "": 0} {
		before := openWorkshop(t, t.TempDir())
		after := t.TempDir()
		copied := 0
		before.point = func(name string) error {
			if name == point {
				copied++
				return os.CopyFS(after, os.DirFS(before.dir))
			}
			return nil
		}
		before.show(r)
		before.pass()
		if point == "" {
			must(t, os.CopyFS(after, os.DirFS(before.dir)))
		} else if copied != 1 {
			t.Fatalf("%s: passed %d times", point, copied)
		}
		entries, err := os.ReadDir(filepath.Join(after, variantsDir))
		must(t, err)
		for _, e := range entries {
			name := filepath.Join(after, variantsDir, e.Name())
			if strings.HasSuffix(name, ".tmp") != (point != "") {
				t.Errorf("%s: %s", point, name)
			}
			if point == "node.before-variants-sync" { // its bytes may be anything
				must(t, os.Truncate(name, 100))
			}
		}
		if len(entries) != 4 {
			t.Errorf("%s: %d files", point, len(entries))
		}
		w := openWorkshop(t, after)
		w.show(r)
		w.pass()
		w.expect("", everything, content, zstandard)
		if n, _ := w.size(); n != 4 || len(w.files()) != 4 || w.maker.drawn != drawn {
			t.Errorf("%s: %d variants, %d drawn, files %q", point, n, w.maker.drawn, w.files())
		}
	}
}

// TestVariants_lost: one that is damaged while the process runs is not sent,
// is told of once, and is made anew.
func TestVariants_lost(t *testing.T) {
	content := prose(1, 50_000)
	w := openWorkshop(t, t.TempDir())
	w.show(siteRelease(t, 1, map[string]string{"index.html": content}))
	w.pass()
	for i, damage := range []func(name string){
		func(name string) { must(t, os.Remove(name)) },
		func(name string) { must(t, os.Chmod(name, 0o644), os.Truncate(name, 10)) },
		func(name string) { must(t, os.Remove(name), os.Mkdir(name, 0o755)) },
	} {
		damage(w.of(content, zstandard))
		for range 3 {
			r := ask(w.server, "GET", "/", "Accept-Encoding", "zstd")
			if r.Code != 200 || r.Body.String() != content || r.Header().Get("Content-Encoding") != "" {
				t.Errorf("%d: %d, %v", i, r.Code, r.Header())
			}
		}
		w.expect("", everything, content, gzipped)
		if n, _ := w.size(); n != 1 || w.lines("made anew") != i+1 {
			t.Errorf("%d: %d variants, log %s", i, n, w.told)
		}
		select {
		case <-w.wake:
		default:
			t.Errorf("%d: nobody looks", i)
		}
		w.pass()
		w.expect("", everything, content, zstandard)
	}
}

// TestVariants_doubted: what cannot be proven to be the file is not used.
func TestVariants_doubted(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	w.show(siteRelease(t, 1, map[string]string{"index.html": prose(1, 50_000)}))
	w.pass()
	f := release.File{Path: "index.html", Size: 50_000, Digest: release.Sum([]byte(prose(1, 50_000)))}
	for _, c := range []coding{zstandard, gzipped} {
		file, err := os.Open(w.of(prose(1, 50_000), c))
		must(t, err)
		if err := w.maker.decodes(t.Context(), c, file, f); err != nil {
			t.Error(err)
		}
		_, err = file.Seek(0, 0)
		must(t, err)
		wrong := f
		wrong.Digest[0] ^= 1
		if err := w.maker.decodes(t.Context(), c, file, wrong); !errors.Is(err, errOther) {
			t.Error(err)
		}
		must(t, file.Close())
	}
}
