package release

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
)

// TestParseManifest_refusesEveryChangedByte: nothing that differs from a
// manifest in one byte is a manifest of the same files.
func TestParseManifest_refusesEveryChangedByte(t *testing.T) {
	good := sample(t)
	raw := good.Raw()
	for i := range raw {
		for _, c := range []byte{raw[i] ^ 1, raw[i] ^ 0x20, ' ', '0', '"', '\n', 0xff} {
			if c == raw[i] {
				continue
			}
			bad := bytes.Clone(raw)
			bad[i] = c
			// The tree digest covers the files; header fields and times may
			// say something else that is valid, and have another digest then.
			m, err := ParseManifest(bad)
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Fatalf("byte %d as %q: error %v is not ErrInvalid", i, c, err)
			}
			if err == nil && (m.Tree != good.Tree || m.Digest() == good.Digest()) {
				t.Fatalf("byte %d as %q is taken: %s", i, c, bad)
			}
		}
	}
}

func TestParseManifest_refusesEveryCut(t *testing.T) {
	raw := sample(t).Raw()
	for i := range raw {
		if _, err := ParseManifest(raw[:i]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("the first %d of %d bytes: error %v", i, len(raw), err)
		}
	}
	if _, err := ParseManifest(append(bytes.Clone(raw), '\n')); !errors.Is(err, ErrInvalid) {
		t.Errorf("one empty line more: error %v", err)
	}
}

