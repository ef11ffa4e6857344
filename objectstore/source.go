package objectstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"relman/release"
)

// source is one file of a build while it is read. It is a bare descriptor: of
// tens of thousands of files each is read in one go, and os.File would double
// the number of system calls.
type source struct {
	fd   int
	file BuildFile
}

// open opens the file that the scan saw. It is found by its path, through
// whatever is there by now, and taken only when it is still the same inode.
func (w *upload) open(f BuildFile) (*source, error) {
	// Without O_NONBLOCK, a pipe that took the file's place would block.
	fd, err := retried(func() (int, error) {
		return syscall.Open(filepath.Join(w.build.Root, filepath.FromSlash(f.Path)), syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is gone", f.Path, ErrChanged)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: %w", ErrBuild, f.Path, err)
	}
	s := &source{fd, f}
	if err := s.unchanged(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close cannot lose anything: the file was only read.
func (s *source) close() { _ = syscall.Close(s.fd) }

func (s *source) Read(p []byte) (int, error) {
	n, err := retried(func() (int, error) { return syscall.Read(s.fd, p) })
	if err != nil {
		return 0, fmt.Errorf("%w: read %s: %w", ErrBuild, s.file.Path, err)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// retried makes a system call again that a signal interrupted.
func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// unchanged compares the file with what the scan saw.
func (s *source) unchanged() error {
	var now syscall.Stat_t
	if err := syscall.Fstat(s.fd, &now); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBuild, s.file.Path, err)
	}
	if identifyStat(&now) != s.file.id {
		return s.changed()
	}
	return nil
}

func (s *source) changed() error { return s.file.changed() }

func (f BuildFile) changed() error {
	return fmt.Errorf("%s: %w: let the build finish before it is published", f.Path, ErrChanged)
}

// stands makes sure that a file which need not be read is as the scan saw it:
// what is published is the build as it was at one moment.
func (w *upload) stands(f BuildFile) error {
	var now syscall.Stat_t
	_, err := retried(func() (int, error) {
		return 0, syscall.Stat(filepath.Join(w.build.Root, filepath.FromSlash(f.Path)), &now)
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: it is gone", f.Path, ErrChanged)
	case err != nil:
		return fmt.Errorf("%w: look at %s: %w", ErrBuild, f.Path, err)
	case identifyStat(&now) != f.id:
		return f.changed()
	}
	return nil
}

// whole fills a buffer that is as long as the file was.
func (s *source) whole(b []byte) error {
	switch n, err := io.ReadFull(s, b); {
	case ended(err):
		return fmt.Errorf("%s: %w: it has %d bytes, it had %d", s.file.Path, ErrChanged, n, s.file.Size)
	default:
		return err
	}
}

// digest reads a large file.
func (w *upload) digest(ctx context.Context, f BuildFile) (d release.Digest, err error) {
	s, err := w.open(f)
	if err != nil {
		return d, err
	}
	defer s.close()
	h, buf := sha256.New(), make([]byte, min(f.Size, chunkBytes))
	for left := f.Size; left > 0; left -= int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		buf = buf[:min(left, int64(len(buf)))]
		if err := s.whole(buf); err != nil {
			return d, err
		}
		h.Write(buf)
	}
	h.Sum(d[:0])
	return d, s.unchanged()
}

// parts reads a large file again, in parts of at most some bytes, and makes
// sure that it is still what was hashed.
func (w *upload) parts(f BuildFile, want release.Digest, most int64, each func(at int64, part []byte) error) error {
	s, err := w.open(f)
	if err != nil {
		return err
	}
	defer s.close()
	sum := sha256.New()
	for at := int64(0); at < f.Size; {
		part := buffersFor(int(min(f.Size-at, most))).get()[:min(f.Size-at, most)]
		if err := s.whole(part); err != nil {
			return err
		}
		sum.Write(part)
		if err := each(at, part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	if !sameSum(sum, want) {
		return s.changed()
	}
	return s.unchanged()
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func sameSum(h hash.Hash, want release.Digest) bool { return release.Digest(h.Sum(nil)) == want }
