package release

import (
	"errors"
	"strings"
	"testing"
)

var longSegment = strings.Repeat("s", maxSegment)

func goodPaths() []string {
	return []string{
		"index.html", "a", "css/app.css", "a/b/c/d/e", "a b.txt", " leading", "a..b", "...a", "x", "-", "~", "a~1",
		".well-known/acme", ".nojekyll", "..a", "a/..b/c", "100%.html", "%2e%2e/a", "q?x=1", "a*b", `a"b`, "<a>", "a|b", "a'b",
		"ünï/cödé.html", "日本語/索引.html", "भारत.html", "emoji/😀.png", "👩‍👩‍👧.svg", "\u00e9.html", "ﬁ.txt", "²", "\u200d",
		"_r2/a", "_relman/a", "a/_r/b", "a/.relman/b", ".relman2", "r/x",
		"console.html", "connect", "com", "com10", "comx", "lpt", "lpt-1", "nulls.txt", "auxiliary", "prn1", "a.con", "a.nul.b", "COM.1",
		longSegment, longSegment + "/" + longSegment,
		strings.Repeat("a/", maxDepth-1) + "a",
		strings.Repeat(longSegment+"/", 3) + strings.Repeat("x", maxPath-3*(maxSegment+1)-2) + "/x",
	}
}

func badPaths() map[string][]string {
	return map[string][]string{
		"is empty":              {""},
		"starts with '/'":       {"/", "/a", "//a", "/etc/passwd"},
		"empty segment":         {"a/", "a//b", "a/b//"},
		`segment "."`:           {".", "./a", "a/./b", "a/."},
		`segment ".."`:          {"..", "../a", "a/../b", "a/..", "../../etc/passwd"},
		"is not UTF-8":          {"\xff", "a/\xc3", "\xc0\xae\xc0\xae/a", "\xed\xa0\x80", "\xf4\x90\x80\x80", "caf\xe9.html"},
		"normal form C":         {"e\u0301.html", "a/u\u0308", "\u212b", "\u1100\u1161", "a\u0323\u0307/x\u0307\u0323", "\u0958"},
		"control character":     {"a\x00b", "\x00", "a\n", "a\tb", "\x1b[31m", "a\x7f", "\u0080", "a\u009fb", "\u2028", "a\u2029", "\u202egnp.exe", "a\u202ab", "\u2066a", "a\u2069"},
		`'\\'`:                  {`a\b`, `..\a`, `\`, `a/\`},
		"':'":                   {"c:", "c:/a", "a:b", "file:stream", "a/:"},
		"ends in a space or":    {"a ", "b.", "a /b", "a./b", " ", "...", "a/..."},
		"Windows device":        {"con", "CON", "Con.txt", "prn", "aux", "aux.html", "AUX.tar.gz", "nul", "a/nul", "nul/a", "com1", "COM9.log", "lpt1", "Lpt0.x", "com¹", "LPT³.txt", "nul .txt", "CONIN$", "conout$.x"},
		"reserved":              {"_r", "_r/a", "_R/a", ".relman", ".relman/x", ".Relman/x", ".RELMAN"},
		"bytes, at most 255":    {longSegment + "s", "a/" + longSegment + "s/b", strings.Repeat("é", 128)},
		"bytes, at most 1024":   {strings.Repeat("a/", 512) + "a", strings.Repeat("x", 5000), strings.Repeat("\x00", 2000)},
		"more than 64 segments": {strings.Repeat("a/", maxDepth) + "a"},
	}
}

func TestValidatePath_good(t *testing.T) {
	for _, p := range goodPaths() {
		if err := ValidatePath(p); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestValidatePath_bad(t *testing.T) {
	for rule, paths := range badPaths() {
		for _, p := range paths {
			err := ValidatePath(p)
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("ValidatePath(%q) = %v, want ErrInvalid", p, err)
				continue
			}
			if !strings.Contains(err.Error(), rule) {
				t.Errorf("ValidatePath(%q) = %v, want the rule %q", p, err, rule)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("ValidatePath of %d bytes makes an error of %d", len(p), len(err.Error()))
			}
		}
	}
}

func TestValidatePath_namesThePath(t *testing.T) {
	if err := ValidatePath("a/nul/b"); !strings.Contains(err.Error(), `path "a/nul/b"`) {
		t.Errorf("%v", err)
	}
}

func TestValidatePath_doesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = ValidatePath("css/app-3f9ac1d2.css") }); n > 0 {
		t.Errorf("%v allocations for a plain path", n)
	}
}
