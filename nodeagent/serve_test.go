package nodeagent

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/release"
)

// testRelease writes files to a fresh directory and opens them as a release.
func testRelease(t testing.TB, site release.Site, seq uint64, files map[string]string) *Release {
	t.Helper()
	dir := t.TempDir()
	var list []release.File
	for name, content := range files {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(to, []byte(content), 0o444), os.Chmod(to, 0o444)); err != nil {
			t.Fatal(err)
		}
		list = append(list, release.File{Path: name, Size: int64(len(content)), Digest: release.Sum([]byte(content))})
	}
	m, err := release.New(site, seq, time.Unix(1_700_000_000, 0), nil, list)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files { // they have the release's time
		at := time.Unix(f.MTime, 0)
		if err := os.Chtimes(filepath.Join(dir, filepath.FromSlash(f.Path)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenRelease(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n := r.refs.Load(); n != 0 {
			t.Errorf("release %s: %d references were never given back", r.ID(), n)
		}
	})
	return r
}

// ask sends one request to a handler.
func ask(h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func testServer(t testing.TB) (*Server, *Front, *Release) {
	t.Helper()
	rel := testRelease(t, "www", 7, map[string]string{
		"index.html":      "<h1>home</h1>",
		"docs/index.html": "<h1>docs</h1>",
		"css/app.css":     "body{}",
		"odd name.txt":    "odd",
		"LICENSE":         "free",
		"404.html":        "<h1>not here</h1>",
	})
	f := NewFront("www")
	f.Show(rel, 57)
	f.SetConfirmed(true)
	s := NewServer(nil)
	s.Add(f)
	return s, f, rel
}

func TestServe(t *testing.T) {
	s, _, _ := testServer(t)
	for _, c := range []struct {
		method, target string
		code           int
		body, kind     string
		location       string
	}{
		{"GET", "/", 200, "<h1>home</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/index.html", 200, "<h1>home</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/docs/", 200, "<h1>docs</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/docs", 308, "", "", "docs/"},
		{"GET", "/docs?a=b&c", 308, "", "", "docs/?a=b&c"},
		{"GET", "/css/app.css", 200, "body{}", "text/css; charset=utf-8", ""},
		{"GET", "/odd%20name.txt", 200, "odd", "text/plain; charset=utf-8", ""},
		{"GET", "/LICENSE", 200, "free", "application/octet-stream", ""},
		{"HEAD", "/", 200, "", "text/html; charset=utf-8", ""},
		{"HEAD", "/nothing", 404, "", "text/html; charset=utf-8", ""},
		{"GET", "/nothing", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/css/", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/css", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"GET", "/../serve.go", 404, "404 page not found\n", "text/plain; charset=utf-8", ""},
		{"GET", "/css/../index.html", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"GET", "//index.html", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"GET", "//docs", 404, "<h1>not here</h1>", "text/html; charset=utf-8", ""},
		{"POST", "/", 405, "only GET and HEAD are answered here\n", "text/plain; charset=utf-8", ""},
	} {
		r := ask(s, c.method, c.target)
		if got := r.Body.String(); r.Code != c.code || got != c.body || r.Header().Get("Content-Type") != c.kind || r.Header().Get("Location") != c.location {
			t.Errorf("%s %s: %d %q, type %q, location %q; want %d %q %q %q", c.method, c.target,
				r.Code, got, r.Header().Get("Content-Type"), r.Header().Get("Location"), c.code, c.body, c.kind, c.location)
		}
		if r.Code == 405 {
			if r.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: Allow is %q", c.method, c.target, r.Header().Get("Allow"))
			}
			continue
		}
		if r.Header().Get("Relman-Epoch") != "57" || !strings.HasPrefix(r.Header().Get("Relman-Release"), "000007-") || r.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers %v", c.method, c.target, r.Header())
		}
	}
}

// TestServe_notInManifest: what lies on the disk and is not in the manifest
// does not exist.
func TestServe_notInManifest(t *testing.T) {
	s, _, rel := testServer(t)
	dir := rel.root.Name()
	if err := os.WriteFile(filepath.Join(dir, "secret.html"), []byte("secret"), 0o444); err != nil {
		t.Fatal(err)
	}
	if r := ask(s, "GET", "/secret.html"); r.Code != 404 {
		t.Errorf("a file that is not in the manifest: %d", r.Code)
	}
}

// TestServe_damaged: a file that is gone, has another length or leads out of
// the tree is an error, and not a short or strange answer.
func TestServe_damaged(t *testing.T) {
	s, _, rel := testServer(t)
	dir := rel.root.Name()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("body{}"), 0o444); err != nil {
		t.Fatal(err)
	}
	css := filepath.Join(dir, "css", "app.css")
	for name, damage := range map[string]func() error{
		"gone":    func() error { return nil },
		"longer":  func() error { return os.WriteFile(css, []byte("body{} "), 0o444) },
		"symlink": func() error { return os.Symlink(outside, css) },
		"folder":  func() error { return os.Mkdir(css, 0o755) },
	} {
		if err := os.RemoveAll(css); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if r := ask(s, "GET", "/css/app.css"); r.Code != 500 || r.Header().Get("Etag") != "" {
			t.Errorf("%s: %d, ETag %q", name, r.Code, r.Header().Get("Etag"))
		}
	}
}

