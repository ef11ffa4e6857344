package nodeagent

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	brotlicoder "github.com/andybalholm/brotli"
	zstdcoder "github.com/klauspost/compress/zstd"

	"relman/release"
)

// workshop is a process that makes variants for a site, one pass when it is
// told to, and serves them.
type workshop struct {
	*variants
	t      testing.TB
	dir    string
	maker  *maker
	told   *bytes.Buffer // the log
	front  *Front
	server *Server
	pokes  int
}

// openWorkshop begins as a process does, on what the directory has.
func openWorkshop(t testing.TB, dir string) *workshop {
	t.Helper()
	site, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{t: t, dir: dir, told: &bytes.Buffer{}, front: NewFront(www), server: NewServer(nil)}
	cfg := &Config{point: func(string) error { return nil }, sync: func(*os.File) error { return nil }}
	w.variants = newVariants(slog.New(slog.NewTextHandler(w.told, nil)), cfg, newAside(), func() { w.pokes++ })
	w.maker = newMaker(w.variants, site)
	w.server.Add(w.front)
	t.Cleanup(func() {
		w.maker.leave()
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if err := site.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// show has releases held, and the first one shown.
func (w *workshop) show(held ...*Release) {
	for _, r := range held {
		r.variants = w.variants
	}
	w.front.Show(held[0], 1)
	w.hold(held)
}

// pass makes what is to be made.
func (w *workshop) pass() {
	w.t.Helper()
	if err := w.maker.pass(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition.
func (w *workshop) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal(what)
		}
	}
}

func (w *workshop) isUndone() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.undone
}

// files are the names in the directory of the variants.
func (w *workshop) files() []string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, variantsDir))
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// of is the name of a file's variant on the disk.
func (w *workshop) of(content string, c coding) string {
	w.t.Helper()
	begin := release.Sum([]byte(content)).Hex() + "-" + c.String() + "-"
	for _, name := range w.files() {
		if strings.HasPrefix(name, begin) {
			return filepath.Join(w.dir, variantsDir, name)
		}
	}
	w.t.Fatalf("no %s of %.20q in %q", c, content, w.files())
	return ""
}

// lines counts what the log has of a message.
func (w *workshop) lines(message string) int { return strings.Count(w.told.String(), message) }

// expect asks for a file and compares how it comes, and what it is.
func (w *workshop) expect(path, accept, content string, c coding) *httptest.ResponseRecorder {
	w.t.Helper()
	var headers []string
	if accept != "" {
		headers = []string{"Accept-Encoding", accept}
	}
	r := ask(w.server, "GET", "/"+path, headers...)
	h, coded := r.Header(), ""
	etag := `"` + release.Sum([]byte(content)).Hex()
	if c != noCoding {
		coded, etag = c.String(), etag+"-"+c.String()
	}
	body, err := decode(r.Body.Bytes(), h.Get("Content-Encoding"))
	if r.Code != 200 || err != nil || string(body) != content {
		w.t.Errorf("%s, %q: %d, %d bytes that are %d, want %d: %v", path, accept, r.Code, r.Body.Len(), len(body), len(content), err)
	}
	if h.Get("Content-Encoding") != coded || h.Get("Etag") != etag+`"` || h.Get("Content-Length") != fmt.Sprint(r.Body.Len()) {
		w.t.Errorf("%s, %q: headers %v, want coding %q", path, accept, h, coded)
	}
	return r
}

// decode undoes a coding, as a client does.
func decode(b []byte, coding string) ([]byte, error) {
	switch coding {
	case "":
		return b, nil
	case "br":
		return io.ReadAll(brotlicoder.NewReader(bytes.NewReader(b)))
	case "zstd":
		r, err := zstdcoder.NewReader(bytes.NewReader(b), zstdcoder.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	case "gzip":
		r, err := stdgzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("coding %q", coding)
}

// encode is what a build does.
func encode(t testing.TB, content string, c coding) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch c {
	case brotli:
		w = brotlicoder.NewWriter(&b)
	case zstandard:
		z, err := zstdcoder.NewWriter(&b, zstdcoder.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		w = stdgzip.NewWriter(&b)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// prose is text that compresses as text does; every seed has its own.
func prose(seed uint64, size int) string {
	words := strings.Fields("release node site page the of a flip every buffer holds manifest reader writes and is not to be served style body color width")
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "<p>%s %d</p>\n", words[r.IntN(len(words))]+" "+words[r.IntN(len(words))], r.IntN(1000))
	}
	return b.String()[:size]
}

// noise does not compress.
func noise(size int) string {
	b, r := make([]byte, size), rand.NewChaCha8([32]byte{1})
	if _, err := r.Read(b); err != nil {
		panic(err)
	}
	return string(b)
}

// siteRelease is a release of these files, on the disk.
func siteRelease(t testing.TB, seq uint64, files map[string]string) *Release {
	t.Helper()
	return testRelease(t, www, seq, files)
}

// rewrite changes a file that nobody changes.
func rewrite(t testing.TB, name string, change func(b []byte) []byte) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(slices.Clone(b)), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, info.Mode()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
}
