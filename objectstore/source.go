package objectstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"relman/release"
)

// source is one file of a build while it is read.
type source struct {
	f    *os.File
	file BuildFile
}

func (w *upload) open(f BuildFile) (*source, error) {
	// Without O_NONBLOCK, a pipe that took the file's place would block.
	file, err := w.root.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is gone", f.Path, ErrChanged)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	s := &source{file, f}
	if err := s.unchanged(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

// unchanged compares the file with what the scan saw.
func (s *source) unchanged() error {
	info, err := s.f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if identify(info) != s.file.id {
		return s.changed()
	}
	return nil
}

func (s *source) changed() error {
	return fmt.Errorf("%s: %w: let the build finish before it is published", s.file.Path, ErrChanged)
}

// digest reads a whole file.
func (w *upload) digest(ctx context.Context, f BuildFile) (d release.Digest, err error) {
	s, err := w.open(f)
	if err != nil {
		return d, err
	}
	defer s.f.Close()
	h := sha256.New()
	n, err := io.Copy(h, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return s.f.Read(p)
	}))
	if ctx.Err() != nil {
		return d, ctx.Err()
	}
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if n != f.Size {
		return d, fmt.Errorf("%s: %w: it has %d bytes, it had %d", f.Path, ErrChanged, n, f.Size)
	}
	h.Sum(d[:0])
	return d, s.unchanged()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
