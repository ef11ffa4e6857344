package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// outage is how long etcd and the store are away in TestOutage: RELMAN_OUTAGE, or
// shorter, with a fence that is shorter still.
func outage(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("RELMAN_OUTAGE"))
	if os.Getenv("RELMAN_OUTAGE") == "" {
		return 12 * time.Second
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// long is for tests that `make e2e-visitors` runs, and `make test` has no time
// for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RELMAN_VISITS") == "" {
		t.Skip("SKIPPED: `make e2e-visitors` runs it")
	}
}

const shortFence = 3 * time.Second

// ready asks a node whether it is ready, and which release it shows to who comes.
func (l *lab) ready(node string) (ready bool, why string) {
	resp, err := client.Get("http://" + l.admins[node] + "/readyz")
	if err != nil {
		return false, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK, strings.TrimSpace(string(text))
}

func (l *lab) shows(node string) string {
	resp, err := l.get(node, "/"+pagePath(0))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	return resp.Header.Get("Relman-Release")
}

func (l *lab) waitReady(t testing.TB, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, 30*time.Second, n+" is ready", func() error {
			if ok, why := l.ready(n); !ok {
				return errors.New(why)
			}
			return nil
		})
	}
}

// hole is a way to etcd that can swallow everything.
type hole struct {
	addr string
	shut atomic.Bool
}

func newHole(t testing.TB, to string) *hole {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{addr: "http://" + ln.Addr().String()}
	t.Cleanup(func() { ln.Close() })
	pass := func(dst, src net.Conn) {
		defer dst.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if h.shut.Load() {
				continue // nothing comes out, and nobody is told
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	return h
}

// TestPartition: a node whose connection to etcd is swallowed stops being ready
// within its fence, and is not ready with the old release again after the others
// have flipped; one that is told to serve goes on and says so.
func TestPartition(t *testing.T) {
	long(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	h := newHole(t, strings.TrimPrefix(strings.Split(l.endpoints, ",")[0], "http://"))
	fence := "RELMAN_AGENT_FENCE=" + shortFence.String()
	for n, env := range map[string][]string{
		"n1": {fence, "RELMAN_ENDPOINTS=" + h.addr},
		"n2": {fence, "RELMAN_ENDPOINTS=" + h.addr, "RELMAN_AGENT_ON_PARTITION=serve"},
		"n3": {fence}, "n4": {fence},
	} {
		l.agentWith(t, n, env...)
	}
	nodes := []string{"n1", "n2", "n3", "n4"}
	l.waitNodes(t, nodes)
	l.publishPages(t, 1)
	first := l.activeRelease(t)
	l.publishPages(t, 2, "--no-flip")
	l.waitReady(t, nodes...)
	h.shut.Store(true)
	began := time.Now()
	for {
		if ok, _ := l.ready("n1"); !ok {
			break
		}
		if time.Since(began) > shortFence+time.Second {
			t.Fatalf("still ready %s after it was cut off", time.Since(began))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("not ready %s after it was cut off, fence %s", time.Since(began).Round(10*time.Millisecond), shortFence)
	l.relman(t, "flip", "latest", "--no-wait")
	l.expectPages(t, "n3", 2)
	looks, stale := 0, 0
	for end := time.Now().Add(2 * shortFence); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ok, _ := l.ready("n1")
		if looks++; ok && l.shows("n1") == first {
			stale++
		}
	}
	if stale > 0 {
		t.Errorf("ready with the old release at %d of %d looks", stale, looks)
	}
	if ok, why := l.ready("n2"); !ok {
		t.Errorf("the node that serves on is not ready: %s", why)
	}
	resp, err := l.get("n2", "/"+pagePath(0))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Relman-State") != "fenced" {
		t.Errorf("the node that serves on: %s, state %q", resp.Status, resp.Header.Get("Relman-State"))
	}
	h.shut.Store(false)
	l.expectPages(t, "n1", 2)
	l.waitReady(t, "n1")
	t.Logf("%d looks at the node that was cut off, ready with the old release 0", looks)
}

// agentWith starts an agent whose own environment comes after the lab's.
func (l *lab) agentWith(t testing.TB, id string, env ...string) {
	t.Helper()
	old := l.env
	l.env = append(append([]string{}, old...), env...)
	defer func() { l.env = old }()
	l.agent(t, id)
}

// expectPages waits until a node shows a build.
func (l *lab) expectPages(t testing.TB, node string, n int) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("%s shows build %d", node, n), func() error {
		resp, err := l.get(node, "/"+pagePath(0))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasPrefix(string(body), fmt.Sprintf("build %d ", n)) {
			return fmt.Errorf("%s %.40q %w", resp.Status, body, err)
		}
		return nil
	})
}

// TestOutage: etcd, then the store, stand still for longer than every fence, and
// every request is answered.
func TestOutage(t *testing.T) {
	long(t)
	t.Parallel()
	for what, procs := range map[string]func(*lab) []*process{
		"etcd":  func(l *lab) []*process { return l.etcd },
		"store": func(l *lab) []*process { return []*process{l.storeProcess} },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.manager(t, "m1")
			nodes := []string{"n1", "n2", "n3"}
			for _, n := range nodes {
				l.agentWith(t, n, "RELMAN_AGENT_FENCE="+shortFence.String())
			}
			l.waitNodes(t, nodes)
			l.publishPages(t, 1)
			l.waitReady(t, nodes...)
			signal := func(s syscall.Signal) {
				t.Helper()
				for _, p := range procs(l) {
					if err := p.cmd.Process.Signal(s); err != nil {
						t.Fatal(err)
					}
				}
			}
			time.Sleep(shortFence) // the peers are known by then
			signal(syscall.SIGSTOP)
			defer signal(syscall.SIGCONT)
			var asked, bad, pool, empty int
			for end := time.Now().Add(outage(t)); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				ready := 0
				for _, n := range nodes {
					if ok, _ := l.ready(n); ok {
						ready++
					}
					resp, err := l.get(n, "/"+pagePath(asked%pagesPerBuild))
					if asked++; err != nil {
						bad++
						continue
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != http.StatusOK {
						bad++
					}
				}
				if pool++; ready == 0 {
					empty++
				}
			}
			t.Logf("%s away for %s: %d requests, %d not answered; %d looks at the pool, %d found nobody ready", what, outage(t), asked, bad, pool, empty)
			if bad > 0 || empty > 0 || asked < 100 {
				t.Error("somebody has noticed")
			}
			signal(syscall.SIGCONT)
			l.waitReady(t, nodes...)
			l.publishPages(t, 2)
		})
	}
}

