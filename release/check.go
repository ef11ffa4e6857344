package release

import (
	"crypto/sha256"
	"fmt"
	"hash"
)

// tally goes over the files of a manifest in their order, checks each and adds
// up what the header says about them.
type tally struct {
	count int
	bytes int64
	last  string // the path before
	tree  hash.Hash
}

func newTally() *tally { return &tally{tree: sha256.New()} }

// add checks the next file and appends its line to dst.
func (t *tally) add(dst []byte, f File) ([]byte, error) {
	t.count++
	if t.count > MaxFiles {
		return nil, manifestError(t.count, "more than %d files", MaxFiles)
	}
	if err := f.check(); err != nil {
		return nil, manifestError(t.count, "%v", err)
	}
	if t.count > 1 && t.last >= f.Path {
		return nil, manifestError(t.count, "path %q does not come after %q", f.Path, t.last)
	}
	t.last = f.Path
	if t.bytes += f.Size; t.bytes > MaxSiteSize {
		return nil, manifestError(t.count, "the site is larger than %d bytes", int64(MaxSiteSize))
	}
	start := len(dst)
	dst = appendTreeLine(dst, f)
	t.tree.Write(dst[start:])
	return appendTime(dst, f.MTime), nil
}

// digest is the tree's: of all lines without their times.
func (t *tally) digest() (d Digest) {
	t.tree.Sum(d[:0])
	return d
}

// check checks what add does not see: the header and what holds between paths.
func (m *Manifest) check(sums *tally) error {
	if _, err := ParseSite(string(m.Site)); err != nil {
		return manifestError(0, "%v", err)
	}
	if m.Seq == 0 || m.Seq > maxSeq {
		return manifestError(0, "sequence number %d, 1 to %d are allowed", m.Seq, uint64(maxSeq))
	}
	if m.Created < 0 || m.Created > maxTime {
		return manifestError(0, "created at %d", m.Created)
	}
	if m.Prev != "" {
		if _, err := ParseID(string(m.Prev)); err != nil {
			return manifestError(0, "%v", err)
		}
		if m.Prev.Seq() >= m.Seq {
			return manifestError(0, "release %d cannot have the base %s", m.Seq, m.Prev)
		}
	}
	switch {
	case sums.count == 0:
		return manifestError(0, "no files")
	case m.Count != sums.count:
		return manifestError(0, "says %d files, has %d", m.Count, sums.count)
	case m.Bytes != sums.bytes:
		return manifestError(0, "says %d bytes, has %d", m.Bytes, sums.bytes)
	case m.Tree != sums.digest():
		return manifestError(0, "the tree digest does not match the files")
	}
	if err := CheckTree(m.Files); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

func (f File) check() error {
	if err := ValidatePath(f.Path); err != nil {
		return err
	}
	if f.Size < 0 || f.Size > MaxFileSize {
		return fmt.Errorf("%q has size %d, at most %d is allowed", f.Path, f.Size, int64(MaxFileSize))
	}
	if len(f.Type) > maxMediaType || !isMediaType(f.Type) {
		return fmt.Errorf("%q has media type %q", f.Path, f.Type)
	}
	if f.MTime < 0 || f.MTime > maxTime {
		return fmt.Errorf("%q has time %d", f.Path, f.MTime)
	}
	return nil
}

// isMediaType admits what can stand in a Content-Type header.
func isMediaType(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
