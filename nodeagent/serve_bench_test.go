package nodeagent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"relman/cluster"
)

// sink takes an answer as net/http's ResponseWriter does, and keeps nothing.
type sink struct {
	head http.Header
	code int
	sent int64
}

func (s *sink) Header() http.Header  { return s.head }
func (s *sink) WriteHeader(code int) { s.code = code }

func (s *sink) Write(b []byte) (int, error) {
	s.sent += int64(len(b))
	return len(b), nil
}

func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	s.sent += n
	return n, err
}

// BenchmarkServe_handler is what a request costs without net/http and the network, on a
// site of five thousand files that is served as new sites are, with two other
// releases held.
func BenchmarkServe_handler(b *testing.B) {
	const script = "assets/app.3f9ac1d2.js"
	w := openWorkshop(b, memoryDir(b))
	var held []*Release
	for seq := range 3 {
		files := map[string]string{
			"page.html": strings.Repeat(fmt.Sprint(seq), 1<<10), script: prose(1, 16<<10), "data/table.csv": prose(2, 1<<20),
			"docs/guide/part/index.html": prose(3, 16<<10),
		}
		for i := range 5000 {
			files[fmt.Sprintf("docs/%d/page%d.html", i/100, i)] = "filler"
		}
		held = append(held, testRelease(b, www, uint64(seq+1), files))
	}
	w.show(held[1], held[0], held[2])
	w.front.Serve(cluster.DefaultServing(), testSecret)
	w.front.Hold(held, nil)
	w.front.SetConfirmed(true)
	w.pass()
	pin := w.front.holdings.Load().pin
	old := w.front.holdings.Load().pinTo(1, held[0])
	for _, c := range []struct {
		name, path string
		headers    []string
	}{
		{"page", "/page.html", nil},
		{"page,gzip", "/docs/guide/part/", []string{"Accept-Encoding", "gzip, deflate, br"}},
		{"page,pinned", "/page.html", cookie(pin)},
		{"page,unchanged", "/page.html", []string{"If-None-Match", `"` + etagOf(b, held[1], "page.html") + `"`}},
		{"script", "/" + script, nil},
		{"script,gzip", "/" + script, []string{"Accept-Encoding", "gzip, deflate, br"}},
		{"script,old pin", "/" + script, cookie(old)},
		{"data", "/data/table.csv", nil},
		{"missing", "/assets/none.js", nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, c.path, nil)
			for i := 0; i < len(c.headers); i += 2 {
				r.Header.Set(c.headers[i], c.headers[i+1])
			}
			b.ReportAllocs()
			s := &sink{}
			for b.Loop() {
				*s = sink{head: http.Header{}, code: http.StatusOK}
				w.server.ServeHTTP(s, r)
			}
			if s.code >= 500 || s.code == http.StatusOK && s.sent == 0 {
				b.Fatalf("answer %d with %d bytes", s.code, s.sent)
			}
		})
	}
}

func etagOf(tb testing.TB, r *Release, path string) string {
	tb.Helper()
	f, ok := r.files.Lookup(path)
	if !ok {
		tb.Fatal(path)
	}
	return f.Digest.Hex()
}
