package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// faulty stands between a cluster and its store.
type faulty struct {
	dir  string // where the store keeps its objects
	next http.Handler

	mu     sync.Mutex
	random *rand.Rand // guarded by mu
	fault  fault      // guarded by mu; nil: none
	hits   int        // guarded by mu: requests that it met
}

// fault answers a request instead of the store, or with what the store says. It
// reports whether it did anything.
type fault func(f *faulty, w http.ResponseWriter, r *http.Request) bool

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	now := f.fault
	f.mu.Unlock()
	if now != nil && now(f, w, r) {
		f.mu.Lock()
		f.hits++
		f.mu.Unlock()
		return
	}
	f.next.ServeHTTP(w, r)
}

// set begins a fault, or ends it, and returns how many requests the one before
// it has met.
func (f *faulty) set(now fault) (hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hits, f.hits, f.fault = f.hits, 0, now
	return hits
}

func pack(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".pack")
}

func refuse(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>a test says so</Message></Error>`, code)
	return true
}

// cut ends a connection with a reset.
func cut(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// answer is what the store says.
func (f *faulty) answer(r *http.Request) *httptest.ResponseRecorder {
	a := httptest.NewRecorder()
	f.next.ServeHTTP(a, r)
	return a
}

// first is a fault that passes when it has met so many requests.
func first(n int, what fault) fault {
	return func(f *faulty, w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		over := f.hits >= n
		f.mu.Unlock()
		return !over && what(f, w, r)
	}
}

// overloaded refuses 30 % of all requests, and the first one.
func overloaded(f *faulty, w http.ResponseWriter, _ *http.Request) bool {
	f.mu.Lock()
	refused := f.hits == 0 || f.random.IntN(100) < 30
	f.mu.Unlock()
	return refused && refuse(w, http.StatusServiceUnavailable, "SlowDown")
}

func resetBody(f *faulty, w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Method == http.MethodPut:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	case pack(r):
		a := f.answer(r)
		w.Header().Set("Content-Length", strconv.Itoa(a.Body.Len()))
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes()[:a.Body.Len()/2])
		_ = http.NewResponseController(w).Flush()
	default:
		return false
	}
	cut(w)
	return true
}

// altered hands over the answers to requests for packs with another body.
func altered(change func(f *faulty, r *http.Request, body []byte) []byte) fault {
	return func(f *faulty, w http.ResponseWriter, r *http.Request) bool {
		if !pack(r) {
			return false
		}
		a := f.answer(r)
		if a.Body.Len() == 0 { // whoever asked has gone
			return false
		}
		body := change(f, r, a.Body.Bytes())
		for k, v := range a.Header() {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.Code)
		_, _ = w.Write(body)
		return true
	}
}

func truncated(_ *faulty, _ *http.Request, body []byte) []byte { return body[:len(body)/2] }

func flipped(f *faulty, _ *http.Request, body []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	body[f.random.IntN(len(body))] ^= 1
	return body
}

// swapped has the bytes of another pack.
func swapped(f *faulty, r *http.Request, body []byte) []byte {
	for name := range storedPacksIn(f.dir) {
		if other, err := os.ReadFile(name); err == nil && filepath.Base(name) != filepath.Base(r.URL.Path) {
			return slices.Repeat(other, len(body)/len(other)+1)[:len(body)]
		}
	}
	return body
}

func storedPacksIn(dir string) map[string]bool {
	found := map[string]bool{}
	for _, pattern := range []string{"*/packs/*/*.pack", "*/*/packs/*/*.pack"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern)) // only a bad pattern is an error
		for _, n := range names {
			found[n] = true
		}
	}
	return found
}

func gone(_ *faulty, w http.ResponseWriter, r *http.Request) bool {
	return pack(r) && refuse(w, http.StatusNotFound, "NoSuchKey")
}

// TestStoreFaults: whatever the store does, nodes show what is active until all
// hold what is new, and that is right byte for byte. What passes does not show;
// what stays is told, with the object and the nodes, and a retry completes.
func TestStoreFaults(t *testing.T) {
	patient(t)
	t.Parallel()
	f := &faulty{random: rand.New(rand.NewPCG(7, 7))}
	l := newLabVia(t, func(addr string) string {
		to := &url.URL{Scheme: "http", Host: addr}
		// The signature covers the name of the host that was asked.
		f.next = &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
			// A connection that the store has closed meanwhile is no fault of the store's:
			// a PUT cannot be sent again on another one.
			Transport: &http.Transport{DisableKeepAlives: true},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				t.Logf("%s %s did not get through to the store: %v", r.Method, r.URL.Path, err)
				w.WriteHeader(http.StatusBadGateway)
			},
		}
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	})
	f.dir = filepath.Join(l.dir, "store")
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	var places []string
	for _, n := range nodes {
		l.agent(t, n)
		places = append(places, "http://"+l.addrs[n], l.current(n))
	}
	l.waitNodes(t, nodes)
	shown := generatedSite(t, 0)
	active := l.publish(t, shown)

	const few = 3
	for i, c := range []struct {
		name  string
		fault fault
		stays bool
	}{
		{"30 % of all requests get 503", overloaded, false},
		{"bodies are cut off by a reset", first(few, resetBody), false},
		{"packs end early", first(few, altered(truncated)), false},
		{"packs have a wrong byte", first(few, altered(flipped)), false},
		{"packs are others", first(few, altered(swapped)), false},
		{"packs are not there", first(few, gone), false},
		{"packs are never there", gone, true},
		{"packs are always others", altered(swapped), true},
		{"packs always have a wrong byte", altered(flipped), true},
	} {
		build := generatedSite(t, i+1)
		f.set(c.fault)
		if c.stays {
			r := run(t, l.env, programs(t).relman, "publish", build, "-s", "www", "--timeout", "4s")
			hits, said := f.set(nil), r.stdout+r.stderr
			if r.code != 6 || hits == 0 || !strings.Contains(said, "packs/") || !strings.Contains(said, "n1") || !strings.Contains(said, "n2") {
				t.Fatalf("%s: exit %d after %d requests that met it, want 6, an object and the nodes\n%s", c.name, r.code, hits, said)
			}
			if now := l.activeRelease(t); now != active {
				t.Fatalf("%s: active changed from %s to %s", c.name, active, now)
			}
			compare(t, "www.localhost", shown, places)
			t.Logf("%s: %d requests met it; exit 6: %s", c.name, hits, said)
			active = l.publish(t, build)
		} else {
			active = l.publish(t, build)
			hits := f.set(nil)
			if hits == 0 {
				t.Fatalf("%s: no request met it", c.name)
			}
			t.Logf("%s: %d requests met it; published", c.name, hits)
		}
		for _, n := range nodes {
			l.expectRelease(t, n, active)
		}
		compare(t, "www.localhost", build, places)
		shown = build
	}
}
