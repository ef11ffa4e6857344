package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// realSite unpacks one of the archives with real builds and returns the
// folder that holds its versions. Where the archives are missing the test is
// skipped, unless skipping is forbidden.
func realSite(t testing.TB, archive, folder string) string {
	t.Helper()
	dir := os.Getenv("RELMAN_SITES")
	if dir == "" {
		dir = filepath.Join("..", "shared", "sites")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", dir) // tests run in e2e/, the path is meant from the top
	}
	archive = filepath.Join(dir, archive)
	if _, err := os.Stat(archive); errors.Is(err, os.ErrNotExist) {
		skip(t, "no real sites: "+err.Error()+" (set RELMAN_SITES)")
	}
	to := roomyDir(t)
	must(t, nil, programs(t).sitecheck, "unpack", archive, to)
	return filepath.Join(to, folder)
}

// roomyDir is a folder for gigabytes of files: in memory where there is plenty,
// because on a disk most of a test's time would go to making four nodes' trees
// durable on one device.
func roomyDir(t testing.TB) string {
	t.Helper()
	const shm, plenty = "/dev/shm", 8 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < plenty {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "relman-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// patient is for tests that wait for long, for leases and fences to end, or do one
// thing after the other very often: `make test` has no time for them.
func patient(t *testing.T) {
	t.Helper()
	if os.Getenv("RELMAN_LONG") != "1" {
		t.Skip("SKIPPED: `make e2e-nodes` or `make e2e-faults` runs it")
	}
}

// skip skips a test loudly; where skips are forbidden it fails.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("RELMAN_NO_SKIP") == "1" {
		t.Fatalf("would be skipped: %s", why)
	}
	t.Skipf("SKIPPED: %s", why)
}
