package nodeagent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"relman/release"
)

const everything = "gzip, deflate, br, zstd"

// TestVariants_made: what is text and large enough comes in the coding that the
// client likes best, and is what the release has, to the byte.
func TestVariants_made(t *testing.T) {
	files := map[string]string{
		"index.html": prose(1, 3000), "a.css": prose(2, 1024), "a.js": prose(3, 100_000), "a.json": prose(4, 2000), "a.xml": prose(5, 2000),
		"a.svg": prose(6, 2000), "a.wasm": prose(7, 300_000), "a.txt": strings.Repeat("a", 1<<20), "feed.atom": prose(8, 5000),
		"sub/copy.js": prose(3, 100_000),
		"small.css":   prose(2, 1023), "photo.jpg": prose(9, 5000), "noise.txt": noise(5000), "LICENSE": prose(10, 5000), "empty.txt": "",
	}
	w := openWorkshop(t, t.TempDir())
	w.show(siteRelease(t, 1, files))
	for path, content := range files {
		w.expect(path, everything, content, noCoding) // nothing is made yet
	}
	w.pass()
	var count int
	var total int64
	for path, content := range files {
		zstd, gzip, vary := zstandard, gzipped, "Accept-Encoding"
		switch path {
		case "small.css", "photo.jpg", "LICENSE", "empty.txt":
			zstd, gzip, vary = noCoding, noCoding, ""
		case "noise.txt":
			zstd, gzip = noCoding, noCoding
		}
		for _, r := range []*httptest.ResponseRecorder{
			w.expect(path, "", content, noCoding),
			w.expect(path, "br", content, noCoding),
			w.expect(path, "identity", content, noCoding),
			w.expect(path, everything, content, zstd),
			w.expect(path, "zstd", content, zstd),
			w.expect(path, "gzip", content, gzip),
			w.expect(path, "gzip, zstd;q=0.5", content, gzip),
		} {
			if h := r.Header(); h.Get("Vary") != vary || h.Get("Cache-Control") != "no-cache" || h.Get("Content-Type") != mediaType(path) {
				t.Errorf("%s: headers %v", path, h)
			}
			if c := r.Header().Get("Content-Encoding"); c != "" && r.Body.Len()*10 > len(content)*9 {
				t.Errorf("%s: %d bytes instead of %d are not worth it", path, r.Body.Len(), len(content))
			}
		}
		if zstd != noCoding && path != "sub/copy.js" {
			for _, accept := range []string{"zstd", "gzip"} {
				count++
				total += int64(ask(w.server, "GET", "/"+path, "Accept-Encoding", accept).Body.Len())
			}
		}
	}
	if n, bytes := w.size(); n != count || bytes != total || len(w.files()) != count {
		t.Errorf("%d variants of %d bytes, want %d of %d; on the disk %q", n, bytes, count, total, w.files())
	}
	before := w.files()
	w.pass()
	if !slices.Equal(w.files(), before) || w.maker.drawn != count+2 { // and those of noise, once
		t.Errorf("%d drawn, files %q", w.maker.drawn, w.files())
	}
}

// TestVariants_http: what HTTP wants of an answer in another coding.
func TestVariants_http(t *testing.T) {
	content := prose(1, 50_000)
	w := openWorkshop(t, t.TempDir())
	w.show(siteRelease(t, 1, map[string]string{"index.html": content}))
	w.pass()
	full := w.expect("", "gzip", content, gzipped)
	etag, plain := full.Header().Get("Etag"), `"`+release.Sum([]byte(content)).Hex()+`"`
	for _, c := range []struct {
		method  string
		headers []string
		code    int
		etag    string
		coding  string
		length  string
		body    int
	}{
		{"HEAD", nil, 200, etag, "gzip", full.Header().Get("Content-Length"), 0},
		{"GET", []string{"If-None-Match", etag}, 304, etag, "", "", 0},
		{"HEAD", []string{"If-None-Match", etag}, 304, etag, "", "", 0},
		{"GET", []string{"If-None-Match", plain}, 200, etag, "gzip", full.Header().Get("Content-Length"), full.Body.Len()},
		{"GET", []string{"If-Match", plain}, 412, etag, "", "", 0},
		{"GET", []string{"If-Match", etag}, 200, etag, "gzip", full.Header().Get("Content-Length"), full.Body.Len()},
		{"GET", []string{"Range", "bytes=10-19"}, 206, plain, "", "10", 10},
		{"GET", []string{"Range", "bytes=10-19", "If-Range", plain}, 206, plain, "", "10", 10},
		{"GET", []string{"Range", "bytes=10-19", "If-Range", etag}, 200, plain, "", "50000", 50_000},
	} {
		r := ask(w.server, c.method, "/", append(c.headers, "Accept-Encoding", "gzip")...)
		h := r.Header()
		if r.Code != c.code || h.Get("Etag") != c.etag || h.Get("Content-Encoding") != c.coding || h.Get("Content-Length") != c.length ||
			h.Get("Vary") != "Accept-Encoding" || r.Body.Len() != c.body {
			t.Errorf("%s %v: %d, %d bytes, headers %v; want %+v", c.method, c.headers, r.Code, r.Body.Len(), h, c)
		}
		if r.Code == 206 && r.Body.String() != content[10:20] {
			t.Errorf("range: %q", r.Body)
		}
	}
}