func TestServe_conditionalAndRange(t *testing.T) {
	s, _, rel := testServer(t)
	etag := `"` + release.Sum([]byte("<h1>home</h1>")).Hex() + `"`
	r := ask(s, "GET", "/")
	if r.Header().Get("Etag") != etag || r.Header().Get("Last-Modified") != "Tue, 14 Nov 2023 22:13:20 GMT" || r.Header().Get("Content-Length") != "13" || r.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("validators: %v", r.Header())
	}
	for _, c := range []struct {
		headers []string
		code    int
		body    string
	}{
		{[]string{"If-None-Match", etag}, 304, ""},
		{[]string{"If-None-Match", `"x", W/` + etag}, 304, ""},
		{[]string{"If-None-Match", `"x"`}, 200, "<h1>home</h1>"},
		{[]string{"If-Modified-Since", r.Header().Get("Last-Modified")}, 304, ""},
		{[]string{"If-Match", `"x"`}, 412, ""},
		{[]string{"Range", "bytes=4-7"}, 206, "home"},
		{[]string{"Range", "bytes=-5"}, 206, "</h1>"},
		{[]string{"Range", "bytes=99-"}, 416, "invalid range: failed to overlap\n"},
		{[]string{"Range", "bytes=4-7", "If-Range", etag}, 206, "home"},
		{[]string{"Range", "bytes=4-7", "If-Range", `"x"`}, 200, "<h1>home</h1>"},
	} {
		r := ask(s, "GET", "/", c.headers...)
		if got := r.Body.String(); r.Code != c.code || got != c.body {
			t.Errorf("%v: %d %q, want %d %q", c.headers, r.Code, got, c.code, c.body)
		}
		if r.Header().Get("Relman-Release") != string(rel.ID()) {
			t.Errorf("%v: answered by release %q", c.headers, r.Header().Get("Relman-Release"))
		}
	}
}

func TestServe_nothingShown(t *testing.T) {
	s := NewServer(nil)
	if r := ask(s, "GET", "/"); r.Code != 503 {
		t.Errorf("no site: %d", r.Code)
	}
	f := NewFront("www")
	s.Add(f)
	r := ask(s, "GET", "/")
	if got := r.Body.String(); r.Code != 503 || !strings.Contains(got, "site www") || r.Header().Get("Relman-Release") != "" {
		t.Errorf("no release: %d %q", r.Code, got)
	}
	if id, epoch := f.Shown(); id != "" || epoch != 0 {
		t.Errorf("shows %q, epoch %d", id, epoch)
	}
}

func TestServe_unconfirmed(t *testing.T) {
	s, f, _ := testServer(t)
	if got := ask(s, "GET", "/").Header().Get("Relman-State"); got != "" {
		t.Errorf("confirmed: Relman-State %q", got)
	}
	f.SetConfirmed(false)
	if got := ask(s, "GET", "/").Header().Get("Relman-State"); got != "unconfirmed" {
		t.Errorf("unconfirmed: Relman-State %q", got)
	}
}

func TestServer_routes(t *testing.T) {
	s := NewServer(nil)
	for i, site := range []release.Site{"www", "mkt", "doc"} {
		f := NewFront(site)
		f.Show(testRelease(t, site, uint64(i+1), map[string]string{"index.html": string(site)}), 1)
		s.Add(f)
	}
	s.SetHosts(map[string]release.Site{"Marketing.Example.": "mkt", "gone.example": "gone"})
	for host, want := range map[string]string{
		"www.localhost":          "www",
		"mkt.localhost:8081":     "mkt",
		"DOC.Localhost":          "doc",
		"marketing.example":      "mkt",
		"MARKETING.example.:80":  "mkt",
		"nobody.localhost":       "www",
		"gone.example":           "www",
		"127.0.0.1:8081":         "www",
		"[::1]:8081":             "www",
		"mkt.localhost.evil.com": "www",
		"":                       "www",
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Host = host
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, req)
		if got := rec.Body.String(); got != want {
			t.Errorf("host %q leads to %q, want %q", host, got, want)
		}
	}
	again := NewFront("www")
	s.Add(again)
	if r := ask(s, "GET", "/"); r.Code != 503 {
		t.Errorf("the default site was replaced, and still answers: %d", r.Code)
	}
}

func TestServer_metrics(t *testing.T) {
	s, _, _ := testServer(t)
	for _, target := range []string{"/", "/docs", "/nothing", "/docs/"} {
		ask(s, "GET", target)
	}
	reg := prometheus.NewPedanticRegistry()
	for _, c := range s.Collectors() {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			key := family.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"relman_http_requests_total 2xx www":   2,
		"relman_http_requests_total 3xx www":   1,
		"relman_http_requests_total 4xx www":   1,
		"relman_http_requests_total 5xx www":   0,
		"relman_http_response_bytes_total www": float64(len("<h1>home</h1><h1>docs</h1><h1>not here</h1>")),
		"relman_http_broken_files_total www":   0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// readerFrom notes whether a body came as a file.
type readerFrom struct {
	*httptest.ResponseRecorder
	files int
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	if l, ok := src.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			r.files++
		}
	}
	return io.Copy(r.ResponseRecorder, src)
}

// TestServe_sendfile: net/http gets the file itself, so that the kernel sends
// it without a copy.
func TestServe_sendfile(t *testing.T) {
	s, _, _ := testServer(t)
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	s.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.files != 1 || w.Body.String() != "<h1>home</h1>" {
		t.Errorf("%d files handed on, body %q", w.files, w.Body.String())
	}
}
