package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
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
	f, err := os.Open(filepath.Join(dir, archive))
	if errors.Is(err, os.ErrNotExist) {
		skip(t, "no real sites: "+err.Error()+" (set RELMAN_SITES)")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(1<<31))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	to := roomyDir(t)
	if err := untar(z, to); err != nil {
		t.Fatalf("unpack %s: %v", archive, err)
	}
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

// skip skips a test loudly; where skips are forbidden it fails.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("RELMAN_NO_SKIP") == "1" {
		t.Fatalf("would be skipped: %s", why)
	}
	t.Skipf("SKIPPED: %s", why)
}

func untar(r io.Reader, to string) error {
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(filepath.Clean(h.Name), 0o755)
		case tar.TypeReg:
			err = extract(root, filepath.Clean(h.Name), tr)
		case tar.TypeLink:
			err = root.Link(filepath.Clean(h.Linkname), filepath.Clean(h.Name))
		}
		if err != nil {
			return err
		}
	}
}

func extract(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
