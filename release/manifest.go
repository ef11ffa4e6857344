package release

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of a manifest. A file, a site or a manifest beyond them is refused by
// the publisher and by every node.
const (
	MaxFiles         = 200_000
	MaxFileSize      = 2 << 30
	MaxSiteSize      = 20 << 30
	MaxManifestBytes = 64 << 20

	manifestFormat = 1
	maxMediaType   = 127
	maxTime        = 253402300799 // the last second that HTTP can say, of the year 9999
)

// Header is the first line of a manifest.
type Header struct {
	Format  int    `json:"relman"`
	Site    Site   `json:"site"`
	Seq     uint64 `json:"seq"`
	Created int64  `json:"created"` // Unix seconds: the time that changed files carry
	Prev    ID     `json:"prev"`    // the base release, "" for a first one
	Count   int    `json:"files"`   // how many files
	Bytes   int64  `json:"bytes"`
	Tree    Digest `json:"tree"` // of paths, sizes, contents, modes and types: equal trees are equal sites
}

// File is one regular file of a release.
type File struct {
	Path   string
	Size   int64
	Digest Digest
	Exec   bool   // mode 0755 instead of 0644
	Type   string // media type, "" to let the server derive one
	MTime  int64  // Unix seconds, by the mtime rule (see New)
}

// Manifest says what a release is: every file with its content's digest. It
// is immutable once made; Files is sorted by path.
type Manifest struct {
	Header
	Files []File

	raw    []byte
	digest Digest
}

// New makes the manifest of site's release seq out of files, in any order.
//
// Times follow the mtime rule, so that validators made from time and size
// (those of nginx and Apache) are equal on every node and change exactly when
// the content does: a file that base has with the same content keeps its time
// there; a changed one gets created, and at least one second more than it had.
// base is nil for a first release.
func New(site Site, seq uint64, created time.Time, base *Manifest, files []File) (*Manifest, error) {
	m := &Manifest{
		Header: Header{Format: manifestFormat, Site: site, Seq: seq, Created: created.Unix()},
		Files:  slices.Clone(files),
	}
	if base != nil {
		if base.Site != site {
			return nil, manifestError(0, "the base is of site %q, the release of %q", base.Site, site)
		}
		m.Prev = base.ID()
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	sums, body := newTally(), make([]byte, 0, len(files)*lineGuess)
	var err error
	for i := range m.Files {
		m.Files[i].MTime = m.mtime(m.Files[i], base)
		if body, err = sums.add(body, m.Files[i]); err != nil {
			return nil, err
		}
	}
	m.Count, m.Bytes, m.Tree = sums.count, sums.bytes, sums.digest()
	if err := m.check(sums); err != nil {
		return nil, err
	}
	head, err := headerLine(m.Header)
	if err != nil {
		return nil, err
	}
	m.raw = append(head, body...)
	if len(m.raw) > MaxManifestBytes {
		return nil, tooLarge(len(m.raw))
	}
	m.digest = Sum(m.raw)
	return m, nil
}

// mtime is the time of f by the mtime rule.
func (m *Manifest) mtime(f File, base *Manifest) int64 {
	old, ok := base.Lookup(f.Path)
	switch {
	case !ok:
		return m.Created
	case old.Digest == f.Digest:
		return old.MTime
	default:
		return max(m.Created, old.MTime+1)
	}
}

// ParseManifest reads a manifest and checks all of it: the canonical form to
// the byte, the order, every path rule, the bounds and the sums in the header.
// It keeps raw.
func ParseManifest(raw []byte) (*Manifest, error) {
	if len(raw) > MaxManifestBytes {
		return nil, tooLarge(len(raw))
	}
	head, rest, ok := bytes.Cut(raw, newline)
	if !ok {
		return nil, manifestError(0, "the line does not end")
	}
	header, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Header: header, raw: raw, digest: Sum(raw)}
	sums, in := newTally(), lineParser{types: map[string]string{}}
	// The header may lie about the count: room is made for what rest can hold.
	m.Files = make([]File, 0, min(max(m.Count, 0), len(rest)/lineLeast, MaxFiles))
	var line, again []byte
	for len(rest) > 0 {
		if line, rest, ok = bytes.Cut(rest, newline); !ok {
			return nil, manifestError(sums.count+1, "the line does not end")
		}
		f, err := in.parse(line)
		if err != nil {
			return nil, manifestError(sums.count+1, "%v", err)
		}
		if again, err = sums.add(again[:0], f); err != nil {
			return nil, err
		}
		// The parser need not be strict: what is not what the file encodes
		// to, newline included, is refused here.
		if !bytes.Equal(line, again[:len(again)-1]) {
			return nil, manifestError(sums.count, "%v", errForm)
		}
		m.Files = append(m.Files, f)
	}
	if err := m.check(sums); err != nil {
		return nil, err
	}
	return m, nil
}

// manifestError names the line, counted from 0 for the header.
func manifestError(line int, format string, args ...any) error {
	return fmt.Errorf("%w manifest, line %d: %s", ErrInvalid, line+1, fmt.Sprintf(format, args...))
}

func tooLarge(n int) error {
	return fmt.Errorf("%w manifest: %d bytes, at most %d are allowed", ErrInvalid, n, MaxManifestBytes)
}

// ID is the release's id.
func (m *Manifest) ID() ID { return NewID(m.Seq, m.digest) }

// Digest is the digest of Raw.
func (m *Manifest) Digest() Digest { return m.digest }

// Raw is the manifest as it is stored and signed: canonical JSON lines. The
// caller does not change it.
func (m *Manifest) Raw() []byte { return m.raw }

// Lookup finds a file by its path. A nil manifest has no files.
func (m *Manifest) Lookup(path string) (File, bool) {
	if m == nil {
		return File{}, false
	}
	i, ok := slices.BinarySearchFunc(m.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !ok {
		return File{}, false
	}
	return m.Files[i], true
}
