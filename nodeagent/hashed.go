package nodeagent

import (
	"slices"
	"strings"
)

// leastHash is how many letters and digits of a name are taken for a hash.
const leastHash = 8

// hashed reports whether a path's last part carries a hash of its content, as
// build tools put it there: app.3f9ac1d2.js, index-BfX8a9zQ.css. Such a path
// never has another content, so caches may keep it for good. A wrong yes would be
// kept by browsers for a year, a wrong no costs a 304: so it has to look like
// nothing else. It is the last part before the extension, of 8 and more hex digits
// with letters and digits among them, or of 8 to 32 letters and digits in which
// upper case, lower case and digits alternate. Dates, versions and words are not.
func hashed(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	dot := strings.IndexByte(name, '.')
	if dot <= 0 || strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".htm") {
		return false
	}
	// What stands before an extension: "index-BfX8a9zQ" of index-BfX8a9zQ.css.map,
	// "app" and "3f9ac1d2" of app.3f9ac1d2.js.
	for rest := name; ; {
		part, after, more := strings.Cut(rest, ".")
		if !more {
			return false
		}
		at := strings.LastIndexAny(part, "-_~")
		// A hash alone, with nothing before it, is a name for its content, too.
		if isHash(part[at+1:]) {
			return true
		}
		rest = after
	}
}

// surelyHashed is hashed with hex digits, several letters among them: a name that
// nobody gives, and nobody guesses.
func surelyHashed(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	parts := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(".-_~", r) })
	return slices.ContainsFunc(parts, isHexHash)
}

// isHexHash is isHash of hex digits alone, at least two of them letters.
func isHexHash(s string) bool {
	letters := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'f':
			letters++
		default:
			return false
		}
	}
	return letters >= 2 && isHash(s)
}

func isHash(s string) bool {
	if len(s) < leastHash {
		return false
	}
	var hex, digits, lower, upper int
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f':
			lower++
			hex++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 'A' && c <= 'Z':
			upper++
		default:
			return false
		}
	}
	if hex == len(s) {
		if last := s[len(s)-1]; lower == 1 && last >= 'a' { // 20240115a
			return false
		}
		return digits >= 2 && lower >= 1
	}
	return len(s) <= 32 && digits >= 1 && lower >= 2 && upper >= 2 && 5*changes(s) >= 2*len(s)
}

// changes counts how often a string goes from one kind of character to another:
// words like Version2Beta do it seldom.
func changes(s string) (n int) {
	kind := func(c byte) int {
		switch {
		case c <= '9':
			return 0
		case c <= 'Z':
			return 1
		}
		return 2
	}
	for i := 1; i < len(s); i++ {
		if kind(s[i]) != kind(s[i-1]) {
			n++
		}
	}
	return n
}
