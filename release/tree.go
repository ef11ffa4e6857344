package release

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// folded is a path with its spelling for comparison.
type folded struct{ key, path string }

// CheckTree checks what holds between paths: no two may be one name where case
// does not count, and no file may be where another needs a directory. It
// expects valid paths and is quickest when they are sorted.
func CheckTree(files []File) error {
	tree := foldPaths(files)
	for i := 1; i < len(tree); i++ {
		if a, b := tree[i-1], tree[i]; a.key == b.key {
			return pathError(b.path, fmt.Sprintf("it is the same name as %q where case does not count", a.path))
		}
	}
	// Sorted, all paths of a directory stand together, so that each directory
	// comes up once: with the first path inside it.
	before := ""
	for _, f := range tree {
		for i := sharedDir(before, f.key); ; {
			n := strings.IndexByte(f.key[i:], '/')
			if n < 0 {
				break
			}
			i += n
			if at, ok := slices.BinarySearchFunc(tree, f.key[:i], byKey); ok {
				return pathError(f.path, fmt.Sprintf("it needs a directory where %q is a file", tree[at].path))
			}
			i++
		}
		before = f.key
	}
	return nil
}

// foldPaths pairs every path with its key, sorted by key.
func foldPaths(files []File) []folded {
	tree := make([]folded, len(files))
	fold, sorted := cases.Fold(), true
	for i, f := range files {
		tree[i] = folded{key: foldPath(fold, f.Path), path: f.Path}
		sorted = sorted && (i == 0 || tree[i-1].key < tree[i].key)
	}
	if !sorted {
		slices.SortFunc(tree, func(a, b folded) int { return strings.Compare(a.key, b.key) })
	}
	return tree
}

// foldPath is the same for two paths exactly when they are canonical caseless
// matches of each other (Unicode, D145).
func foldPath(fold cases.Caser, p string) string {
	upper := false
	for i := range len(p) {
		if p[i] >= utf8.RuneSelf {
			return norm.NFC.String(fold.String(norm.NFD.String(p)))
		}
		upper = upper || p[i] >= 'A' && p[i] <= 'Z'
	}
	if upper {
		return strings.ToLower(p)
	}
	return p
}

// sharedDir is how many bytes of b are directories that a is in too.
func sharedDir(a, b string) int {
	end := 0
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			end = i + 1
		}
	}
	return end
}

func byKey(f folded, key string) int { return strings.Compare(f.key, key) }
