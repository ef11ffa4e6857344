package nodeagent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkVariants serves a page over loopback, as it is and in other codings;
// B/s is of the page, sent are the bytes that went over the connection.
func BenchmarkVariants(b *testing.B) {
	for _, size := range []int{20 << 10, 1 << 20} {
		w := openWorkshop(b, memoryDir(b))
		w.show(siteRelease(b, 1, map[string]string{"index.html": prose(1, size), "photo.jpg": prose(2, size)}))
		w.pass()
		s := httptest.NewServer(w.server)
		for _, c := range []struct{ name, path, accept string }{
			{"plain", "/", "identity"}, {"zstd", "/", "zstd"}, {"gzip", "/", "gzip"}, {"jpg", "/photo.jpg", everything},
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, c.name), func(b *testing.B) {
				req, err := http.NewRequestWithContext(b.Context(), "GET", s.URL+c.path, nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Accept-Encoding", c.accept)
				b.SetBytes(int64(size))
				var sent int64
				for b.Loop() {
					resp, err := s.Client().Do(req)
					if err != nil {
						b.Fatal(err)
					}
					if sent, err = io.Copy(io.Discard, resp.Body); err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
				b.ReportMetric(float64(sent), "sent/op")
			})
		}
		s.Client().CloseIdleConnections()
		s.Close()
	}
}

// BenchmarkVariants_pick is what the choice costs each request.
func BenchmarkVariants_pick(b *testing.B) {
	w := openWorkshop(b, memoryDir(b))
	r := siteRelease(b, 1, map[string]string{"index.html": prose(1, 5000), "photo.jpg": prose(2, 5000), "noise.txt": noise(5000)})
	w.show(r)
	w.pass()
	for _, name := range []string{"photo.jpg", "noise.txt", "index.html"} {
		f, ok := r.manifest.Lookup(name)
		if !ok {
			b.Fatal(name)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.pick(r, f, everything)
			}
		})
	}
}

// BenchmarkVariants_make is what it costs to make them, without the rests.
func BenchmarkVariants_make(b *testing.B) {
	const size = 1 << 20
	for _, c := range []coding{zstandard, gzipped} {
		b.Run(c.String(), func(b *testing.B) {
			w := openWorkshop(b, memoryDir(b))
			r := siteRelease(b, 1, map[string]string{"index.html": prose(1, size)})
			w.show(r)
			if err := w.maker.openDir(); err != nil {
				b.Fatal(err)
			}
			f, _ := r.manifest.Lookup("index.html")
			src, err := r.open(f)
			if err != nil {
				b.Fatal(err)
			}
			defer src.Close()
			b.SetBytes(size)
			for b.Loop() {
				if _, err := src.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				w.maker.pace.since = time.Now().Add(time.Hour) // never tired
				if err := w.maker.encode(b.Context(), c, io.Discard, src, f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