// TestVariants_connection: a variant goes over a real connection with its
// length, and leaves it usable.
func TestVariants_connection(t *testing.T) {
	content := prose(1, 500_000)
	w := openWorkshop(t, t.TempDir())
	w.show(siteRelease(t, 1, map[string]string{"index.html": content}))
	w.pass()
	s := httptest.NewServer(w.server)
	defer s.Close()
	client := s.Client()
	for _, match := range []string{"", `"other"`, ""} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "zstd")
		if match != "" {
			req.Header.Set("If-Match", match)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		want := 200
		if match != "" {
			want = 412
		}
		if resp.StatusCode != want || want == 200 && (resp.ContentLength <= 0 || len(resp.TransferEncoding) > 0) {
			t.Errorf("%d, length %d, %v", resp.StatusCode, resp.ContentLength, resp.TransferEncoding)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	client.CloseIdleConnections()
}

// TestVariants_pick_allocates: who gets the file itself pays nothing for it.
func TestVariants_pick_allocates(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	r := siteRelease(t, 1, map[string]string{"photo.jpg": prose(1, 5000), "noise.txt": noise(5000), "a.html": prose(1, 5000)})
	w.show(r)
	w.pass()
	for _, f := range r.manifest.Files {
		if n := testing.AllocsPerRun(100, func() { w.pick(r, f, everything) }); n != 0 {
			t.Errorf("%s: %v allocations", f.Path, n)
		}
	}
}

// TestVariants_gone: what no release has any more goes, what another one has
// stays, and who opened a variant reads it to its end.
func TestVariants_gone(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	both, first, second := prose(1, 5000), prose(2, 5000), prose(3, 5000)
	r1 := siteRelease(t, 1, map[string]string{"both.html": both, "x.html": first, "old.html": prose(4, 5000)})
	r2 := siteRelease(t, 2, map[string]string{"moved.html": both, "x.html": second})
	w.show(r1, r2)
	w.pass()
	if n, _ := w.size(); n != 8 {
		t.Fatalf("%d variants: %q", n, w.files())
	}
	f, ok := r1.manifest.Lookup("x.html")
	choice, _, picked := w.pick(r1, f, "gzip")
	if !ok || !picked {
		t.Fatal("no variant")
	}
	open, err := w.open(r1, f, choice)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	w.show(r2)
	w.pass()
	if n, _ := w.size(); n != 4 || len(w.files()) != 4 {
		t.Errorf("%d variants: %q", n, w.files())
	}
	w.expect("moved.html", everything, both, zstandard)
	w.expect("x.html", everything, second, zstandard)
	raw := make([]byte, choice.made.size)
	if _, err := open.ReadAt(raw, 0); err != nil {
		t.Error(err)
	}
	if body, err := decode(raw, "gzip"); err != nil || string(body) != first {
		t.Errorf("%d bytes: %v", len(body), err)
	}
	// A request that still has the old release gets the file itself.
	w.front.Show(r1, 1)
	w.expect("x.html", everything, first, noCoding)
	if file, err := w.open(r1, f, choice); err == nil {
		t.Errorf("%s is open", file.Name())
	}
	if w.told.Len() > 0 {
		t.Errorf("log: %s", w.told)
	}
}

// TestVariants_source: nothing is made of a file that is not as it was
// verified, and the agent is told.
func TestVariants_source(t *testing.T) {
	content := prose(1, 5000)
	r := siteRelease(t, 1, map[string]string{"a.html": content, "b.html": prose(2, 5000), "c.html": prose(3, 5000)})
	rewrite(t, filepath.Join(r.root.Name(), "a.html"), func(b []byte) []byte { b[100] ^= 1; return b })
	if err := os.Remove(filepath.Join(r.root.Name(), "b.html")); err != nil {
		t.Fatal(err)
	}
	w := openWorkshop(t, t.TempDir())
	w.show(r)
	w.pass()
	if n, _ := w.size(); n != 2 || w.pokes != 1 || !r.suspect.Load() || w.lines("not as verified") != 1 || !w.isUndone() {
		t.Errorf("%d variants, %d pokes, log %s", n, w.pokes, w.told)
	}
	w.expect("c.html", everything, prose(3, 5000), zstandard)
	if len(w.files()) != 2 {
		t.Errorf("files %q", w.files())
	}
}

// TestVariants_givenUp: a release that is given up in the middle is no trouble.
func TestVariants_givenUp(t *testing.T) {
	r1 := siteRelease(t, 1, map[string]string{"a.html": prose(1, 5000)})
	r2 := siteRelease(t, 2, map[string]string{"b.html": prose(2, 5000)})
	w := openWorkshop(t, t.TempDir())
	w.show(r2, r1)
	if err := r1.Close(); err != nil {
		t.Fatal(err)
	}
	w.pass()
	if n, _ := w.size(); n != 2 || w.told.Len() > 0 {
		t.Errorf("%d variants, log %s", n, w.told)
	}
}

// TestVariants_full: a disk without room has no variants. The log says so once,
// files are served, and when there is room again there are variants.
func TestVariants_full(t *testing.T) {
	content := prose(1, 50_000)
	full := func(*os.File) (int64, int64, error) { return 2*batchBytes + 49_999, -1, nil }
	fewInodes := func(*os.File) (int64, int64, error) { return 1 << 40, 5, nil }
	for name, spoil := range map[string]func(w *workshop){
		"bytes":  func(w *workshop) { w.room = full },
		"inodes": func(w *workshop) { w.room = fewInodes },
		"sync":   func(w *workshop) { w.sync = func(*os.File) error { return syscall.ENOSPC } },
		"point": func(w *workshop) {
			w.point = func(string) error { return &os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT} }
		},
		"directory": func(w *workshop) {
			if err := os.WriteFile(filepath.Join(w.dir, variantsDir), nil, 0o444); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorkshop(t, t.TempDir())
			room, sync, point := w.room, w.sync, w.point
			spoil(w)
			w.show(siteRelease(t, 1, map[string]string{"index.html": content}))
			if name != "directory" { // which is put right
				for range 3 {
					if err := w.maker.pass(t.Context()); classOf(err) != ClassNoSpace {
						t.Fatal(err)
					}
					w.expect("", everything, content, noCoding)
					if n, bytes := w.size(); n != 0 || bytes != 0 || len(w.files()) != 0 || !w.undone {
						t.Fatalf("%d variants, %d bytes, files %q", n, bytes, w.files())
					}
				}
			}
			w.room, w.sync, w.point = room, sync, point
			w.pass()
			w.expect("", everything, content, zstandard)
		})
	}
}

