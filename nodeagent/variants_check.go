package nodeagent

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	brotlireader "github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"relman/release"
)

// accept says which variants of a file the build has. Each is decoded once, as
// long as the release is held; one that is wrong is told of once, and is a file
// like any other.
func (m *maker) accept(ctx context.Context, r *Release, f release.File) (given codingSet, err error) {
	beside := r.beside(f.Path)
	for c := range codingCount {
		if !beside.has(c) {
			continue
		}
		is, _ := r.manifest.Lookup(f.Path + codingSuffixes[c])
		key := supply{f.Digest, is.Digest, c}
		m.mu.RLock()
		good, known := m.supplied[key]
		m.mu.RUnlock()
		if !known {
			if good, err = m.decodesSupplied(ctx, r, is, f, c); err != nil {
				return given, err
			}
			m.mu.Lock()
			m.supplied[key] = good
			m.mu.Unlock()
		}
		if good {
			given = given.with(c)
		}
	}
	return given, nil
}

func (m *maker) decodesSupplied(ctx context.Context, r *Release, is, f release.File, c coding) (bool, error) {
	file, err := m.openFile(r, is)
	if err != nil {
		return false, err
	}
	defer file.Close() // only read
	wrong := m.decodes(ctx, c, file, f)
	if wrong == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	// It is the build's fault only if the file is what the build made.
	if _, err = file.Seek(0, io.SeekStart); err == nil {
		h := sha256.New()
		if err = m.pace.copy(ctx, h, file); err == nil && release.Digest(h.Sum(nil)) != is.Digest {
			err = notAsVerified(is.Path)
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, &fileError{is.Path, err}
	}
	m.log.Warn("file of the build is no variant of its neighbour, and is not sent in its place",
		"file", is.Path, "release", r.ID(), "neighbour", f.Path, "error", wrong)
	return false, nil
}

// decodes looks whether bytes decode to a file, and nothing comes after them.
// It reads no more of a bomb than the file is long.
func (m *maker) decodes(ctx context.Context, c coding, from io.Reader, f release.File) error {
	in := bufio.NewReader(from)
	out, err := m.decoder(c, in)
	if err != nil {
		return fmt.Errorf("%w: %w", errOther, err)
	}
	h := sha256.New()
	if err := m.pace.copy(ctx, h, io.LimitReader(out, f.Size+1)); err != nil {
		return fmt.Errorf("%w: %w", errOther, err)
	}
	if release.Digest(h.Sum(nil)) != f.Digest {
		return errOther
	}
	if _, err := in.Peek(1); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more comes after it", errOther)
	}
	return nil
}

// decoder takes what clients have to take, and no more.
func (m *maker) decoder(c coding, in *bufio.Reader) (io.Reader, error) {
	switch c {
	case brotli:
		return brotlireader.NewReader(in), nil
	case gzipped:
		r, err := gzip.NewReader(in)
		if err == nil {
			r.Multistream(false)
		}
		return r, err
	default:
		if m.zstdReader == nil {
			r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				return nil, err
			}
			m.zstdReader = r
		}
		return m.zstdReader, m.zstdReader.Reset(in)
	}
}

// reread takes a variant into use that is on the disk since before this process
// began, if it is as it was written.
func (m *maker) reread(ctx context.Context, d release.Digest, c coding) (bool, error) {
	s := m.unread[d]
	one := s[c]
	if one.size == 0 {
		return false, nil
	}
	err := m.sums(ctx, d, c, one)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if isScarce(err) {
		return false, err
	}
	s[c] = made{}
	m.unread[d] = s
	if err == nil {
		m.keep(d, c, one)
		return true, nil
	}
	name := variantName(d, c, one)
	m.log.Warn("variant on disk is not as it was written, and is made anew", "variant", name, "error", err)
	return false, m.dir.RemoveAll(name)
}

func (m *maker) sums(ctx context.Context, d release.Digest, c coding, one made) error {
	file, err := openVariant(m.dir, d, c, one)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	h := sha256.New()
	if err := m.pace.copy(ctx, h, file); err != nil {
		return err
	}
	if sum(h.Sum(nil)[:len(sum{})]) != one.sum {
		return &os.PathError{Op: "read", Path: file.Name(), Err: errNotAsVerified}
	}
	return nil
}

// sweep removes what belongs to no release that is held.
func (m *maker) sweep(ctx context.Context, held []*Release) error {
	wanted, supplies := map[release.Digest]bool{}, map[supply]bool{}
	for _, r := range held {
		for _, f := range r.manifest.Files {
			if err := m.pace.rest(ctx); err != nil {
				return err
			}
			if compressible(f) {
				wanted[f.Digest] = true
			}
			for beside, c := r.beside(f.Path), coding(0); c < codingCount; c++ {
				if beside.has(c) {
					is, _ := r.manifest.Lookup(f.Path + codingSuffixes[c])
					supplies[supply{f.Digest, is.Digest, c}] = true
				}
			}
		}
	}
	type old struct {
		of release.Digest
		s  set
	}
	var gone []old
	m.mu.Lock()
	for key := range m.supplied {
		if !supplies[key] {
			delete(m.supplied, key)
		}
	}
	m.mu.Unlock()
	m.mu.RLock()
	for d, s := range m.made {
		if !wanted[d] {
			gone = append(gone, old{d, s})
		}
	}
	m.mu.RUnlock()
	for d := range m.useless {
		if !wanted[d] {
			delete(m.useless, d)
		}
	}
	for d, s := range m.unread {
		if !wanted[d] {
			gone = append(gone, old{d, s})
		}
	}
	for _, o := range gone {
		for c := range codingCount {
			if o.s[c].size == 0 {
				continue
			}
			if err := m.pace.rest(ctx); err != nil {
				return err
			}
			m.drop(o.of, c, o.s[c]) // before the file goes: it is no loss
			if err := m.dir.RemoveAll(variantName(o.of, c, o.s[c])); err != nil {
				return err
			}
		}
		delete(m.unread, o.of)
	}
	return nil
}
