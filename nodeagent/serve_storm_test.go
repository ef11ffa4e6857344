package nodeagent

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"relman/release"
)

// openFiles counts the descriptors of this process that lead below dir.
func openFiles(t testing.TB, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

// TestServe_storm flips as fast as it can, closing at once what was shown
// before, while clients read every file over real connections. Every body has
// to be of the release that its own header names. With a moment between flips
// most answers come from memory.
func TestServe_storm(t *testing.T) {
	t.Run("at once", func(t *testing.T) { storm(t, 0) })
	t.Run("from memory", func(t *testing.T) { storm(t, 2*time.Millisecond) })
}

func storm(t *testing.T, pause time.Duration) {
	const versions, paths, clients, flips = 4, 12, 6, 3000
	goroutines := runtime.NumGoroutine()
	var dirs []string
	manifests := map[string]*release.Manifest{}
	content := map[string]string{} // by release id and path
	for v := range versions {
		files := map[string]string{}
		for p := range paths {
			files[fmt.Sprintf("d%d/f%d.txt", p%3, p)] = strings.Repeat(fmt.Sprintf("version %d of %d\n", v, p), 1+400*(p%4))
		}
		r := testRelease(t, "www", uint64(v+1), files)
		dirs = append(dirs, r.root.Name())
		manifests[r.root.Name()] = r.Manifest()
		for p, c := range files {
			content[string(r.ID())+" "+p] = c
		}
	}
	f, s := NewFront("www"), NewServer(nil)
	s.Add(f)
	show := func(epoch int) {
		dir := dirs[epoch%versions]
		r, err := OpenRelease(dir, manifests[dir])
		if err != nil {
			t.Error(err)
			return
		}
		if err := f.Show(r, release.Epoch(epoch)).Close(); err != nil {
			t.Error(err)
		}
	}
	show(1)
	server := httptest.NewUnstartedServer(s)
	server.Listener = s.Quicken(server.Config, server.Listener)
	server.Start()
	client := server.Client()
	var wg sync.WaitGroup
	var stop atomic.Bool
	var bodies atomic.Int64
	for range clients {
		wg.Go(func() {
			for last := 0; !stop.Load(); {
				p := rand.IntN(paths)
				path := fmt.Sprintf("d%d/f%d.txt", p%3, p)
				epoch, err := readOne(client, server.URL+"/"+path, path, content)
				if err != nil || epoch < last {
					t.Errorf("epoch %d after %d: %v", epoch, last, err)
					return
				}
				last = epoch
				bodies.Add(1)
			}
		})
	}
	start := time.Now()
	n := 1
	for ; n < flips && time.Since(start) < 2*time.Second || bodies.Load() < 1500 && time.Since(start) < 20*time.Second; n++ {
		show(n + 1)
		runtime.Gosched()
		time.Sleep(pause)
	}
	stop.Store(true)
	wg.Wait()
	client.CloseIdleConnections()
	server.Close()
	t.Logf("%d flips, %d bodies", n, bodies.Load())
	if bodies.Load() < 1500 {
		t.Error("too few bodies to say anything")
	}
	if err := f.Show(nil, 0).Close(); err != nil {
		t.Error(err)
	}
	// The releases of testRelease are open still, a root and its directory each.
	for _, dir := range dirs {
		if n := openFiles(t, dir); n != 2 {
			t.Errorf("%d descriptors are open below %s, want 2", n, dir)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

// readOne reads one file and compares it with the release that the answer
// names.
func readOne(client *http.Client, url, path string, content map[string]string) (epoch int, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(resp.Header.Get("Relman-Epoch"), &epoch); err != nil {
		return 0, err
	}
	want, ok := content[resp.Header.Get("Relman-Release")+" "+path]
	if !ok || string(got) != want {
		return epoch, fmt.Errorf("%s: %s, %d bytes that are not of release %q", path, resp.Status, len(got), resp.Header.Get("Relman-Release"))
	}
	return epoch, nil
}

// TestRelease_closeWhileRead: a request that has begun ends on its release
// after that one was replaced and closed.
func TestRelease_closeWhileRead(t *testing.T) {
	r := testRelease(t, "www", 1, map[string]string{"index.html": "one"})
	f := NewFront("www")
	f.Show(r, 1)
	_, held := f.hold()
	next := testRelease(t, "www", 2, map[string]string{"index.html": "two"})
	if before := f.Show(next, 2); before != r {
		t.Fatalf("Show returned %v", before)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	file, _ := held.files.Lookup("index.html")
	if err := held.file(rec, httptest.NewRequest("GET", "/", nil), &visit{path: "/"}, file, nil); err != nil || rec.Body.String() != "one" {
		t.Errorf("after Close: %v, %q", err, rec.Body.String())
	}
	dir := r.root.Name()
	if n := openFiles(t, dir); n != 2 {
		t.Errorf("%d descriptors while the request runs, want the root and its directory", n)
	}
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
	if n := openFiles(t, dir); n != 0 {
		t.Errorf("%d descriptors after the last request, want 0", n)
	}
	if r.acquire() {
		t.Error("a closed release was acquired")
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestFront_sameRelease: a flip back to what is shown returns nothing to close.
func TestFront_sameRelease(t *testing.T) {
	r := testRelease(t, "www", 1, map[string]string{"index.html": "one"})
	f := NewFront("www")
	f.Show(r, 1)
	if before := f.Show(r, 2); before != nil {
		t.Errorf("Show returned %s, which is shown", before.ID())
	}
	if _, epoch := f.Shown(); epoch != 2 {
		t.Errorf("epoch %d", epoch)
	}
}

func BenchmarkServe(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"small-4KiB", 4 << 10}, {"large-8MiB", 8 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			files := map[string]string{"assets/file.bin": strings.Repeat("x", c.size)}
			for i := range 10_000 {
				files[fmt.Sprintf("d%d/f%d", i%100, i)] = ""
			}
			f, s := NewFront("www"), NewServer(nil)
			f.Show(testRelease(b, "www", 1, files), 1)
			s.Add(f)
			server := httptest.NewServer(s)
			defer server.Close()
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for pb.Next() {
					resp, err := client.Get(server.URL + "/assets/file.bin")
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, resp.Body); n != int64(c.size) || err != nil {
						b.Errorf("%d bytes: %v", n, err)
					}
					resp.Body.Close()
				}
			})
		})
	}
}
