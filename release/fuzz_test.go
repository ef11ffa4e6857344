package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParseManifest: what parses is what New makes of the same files, to the
// byte, and its lines are JSON that says the same.
func FuzzParseManifest(f *testing.F) {
	raw := sample(f).Raw()
	f.Add(raw)
	f.Add(bytes.TrimSuffix(raw, newline))
	f.Add(mustNew(f, 43, day, sample(f), file("index.html", "<h2>")).Raw())
	f.Add([]byte(strings.Replace(string(raw), `"s":2`, `"s":02`, 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseManifest(raw)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		sums, body := newTally(), []byte(nil)
		for _, file := range m.Files {
			if body, err = sums.add(body, file); err != nil {
				t.Fatal(err)
			}
		}
		head, err := headerLine(m.Header)
		if err != nil || !bytes.Equal(append(head, body...), raw) {
			t.Errorf("%q\nis written again as\n%q%q", raw, head, body)
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(body, newline), newline) {
			var l struct{ P, H, M, T string }
			if err := json.Unmarshal(line, &l); err != nil || l.P != m.Files[i].Path || l.T != m.Files[i].Type || l.H != m.Files[i].Digest.Hex() {
				t.Errorf("%q is not the JSON of %+v: %v", line, m.Files[i], err)
			}
		}
		if again, err := ParseManifest(raw); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("read again: %v", err)
		}
	})
}

// FuzzParseLine: a line that is what its file encodes to is JSON that says the
// same. The sums in the header keep the fuzzer of whole manifests from here.
func FuzzParseLine(f *testing.F) {
	for _, line := range bytes.Split(sample(f).Raw(), newline) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		in := lineParser{types: map[string]string{}}
		file, err := in.parse(line)
		if err != nil {
			return
		}
		again, err := newTally().add(nil, file)
		if err != nil || !bytes.Equal(again, append(line, '\n')) {
			return
		}
		var l struct {
			P, H, M, T string
			S, U       int64
		}
		err = json.Unmarshal(line, &l)
		if want := (File{Path: l.P, Size: l.S, Digest: file.Digest, Exec: l.M == modeExec, Type: l.T, MTime: l.U}); err != nil || file != want || l.H != file.Digest.Hex() {
			t.Errorf("%q is read as %+v, in JSON as %+v: %v", line, file, l, err)
		}
	})
}

// FuzzNew: whatever New takes, ParseManifest takes too.
func FuzzNew(f *testing.F) {
	f.Add("index.html", "a/b", "text/html", int64(3), uint64(1), int64(1_700_000_000), true)
	f.Add(`"`, `é`, `a"\`, int64(0), uint64(maxSeq), int64(0), false)
	f.Fuzz(func(t *testing.T, a, b, mediaType string, size int64, seq uint64, created int64, exec bool) {
		m, err := New("www", seq, time.Unix(created, 0), nil, []File{{Path: a, Size: size, Type: mediaType, Exec: exec}, {Path: b}})
		if err != nil {
			return
		}
		back, err := ParseManifest(m.Raw())
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%q: %v", m.Raw(), err)
		}
		if _, err := ParseID(string(m.ID())); err != nil {
			t.Error(err)
		}
	})
}

// FuzzValidatePath: what is taken stays inside a directory, also by the rules
// of the standard library.
func FuzzValidatePath(f *testing.F) {
	for _, p := range goodPaths() {
		f.Add(p)
	}
	for _, paths := range badPaths() {
		for _, p := range paths {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, p string) {
		if err := ValidatePath(p); err != nil {
			if !errors.Is(err, ErrInvalid) || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if !filepath.IsLocal(p) || filepath.Clean(p) != p || !utf8.ValidString(p) || strings.ContainsAny(p, "\\:\x00\n\r\u2028") {
			t.Errorf("%q is taken", p)
		}
		// Alone, a path collides with nothing; with itself, always.
		if err := CheckTree(filesAt(p)); err != nil {
			t.Error(err)
		}
		if err := CheckTree(filesAt(p, strings.ToUpper(p)+"/x")); err == nil && strings.ToLower(strings.ToUpper(p)) == p {
			t.Errorf("%q is a file and a directory", p)
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"000042-3f9ac1d2e4b5", "1000000-3f9ac1d2e4b5", "000000-3f9ac1d2e4b5", "0000042-3f9ac1d2e4b5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		var d Digest
		full, err := ParseDigest(s[len(s)-idHex:] + strings.Repeat("0", 64-idHex))
		if d = full; err != nil {
			t.Fatal(err)
		}
		if string(id) != s || NewID(id.Seq(), d) != id || !id.Names(d) || id.Seq() == 0 {
			t.Errorf("%q is read as seq %d", s, id.Seq())
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add(emptySum)
	f.Add("sha256:" + emptySum)
	f.Add(strings.ToUpper(emptySum))
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err == nil && d.Hex() != s && d.String() != s {
			t.Errorf("%q is read as %s", s, d)
		}
	})
}

func FuzzParseSite(f *testing.F) {
	for _, s := range []string{"www", "-", "a/b", "A", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		site, err := ParseSite(s)
		node, nodeErr := ParseNodeID(s)
		group, groupErr := ParseGroup(s)
		if (err == nil) != (nodeErr == nil) || (err == nil) != (groupErr == nil) {
			t.Errorf("%q: %v, %v, %v", s, err, nodeErr, groupErr)
		}
		if err == nil && (string(site) != s || string(node) != s || string(group) != s || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || ValidatePath(s) != nil && !isDevice(s)) {
			t.Errorf("%q is taken", s)
		}
	})
}
