package nodeagent

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"relman/cluster"
	"relman/release"
)

// variantsOf are the files in a node's directory of variants.
func (n *node) variantsOf() []string {
	n.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.siteDir(), variantsDir, "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// dressed waits until a node sends as many variants of its own.
func (n *node) dressed(count int) {
	n.t.Helper()
	n.until("has variants", func() error {
		n.agent.mu.Lock()
		defer n.agent.mu.Unlock()
		if got, _ := n.agent.sites[0].variants.size(); got != count || len(n.variantsOf()) != count {
			return fmt.Errorf("%d variants, want %d; on the disk %q", got, count, n.variantsOf())
		}
		return nil
	})
}

// pages is a build of text.
func pages(round uint64, count int) build {
	b := build{}
	for i := range uint64(count) {
		seed := i
		if i%3 == 0 { // a third of it changes
			seed = 1000*round + i
		}
		b[fmt.Sprintf("dir%d/page%d.html", i%4, i)] = page{content: prose(seed, 2000+int(i)*500)}
	}
	return b
}

// TestNode_variants: they are made after the claim, of what is held, they
// outlive a restart, and they are counted.
func TestNode_variants(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	var early atomic.Int32
	n.setPoint(func(name string) error {
		if name == "node.before-claim" || name == "node.mid-fetch" {
			early.Add(int32(len(n.variantsOf())))
		}
		return nil
	})
	n.rollOut(pages(1, 9))
	if n := early.Load(); n != 0 {
		t.Errorf("%d variants before the first claim", n)
	}
	n.setPoint(nil)
	n.dressed(2 * 9)
	last := n.rollOut(pages(2, 9))
	n.dressed(2 * (9 + 3)) // releases share what is the same
	var bytes int64
	for _, name := range n.variantsOf() {
		info, err := os.Stat(name)
		must(t, err)
		bytes += info.Size()
	}
	reg := prometheus.NewRegistry()
	for _, c := range n.agent.Collectors() {
		must(t, reg.Register(c))
	}
	_, text := get(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "/metrics")
	for _, line := range []string{`relman_variants{site="www"} 24`, fmt.Sprintf(`relman_variants_bytes{site="www"} %d`, bytes)} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	names := n.variantsOf()
	n.halt()
	n.start()
	n.serves(last)
	n.dressed(2 * 12)
	if !slices.Equal(n.variantsOf(), names) {
		t.Errorf("%q became %q", names, n.variantsOf())
	}
	for _, s := range []uint64{3, 4, 5} {
		n.rollOut(pages(s, 9))
	}
	n.dressed(2 * (6 + 3*3)) // of the three that are held
}

// TestNode_variants_redraws: while releases come and go, whatever a client
// takes, what it gets is what the release has that the answer names.
func TestNode_variants_redraws(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	n.rollOut(pages(1, 12))
	n.dressed(2 * 12)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var coded atomic.Int32
	for client, accept := range []string{"", "gzip", "zstd", everything, "gzip;q=0.5, *"} {
		wg.Go(func() {
			for i := client; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				req := httptest.NewRequest("GET", fmt.Sprintf("/dir%d/page%d.html", i%12%4, i%12), nil)
				req.Header.Set("Accept-Encoding", accept)
				w := httptest.NewRecorder()
				n.agent.Handler().ServeHTTP(w, req)
				if err := isOf(n.shelf, req.URL.Path[1:], w); err != nil {
					t.Error(err)
					return
				}
				if w.Header().Get("Content-Encoding") != "" {
					coded.Add(1)
				}
			}
		})
	}
	for round := range uint64(6) {
		n.rollOut(pages(round+2, 12))
	}
	close(stop)
	wg.Wait()
	n.dressed(2 * (8 + 3*4))
	if coded.Load() == 0 {
		t.Error("no variant was sent")
	}
}

// isOf compares an answer with the release that it names.
func isOf(s *shelf, path string, w *httptest.ResponseRecorder) error {
	h := w.Header()
	known, ok := s.all.Load(release.ID(h.Get("Relman-Release")))
	if !ok || w.Code != http.StatusOK {
		return fmt.Errorf("%s: %d, %v", path, w.Code, h)
	}
	f, _ := known.(*release.Manifest).Lookup(path)
	etag := f.Digest.Hex()
	if c := h.Get("Content-Encoding"); c != "" {
		etag += "-" + c
	}
	body, err := decode(w.Body.Bytes(), h.Get("Content-Encoding"))
	if err != nil || release.Sum(body) != f.Digest || h.Get("Etag") != `"`+etag+`"` {
		return fmt.Errorf("%s: %v: %w", path, h, err)
	}
	return nil
}

// TestNode_variants_diskFull: variants do not take the room of the next release.
// The node fills, flips and serves as if there were no such thing.
func TestNode_variants_diskFull(t *testing.T) {
	n := newNode(t)
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", 0, "size=24m"); err != nil {
		skip(t, "mounting a file system needs root: "+err.Error())
	}
	t.Cleanup(func() {
		n.halt()
		must(t, syscall.Unmount(n.dir, 0))
	})
	n.start()
	for round := range uint64(2) {
		n.rollOut(build{"index.html": page{content: prose(round, 100_000)}})
		if ok, why := n.agent.Ready(); !ok || n.status().State != cluster.NodeServing {
			t.Error(errors.New(why))
		}
	}
	if found := n.variantsOf(); len(found) != 0 {
		t.Errorf("%q", found)
	}
	must(t, syscall.Mount("tmpfs", n.dir, "tmpfs", syscall.MS_REMOUNT, "size=200m"))
	n.rollOut(build{"index.html": page{content: prose(9, 100_000)}})
	n.dressed(2 * 3) // of what was held before too
}