func TestParseManifest_refusesOtherSpellings(t *testing.T) {
	raw := string(sample(t).Raw())
	if _, err := ParseManifest([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, old, new string }{
		{"a space", `"s":2`, `"s": 2`},
		{"a leading zero", `"s":2`, `"s":02`},
		{"a sign", `"s":2`, `"s":+2`},
		{"a float", `"s":2`, `"s":2.0`},
		{"an exponent", `"s":2`, `"s":2e0`},
		{"no number", `"s":2`, `"s":`},
		{"a number past int64", `"s":2`, `"s":99999999999999999999`},
		{"an escaped character", `"index.html"`, `"\u0069ndex.html"`},
		{"an escaped slash", `"bin/tool"`, `"bin\/tool"`},
		{"an escaped letter", `"index.html"`, `"\index.html"`},
		{"a raw quote", `\"quoted\"`, `"quoted"`},
		{"an escaped <", `<&>`, `\u003c&>`},
		{"a digest in upper case", Sum(nil).Hex(), strings.ToUpper(Sum(nil).Hex())},
		{"a digest with its algorithm", Sum(nil).Hex(), Sum(nil).String()},
		{"a short digest", Sum(nil).Hex(), Sum(nil).Hex()[:62]},
		{"another mode", `"m":"0755"`, `"m":"0777"`},
		{"a setuid mode", `"m":"0755"`, `"m":"4755"`},
		{"another order of members", `"p":"empty","s":0`, `"s":0,"p":"empty"`},
		{"a member twice", `"s":2`, `"s":2,"s":2`},
		{"an unknown member", `"m":"0755"`, `"m":"0755","x":1`},
		{"an empty media type", `"m":"0755"`, `"m":"0755","t":""`},
		{"a time of zero", `,"u":1700000000}`, `,"u":0}`},
		{"a negative time", `,"u":1700000000}`, `,"u":-1}`},
		{"a time after the year 9999", `,"u":1700000000}`, `,"u":253402300800}`},
		{"a name in upper case", `{"p":"empty"`, `{"P":"empty"`},
		{"a carriage return", "}\n", "}\r\n"},
		{"bytes after the value", "}\n{", "} \n{"},
		{"a header member in upper case", `"site"`, `"Site"`},
		{"an unknown header member", `"seq":42`, `"seq":42,"x":1`},
		{"a header member twice", `"seq":42`, `"seq":41,"seq":42`},
		{"a header without a base", `"prev":"",`, ``},
		{"a later format", `"relman":1`, `"relman":2`},
		{"a bad site", `"www"`, `"../www"`},
		{"a bad base", `"prev":""`, `"prev":"41"`},
		{"a base that is not older", `"prev":""`, `"prev":"000042-3f9ac1d2e4b5"`},
		{"a negative creation time", `"created":17`, `"created":-17`},
		{"a wrong count", `"files":4`, `"files":5`},
		{"a huge count", `"files":4`, `"files":9223372036854775807`},
		{"a negative count", `"files":4`, `"files":-4`},
		{"a wrong sum", `"bytes":9`, `"bytes":8`},
		{"a wrong tree", `"tree":"sha256:`, `"tree":"sha256:0`},
	} {
		bad := strings.Replace(raw, c.old, c.new, 1)
		if bad == raw {
			t.Fatalf("%s: %q is not in the sample", c.what, c.old)
		}
		if _, err := ParseManifest([]byte(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is taken: error %v", c.what, err)
		}
	}
}

// withLines is a manifest with right sums around lines that New would not write.
func withLines(t *testing.T, lines ...File) []byte {
	t.Helper()
	sums := newTally()
	var body []byte
	for _, f := range lines {
		start := len(body)
		body = appendTreeLine(body, f)
		sums.tree.Write(body[start:])
		sums.bytes += f.Size
	}
	head, err := headerLine(Header{Format: 1, Site: "www", Seq: 1, Count: len(lines), Bytes: sums.bytes, Tree: sums.digest()})
	if err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

func TestParseManifest_refusesWhatNoPublisherWrites(t *testing.T) {
	if _, err := ParseManifest(withLines(t, filesAt("a", "b")...)); err != nil {
		t.Fatal(err)
	}
	sized := func(path string, n int64) File { return File{Path: path, Size: n} }
	var huge []File
	for i := range 11 {
		huge = append(huge, sized("f"+strconv.Itoa(10+i), MaxFileSize))
	}
	for what, files := range map[string][]File{
		"no files":              nil,
		"another order":         filesAt("b", "a"),
		"a path twice":          filesAt("a", "a"),
		"a path that leaves":    filesAt("../../etc/passwd"),
		"an absolute path":      filesAt("/etc/passwd"),
		"a control character":   filesAt("a\tb"),
		"a path that collides":  filesAt("A", "a"),
		"a file as a directory": filesAt("a", "a/b"),
		"a reserved path":       filesAt("_r/x"),
		"a size too large":      {sized("a", MaxFileSize+1)},
		"a site too large":      huge,
		"a split header":        {{Path: "a", Type: "text/css\nX-Y: z"}},
	} {
		if _, err := ParseManifest(withLines(t, files...)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is taken: error %v", what, err)
		}
	}
}

func TestParseManifest_bounds(t *testing.T) {
	if _, err := ParseManifest(make([]byte, MaxManifestBytes+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a manifest of more than %d bytes: error %v", MaxManifestBytes, err)
	}
	// A header that promises the most files makes no room for them.
	head := `{"relman":1,"site":"www","seq":1,"created":0,"prev":"","files":200000,"bytes":0,"tree":"` + Digest{}.String() + "\"}\n"
	got := testing.AllocsPerRun(10, func() {
		if _, err := ParseManifest([]byte(head)); !errors.Is(err, ErrInvalid) {
			t.Errorf("no files: error %v", err)
		}
	})
	if got > 100 {
		t.Errorf("%v allocations for a header alone", got)
	}
}

func TestParseManifest_errorsNameTheLine(t *testing.T) {
	lines := strings.SplitAfter(string(sample(t).Raw()), "\n")
	lines[2] = strings.Replace(lines[2], `"p"`, `"q"`, 1)
	_, err := ParseManifest([]byte(strings.Join(lines, "")))
	if err == nil || !strings.Contains(err.Error(), "line 3: not in canonical form") {
		t.Errorf("error %v", err)
	}
}
