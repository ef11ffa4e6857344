//go:build !noembed

// Package clustertest gives tests a real etcd: one embedded member per test
// binary, shared by its tests, which keep apart by using their own sites and
// nodes or by starting a member of their own.
package clustertest

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"relman/cluster/embedded"
)

// shared is the member of this test binary.
var shared struct {
	sync.Once
	dir    string
	member *embedded.Member
	err    error
}

const dirPattern = "relman-etcd-test-"

// Start returns the endpoint of an etcd member that all tests of the binary
// share. It ends with the process, or with Main.
func Start(t testing.TB) (endpoint string) {
	t.Helper()
	shared.Do(func() {
		sweep()
		// It outlives the first test that asks for it, so it is no t.TempDir.
		if shared.dir, shared.err = os.MkdirTemp("", dirPattern); shared.err == nil {
			shared.member, shared.err = embedded.Start(context.Background(), embedded.Config{
				Dir: shared.dir, ClientURL: "http://127.0.0.1:0", Fast: true,
			})
		}
	})
	if shared.err != nil {
		t.Fatalf("start etcd: %v", shared.err)
	}
	return shared.member.ClientURL()
}

// Main runs the tests of a package and stops the shared member after them, so
// that nothing is left behind: func TestMain(m *testing.M) { clustertest.Main(m) }.
func Main(m *testing.M) {
	code := m.Run()
	if shared.member != nil {
		_ = shared.member.Close()
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// sweep removes what test binaries without Main left behind: directories whose
// lock nobody holds any more.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPattern+"*", "relman.lock"))
	for _, path := range locks {
		lock, err := os.Open(path)
		if err != nil {
			continue
		}
		s, err := lock.Stat()
		if err == nil && time.Since(s.ModTime()) > time.Minute && syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		_ = lock.Close()
	}
}

// Own starts a member for this test alone, which may stop it.
func Own(t testing.TB) *embedded.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := embedded.Start(ctx, embedded.Config{Dir: t.TempDir(), ClientURL: "http://127.0.0.1:0", Fast: true})
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// Name is a name that no other test uses: for a site, a node, a group.
func Name(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

// Until polls a condition until it has nothing to say, and fails the test with
// what it said last.
func Until(t testing.TB, limit time.Duration, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