// TestVariants_run: it tells of trouble once, goes on when it is asked to, and
// ends with its context, also in the middle.
func TestVariants_run(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	tries, answers := make(chan bool), make(chan error)
	w.sync = func(*os.File) error {
		tries <- true
		return <-answers
	}
	r := siteRelease(t, 1, map[string]string{"index.html": prose(1, 5000), "big.txt": strings.Repeat(prose(2, 1<<10), 1<<10)})
	w.show(r)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx, w.maker.site)
	}()
	for range 3 {
		<-tries
		answers <- errors.New("broken")
		w.until("gives up", func() bool { return w.isUndone() })
		w.hold([]*Release{r})
	}
	<-tries
	answers <- nil
	w.until("makes", func() bool { n, _ := w.size(); return n == 4 })
	if got := w.lines("variants not made"); got != 1 {
		t.Errorf("%d lines: %s", got, w.told)
	}
	w.hold(nil)
	w.until("removes", func() bool { n, _ := w.size(); return n == 0 })
	w.hold([]*Release{r})
	<-tries
	cancel()
	answers <- context.Canceled
	<-ended
	if len(w.files()) != 0 {
		t.Errorf("files %q", w.files())
	}
}

// TestVariants_giveWay: nothing is done while a buffer is filled, and one site
// works at a time.
func TestVariants_giveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAside()
		p := &pace{aside: a, since: time.Now()}
		a.filling(true)
		a.filling(true)
		rested := make(chan error, 1)
		go func() { rested <- p.rest(t.Context()) }()
		time.Sleep(time.Minute)
		a.filling(false)
		time.Sleep(time.Minute)
		select {
		case err := <-rested:
			t.Errorf("it works beside a fill: %v", err)
		default:
		}
		a.filling(false)
		if err := <-rested; err != nil {
			t.Error(err)
		}
		// It rests three times as long as it has worked.
		began := time.Now()
		p.since = began.Add(-20 * time.Millisecond)
		if err := p.rest(t.Context()); err != nil || time.Since(began) != 60*time.Millisecond {
			t.Errorf("rested %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := a.do(ctx, func() error {
			ended := make(chan error)
			go func() { ended <- a.do(ctx, func() error { return errors.New("two at a time") }) }()
			time.Sleep(time.Minute)
			cancel()
			return <-ended
		}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		a.filling(true)
		if err := p.rest(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
