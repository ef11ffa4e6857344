package release

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func filesAt(paths ...string) []File {
	files := make([]File, len(paths))
	for i, p := range paths {
		files[i] = File{Path: p}
	}
	return files
}

func TestCheckTree_collisions(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"a", "a"},
		{"Readme.md", "README.md"},
		{"img/Logo.png", "IMG/logo.png"},
		{"straße.html", "STRASSE.html"},
		{"ﬁ.txt", "fi.txt"},
		{"Ä.html", "ä.html"},
		{"Σίσυφος", "ΣΊΣΥΦΟΣ"},
		{"İ", "i\u0307"},
		{"\u0390", "\u1fd3"},
		{"K", "k"}, // NFC turns the Kelvin sign into K before this is asked
		{"a", "a/b"},
		{"a/b", "a/b/c/d"},
		{"A/x", "a"},
		{"a/x", "A"},
		{"Ä", "ä/x"},
		{"b/STRASSE/x/y", "b/straße"},
	} {
		for _, files := range [][]File{
			filesAt(c.a, c.b), filesAt(c.b, c.a),
			filesAt("0", c.a, "a-", "a.b", "bb", "c/0", c.b, "zzz/z"),
		} {
			err := CheckTree(files)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.a)) || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.b)) {
				t.Errorf("CheckTree(%q, %q) = %v, want both named", c.a, c.b, err)
			}
		}
	}
}

func TestCheckTree_good(t *testing.T) {
	for _, paths := range [][]string{
		nil,
		{"a"},
		{"a/b", "a/c", "ab", "b"},
		{"a", "a b", "a-b", "a.b/c", "a0", "b"},
		{"a!", "a/x", "a0"},
		{"A/x", "a/y"}, // one directory where case does not count, and nothing is lost
		{"B", "a", "C/d"},
		{"a/b/c", "a/bc", "a/b-c", "ab/c"},
		{"ä", "a", "å/x"},
		{"ß", "s"},
	} {
		if err := CheckTree(filesAt(paths...)); err != nil {
			t.Errorf("CheckTree(%q) = %v", paths, err)
		}
	}
}

// TestCheckTree_sameAsPlain compares with the rule as one would first write it.
func TestCheckTree_sameAsPlain(t *testing.T) {
	names := []string{"a", "A", "b", "a-", "a.b", "é", "É"}
	var paths []string
	for _, x := range names {
		paths = append(paths, x)
		for _, y := range names {
			paths = append(paths, x+"/"+y)
		}
	}
	refused := 0
	for _, a := range paths {
		for _, b := range paths {
			for _, c := range []string{"a/b", "é/a-", "b"} {
				err := CheckTree(filesAt(a, b, c))
				if want := collide(a, b) || collide(a, c) || collide(b, c); want != (err != nil) {
					t.Fatalf("CheckTree(%q, %q, %q) = %v", a, b, c, err)
				}
				if err != nil {
					refused++
				}
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func collide(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func TestCheckTree_hundredThousandPathsAreQuick(t *testing.T) {
	files := manyFiles(100_000)
	start := time.Now()
	for _, f := range files {
		if err := ValidatePath(f.Path); err != nil {
			t.Fatal(err)
		}
	}
	if err := CheckTree(files); err != nil {
		t.Fatal(err)
	}
	// It takes some 30 ms; what is excluded is anything that grows with the square.
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("100,000 paths took %v", d)
	}
}

// manyFiles is a site as big as wanted: pages in directories, sorted.
func manyFiles(n int) []File {
	files := make([]File, n)
	for i := range files {
		p := fmt.Sprintf("section-%03d/page-%06d/index.html", i/500, i)
		files[i] = File{Path: p, Size: int64(1000 + i), Digest: Sum([]byte(p)), Type: "text/html; charset=utf-8"}
	}
	return files
}