// TestDownOverFlips: a node that was down over twenty flips is not ready before it
// shows the newest release.
func TestDownOverFlips(t *testing.T) {
	long(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	l.publishPages(t, 1)
	l.publishPages(t, 2)
	l.waitReady(t, nodes...)
	l.agents["n1"].kill()
	for i := range 21 { // its claims for both stand
		l.relman(t, "flip", strconv.Itoa(1+i%2), "-q", "--no-wait", "--queue")
	}
	now := l.activeRelease(t)
	eventually(t, 20*time.Second, "the last rollback is done", func() error {
		if got := l.activeRelease(t); got != now {
			now = got
			return errors.New("it still changes")
		}
		return nil
	})
	l.expectRelease2(t, "n2", now)
	l.agent(t, "n1")
	looks := 0
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		ok, _ := l.ready("n1")
		if looks++; ok {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not ready")
		}
	}
	if got := l.shows("n1"); got != now {
		t.Errorf("ready, and shows %s instead of %s", got, now)
	}
	t.Logf("ready with the newest release at look %d", looks)
}

// expectRelease2 is expectRelease for builds without an index page.
func (l *lab) expectRelease2(t testing.TB, node, id string) {
	t.Helper()
	eventually(t, 30*time.Second, node+" shows "+id, func() error {
		if got := l.shows(node); got != id {
			return errors.New(got)
		}
		return nil
	})
}

// downloadSize is that of the file in TestDownload: RELMAN_DOWNLOAD, or less.
func downloadSize(t *testing.T) int64 {
	t.Helper()
	s := os.Getenv("RELMAN_DOWNLOAD")
	if s == "" {
		return 40 << 20
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDownload: a download that began before a flip and two further ones ends with
// the right bytes.
func TestDownload(t *testing.T) {
	long(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	l.agent(t, "n1")
	l.waitNodes(t, []string{"n1"})
	size := downloadSize(t)
	builds := make([]string, 4)
	var first [32]byte
	for i := range builds {
		builds[i] = filepath.Join(l.dir, fmt.Sprint("download-", i))
		sum := writeRandom(t, filepath.Join(builds[i], "big.bin"), size, uint64(i))
		if i == 0 {
			first = sum
		}
		if err := os.WriteFile(filepath.Join(builds[i], "index.html"), fmt.Appendf(nil, "%d", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := l.publish(t, builds[0])
	l.expectRelease(t, "n1", id)
	resp, err := l.get("n1", "/big.bin")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // slowly: it is still under way at the last flip
		for range 50 {
			if _, err := io.CopyN(h, resp.Body, 64<<10); err != nil {
				t.Errorf("cut off: %v", err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	for _, b := range builds[1:] {
		l.expectRelease(t, "n1", l.publish(t, b))
	}
	wg.Wait()
	if _, err := io.Copy(h, resp.Body); err != nil {
		t.Fatal(err)
	}
	if [32]byte(h.Sum(nil)) != first {
		t.Error("other bytes")
	}
	t.Logf("%d bytes over three flips", size)
}

func writeRandom(t testing.TB, name string, size int64, seed uint64) [32]byte {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	src := rand.NewChaCha8([32]byte{byte(seed), 7})
	_, err = io.CopyN(io.MultiWriter(f, h), src, size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}
