package nodeagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVariants_supplied: what the build has beside a file is sent in its place,
// whatever the file is, and the node makes what is missing.
func TestVariants_supplied(t *testing.T) {
	js, tiny, font := prose(1, 20_000), strings.Repeat("tiny", 20), prose(2, 5000)
	files := map[string]string{
		"app.js": js, "app.js.br": encode(t, js, brotli), "app.js.gz": encode(t, js, gzipped),
		"all.css": js, "all.css.br": encode(t, js, brotli), "all.css.zst": encode(t, js, zstandard), "all.css.gz": encode(t, js, gzipped),
		"tiny.txt": tiny, "tiny.txt.gz": encode(t, tiny, gzipped),
		"font.bin": font, "font.bin.br": encode(t, font, brotli), "alone.br": "alone", "alone.txt.gz": "alone",
	}
	w := openWorkshop(t, t.TempDir())
	r := siteRelease(t, 1, files)
	w.show(r)
	if got := w.expect("tiny.txt", everything, tiny, noCoding).Header().Get("Vary"); got != "Accept-Encoding" {
		t.Errorf("Vary is %q", got) // it will
	}
	w.pass()
	for _, c := range []struct {
		path, accept, content string
		want                  coding
		sent                  string // which file of the build
	}{
		{"app.js", everything, js, brotli, "app.js.br"},
		{"app.js", "zstd", js, zstandard, ""},
		{"app.js", "gzip", js, gzipped, "app.js.gz"},
		{"app.js", "", js, noCoding, "app.js"},
		{"all.css", "zstd", js, zstandard, "all.css.zst"},
		{"all.css", "br;q=0.5, zstd;q=0.6", js, zstandard, "all.css.zst"},
		{"tiny.txt", everything, tiny, gzipped, "tiny.txt.gz"},
		{"tiny.txt", "br", tiny, noCoding, "tiny.txt"},
		{"font.bin", everything, font, brotli, "font.bin.br"},
		{"font.bin", "gzip", font, noCoding, "font.bin"},
		{"app.js.br", everything, files["app.js.br"], noCoding, "app.js.br"},
		{"alone.txt.gz", everything, "alone", noCoding, "alone.txt.gz"},
	} {
		got := w.expect(c.path, c.accept, c.content, c.want)
		if c.sent != "" && got.Body.String() != files[c.sent] {
			t.Errorf("%s, %q: not %s is sent", c.path, c.accept, c.sent)
		}
		if _, typed := files[c.path+".br"]; typed && got.Header().Get("Content-Type") != mediaType(c.path) {
			t.Errorf("%s: type %s", c.path, got.Header().Get("Content-Type"))
		}
	}
	if n, _ := w.size(); n != 1 || len(w.files()) != 1 || w.told.Len() > 0 { // the zstd of app.js
		t.Errorf("%d made: %q, log %s", n, w.files(), w.told)
	}
	// One that cannot be read any more is not sent, and the agent is told.
	must(t, os.Remove(filepath.Join(r.root.Name(), "tiny.txt.gz")))
	w.expect("tiny.txt", everything, tiny, noCoding)
	if w.pokes != 1 || !r.suspect.Load() {
		t.Errorf("%d pokes", w.pokes)
	}
	// Nothing of it is remembered for long.
	w.show(siteRelease(t, 2, map[string]string{"index.html": "new"}))
	w.pass()
	if len(w.supplied) != 0 || len(w.files()) != 0 {
		t.Errorf("%v, files %q", w.supplied, w.files())
	}
}

// TestVariants_supplied_wrong: a file that is no variant of its neighbour is a
// file like any other. The log says so once.
func TestVariants_supplied_wrong(t *testing.T) {
	text, old := prose(1, 20_000), prose(2, 20_000)
	gz, zst, br := encode(t, text, gzipped), encode(t, text, zstandard), encode(t, text, brotli)
	half := len(text) / 2
	for name, c := range map[string]struct {
		suffix, content string
	}{
		"of an older file":    {".gz", encode(t, old, gzipped)},
		"of an older file br": {".br", encode(t, old, brotli)},
		"of the beginning":    {".zst", encode(t, text[:half], zstandard)},
		"of more":             {".br", encode(t, text+"more", brotli)},
		"bomb":                {".gz", encode(t, strings.Repeat("\x00", 10<<20), gzipped)},
		"bomb zst":            {".zst", encode(t, strings.Repeat("\x00", 100<<20), zstandard)},
		"another coding":      {".br", gz},
		"no coding":           {".zst", "it is this text"},
		"cut off gz":          {".gz", gz[:len(gz)-4]},
		"cut off zst":         {".zst", zst[:len(zst)-4]},
		"cut off br":          {".br", br[:len(br)-4]},
		"more after gz":       {".gz", gz + "more"},
		"more after zst":      {".zst", zst + "more"},
		"more after br":       {".br", br + "more"},
		"two members":         {".gz", encode(t, text[:half], gzipped) + encode(t, text[half:], gzipped)}, // browsers read the first
		"flipped":             {".gz", gz[:100] + "?" + gz[101:]},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorkshop(t, t.TempDir())
			r1 := siteRelease(t, 1, map[string]string{"a.txt": text, "a.txt" + c.suffix: c.content})
			w.show(r1)
			w.pass()
			r2 := siteRelease(t, 2, map[string]string{"a.txt": text, "a.txt" + c.suffix: c.content, "b.txt": "b"})
			w.show(r2, r1)
			w.pass()
			w.expect("a.txt", "br", text, noCoding)
			w.expect("a.txt", "zstd", text, zstandard)
			w.expect("a.txt", "gzip", text, gzipped)
			w.expect("a.txt"+c.suffix, everything, c.content, noCoding)
			if w.lines("no variant of its neighbour") != 1 || w.pokes != 0 || r1.suspect.Load() {
				t.Errorf("%d pokes, log %s", w.pokes, w.told)
			}
		})
	}
}

// TestVariants_supplied_damaged: what has rotted on this disk is not the build's
// fault. After the repair it is looked at again.
func TestVariants_supplied_damaged(t *testing.T) {
	text := prose(1, 20_000)
	r := siteRelease(t, 1, map[string]string{"a.txt": text, "a.txt.br": encode(t, text, brotli)})
	name := filepath.Join(r.root.Name(), "a.txt.br")
	rewrite(t, name, func(b []byte) []byte { b[50] ^= 1; return b })
	w := openWorkshop(t, t.TempDir())
	w.show(r)
	w.pass()
	w.expect("a.txt", "br", text, noCoding)
	if w.pokes != 1 || !r.suspect.Load() || w.lines("neighbour") != 0 {
		t.Errorf("%d pokes, log %s", w.pokes, w.told)
	}
	rewrite(t, name, func(b []byte) []byte { b[50] ^= 1; return b })
	w.pass()
	w.expect("a.txt", "br", text, brotli)
}
