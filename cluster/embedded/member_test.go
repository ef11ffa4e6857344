//go:build !noembed

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func start(t *testing.T, c Config) *Member {
	t.Helper()
	if c.ClientURL == "" {
		c.ClientURL = "http://127.0.0.1:0"
	}
	c.Fast = true
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func client(t *testing.T, url string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// syncBuffer is a log that goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestStart_keepsItsDataAndSaysNothing(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	var out syncBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	global := zap.L()

	m := start(t, Config{Dir: dir, Log: log})
	if _, err := client(t, m.ClientURL()).Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if m.Err() != nil {
		t.Errorf("a running member has error %v", m.Err())
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	default:
		t.Error("closed, but not done")
	}
	if s, err := os.Stat(dir); err != nil || s.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", s.Mode(), err)
	}

	again := start(t, Config{Dir: dir, Log: log})
	r, err := client(t, again.ClientURL()).Get(ctx, "k")
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
		t.Errorf("after a restart: %v, %v", r, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "" {
		t.Errorf("logged above debug:\n%s", out.String())
	}
	if zap.L() != global {
		t.Error("zap's global logger was replaced")
	}
}

func TestStart_debugShowsWhatEtcdSays(t *testing.T) {
	var out syncBuffer
	m := start(t, Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	_ = m.Close()
	if !strings.Contains(out.String(), "component=etcd") || !strings.Contains(out.String(), "local-member-id=") {
		t.Errorf("no lines of etcd in\n%s", out.String())
	}
}

func TestStart_takenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{Dir: dir, ClientURL: "http://" + l.Addr().String(), Fast: true})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("error %v is not EADDRINUSE", err)
	}
	// The directory is free for another try elsewhere.
	start(t, Config{Dir: dir})
}

func TestStart_directoryInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir, ClientURL: "http://127.0.0.1:0", Fast: true})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("error %v", err)
	}
}

func TestStart_otherNameOrPeers(t *testing.T) {
	dir := t.TempDir()
	_ = start(t, Config{Dir: dir}).Close()
	for what, c := range map[string]Config{
		"name": {Dir: dir, Name: "b"},
		"peer": {Dir: dir, PeerURL: "http://127.0.0.1:12380"},
	} {
		c.ClientURL, c.Fast = "http://127.0.0.1:0", true
		if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot become") {
			t.Errorf("another %s: error %v", what, err)
		}
	}
}

func TestStart_badConfig(t *testing.T) {
	for what, c := range map[string]Config{
		"no directory": {},
		"no URL":       {Dir: t.TempDir(), ClientURL: "127.0.0.1:2379"},
		"no peer URL":  {Dir: t.TempDir(), InitialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2"},
	} {
		if m, err := Start(t.Context(), c); err == nil {
			_ = m.Close()
			t.Errorf("%s: no error", what)
		}
	}
}

func TestStart_aloneOfThreeGivesUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	u := peers(t, 3)
	_, err := Start(ctx, Config{Dir: t.TempDir(), Name: "m0", ClientURL: "http://127.0.0.1:0", PeerURL: u[0], InitialCluster: initialCluster(u), Fast: true})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestStart_threeMembersInOneProcess(t *testing.T) {
	urls := peers(t, 3)
	members := make([]*Member, 3)
	var wg sync.WaitGroup
	for i, u := range urls {
		wg.Go(func() {
			m, err := Start(t.Context(), Config{
				Dir: t.TempDir(), Name: fmt.Sprintf("m%d", i), ClientURL: "http://127.0.0.1:0",
				PeerURL: u, InitialCluster: initialCluster(urls), Fast: true,
			})
			if err != nil {
				t.Error(err)
				return
			}
			members[i] = m
			t.Cleanup(func() { _ = m.Close() })
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := client(t, members[0].ClientURL()).Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := members[0].Close(); err != nil {
		t.Fatal(err)
	}
	r, err := client(t, members[1].ClientURL()).Get(ctx, "k")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("after one of three has gone: %v, %v", r, err)
	}
}

func initialCluster(urls []string) string {
	var all []string
	for i, u := range urls {
		all = append(all, fmt.Sprintf("m%d=%s", i, u))
	}
	return strings.Join(all, ",")
}

// peers picks ports that are free now.
func peers(t *testing.T, n int) (urls []string) {
	t.Helper()
	for range n {
		u, _, err := freePort("http://127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, u.String())
	}
	return urls
}

// TestClose_withWatches: clients that hang on to the member do not hold up its
// end.
func TestClose_withWatches(t *testing.T) {
	m := start(t, Config{Dir: t.TempDir()})
	c := client(t, m.ClientURL())
	_ = c.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-c.Watch(t.Context(), "l", clientv3.WithCreatedNotify())
	g, err := c.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAlive(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// Not a measure of speed: clients that never leave would hold it for ever.
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("took %v to close", d)
	}
}
