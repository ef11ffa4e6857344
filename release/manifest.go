package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"sort"
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

// fileLine is a File as the manifest spells it.
type fileLine struct {
	Path  string `json:"p"`
	Size  int64  `json:"s"`
	Hash  string `json:"h"`
	Mode  string `json:"m"`
	Type  string `json:"t,omitempty"`
	MTime int64  `json:"u,omitempty"`
}

const (
	modePlain = "0644"
	modeExec  = "0755"
)

func (f File) line() fileLine {
	l := fileLine{Path: f.Path, Size: f.Size, Hash: f.Digest.Hex(), Mode: modePlain, Type: f.Type, MTime: f.MTime}
	if f.Exec {
		l.Mode = modeExec
	}
	return l
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
		Files:  make([]File, len(files)),
	}
	copy(m.Files, files)
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].Path < m.Files[j].Path })
	if base != nil {
		m.Prev = base.ID()
	}
	for i := range m.Files {
		f := &m.Files[i]
		f.MTime = m.Created
		if old, ok := base.Lookup(f.Path); ok {
			if old.Digest == f.Digest {
				f.MTime = old.MTime
			} else {
				f.MTime = max(m.Created, old.MTime+1)
			}
		}
		m.Bytes += f.Size
	}
	m.Count = len(m.Files)
	m.Tree = treeDigest(m.Files)
	if err := m.validate(); err != nil {
		return nil, err
	}
	raw, err := m.encode()
	if err != nil {
		return nil, err
	}
	m.raw, m.digest = raw, Sum(raw)
	return m, nil
}

// ParseManifest reads a manifest and checks all of it: the canonical form to
// the byte, the order, every path rule, the bounds and the sums in the header.
// It keeps raw.
func ParseManifest(raw []byte) (*Manifest, error) {
	if len(raw) > MaxManifestBytes {
		return nil, manifestError(0, "%d bytes, at most %d are allowed", len(raw), MaxManifestBytes)
	}
	m := &Manifest{raw: raw, digest: Sum(raw)}
	rest := raw
	for n := 0; len(rest) > 0; n++ {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return nil, manifestError(n, "the last line does not end")
		}
		if err := m.parseLine(n, rest[:end]); err != nil {
			return nil, err
		}
		rest = rest[end+1:]
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(raw, again) {
		return nil, manifestError(0, "not in canonical form")
	}
	return m, nil
}

// parseLine reads line n: the header or a file.
func (m *Manifest) parseLine(n int, line []byte) error {
	if n == 0 {
		if err := strictJSON(line, &m.Header); err != nil {
			return manifestError(n, "%v", err)
		}
		return nil
	}
	if n > MaxFiles {
		return manifestError(n, "more than %d files", MaxFiles)
	}
	var l fileLine
	if err := strictJSON(line, &l); err != nil {
		return manifestError(n, "%v", err)
	}
	d, err := ParseDigest(l.Hash)
	if err != nil {
		return manifestError(n, "%v", err)
	}
	if l.Mode != modePlain && l.Mode != modeExec {
		return manifestError(n, "mode %q, only %s and %s are allowed", l.Mode, modePlain, modeExec)
	}
	m.Files = append(m.Files, File{Path: l.Path, Size: l.Size, Digest: d, Exec: l.Mode == modeExec, Type: l.Type, MTime: l.MTime})
	return nil
}

// manifestError names the line, counted from 0 for the header.
func manifestError(line int, format string, args ...any) error {
	return fmt.Errorf("%w manifest, line %d: %s", ErrInvalid, line+1, fmt.Sprintf(format, args...))
}

func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF { //nolint:errorlint // Token documents io.EOF itself
		return fmt.Errorf("more than one value")
	}
	return nil
}

// validate checks everything but the canonical form.
func (m *Manifest) validate() error {
	if m.Format != manifestFormat {
		return manifestError(0, "format %d, this version reads %d", m.Format, manifestFormat)
	}
	if _, err := ParseSite(string(m.Site)); err != nil {
		return manifestError(0, "%v", err)
	}
	if m.Seq == 0 {
		return manifestError(0, "no sequence number")
	}
	if m.Prev != "" {
		if _, err := ParseID(string(m.Prev)); err != nil {
			return manifestError(0, "%v", err)
		}
	}
	if len(m.Files) == 0 {
		return manifestError(0, "no files")
	}
	if len(m.Files) > MaxFiles {
		return manifestError(0, "%d files, at most %d are allowed", len(m.Files), MaxFiles)
	}
	var bytes int64
	for i, f := range m.Files {
		if err := f.validate(); err != nil {
			return manifestError(i+1, "%v", err)
		}
		if bytes += f.Size; bytes > MaxSiteSize {
			return manifestError(i+1, "the site is larger than %d bytes", int64(MaxSiteSize))
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return manifestError(i+1, "path %q does not come after %q", f.Path, m.Files[i-1].Path)
		}
	}
	if err := checkTree(m.Files); err != nil {
		return fmt.Errorf("%w manifest: %w", ErrInvalid, err)
	}
	switch {
	case m.Count != len(m.Files):
		return manifestError(0, "says %d files, has %d", m.Count, len(m.Files))
	case m.Bytes != bytes:
		return manifestError(0, "says %d bytes, has %d", m.Bytes, bytes)
	case m.Tree != treeDigest(m.Files):
		return manifestError(0, "the tree digest does not match the files")
	}
	return nil
}

func (f File) validate() error {
	if err := ValidatePath(f.Path); err != nil {
		return err
	}
	if f.Size < 0 || f.Size > MaxFileSize {
		return fmt.Errorf("%q has size %d, at most %d is allowed", f.Path, f.Size, int64(MaxFileSize))
	}
	if len(f.Type) > maxMediaType || !isMediaType(f.Type) {
		return fmt.Errorf("%q has media type %q", f.Path, f.Type)
	}
	if f.MTime < 0 {
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

// treeDigest is the digest of the lines of files without their times.
func treeDigest(files []File) Digest {
	h := sha256.New()
	enc := newEncoder(h)
	for _, f := range files {
		f.MTime = 0
		if err := enc.Encode(f.line()); err != nil {
			panic(err) // a struct of strings and numbers into a hash: cannot fail
		}
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := newEncoder(&b)
	if err := enc.Encode(m.Header); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if err := enc.Encode(f.line()); err != nil {
			return nil, err
		}
	}
	if b.Len() > MaxManifestBytes {
		return nil, manifestError(0, "%d bytes, at most %d are allowed", b.Len(), MaxManifestBytes)
	}
	return b.Bytes(), nil
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
	i := sort.Search(len(m.Files), func(i int) bool { return m.Files[i].Path >= path })
	if i < len(m.Files) && m.Files[i].Path == path {
		return m.Files[i], true
	}
	return File{}, false
}
