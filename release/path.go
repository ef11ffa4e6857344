package release

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a path: those of the file systems that relman meets.
const (
	maxPath    = 1024 // bytes
	maxSegment = 255  // bytes
	maxDepth   = 64   // segments
)

// ValidatePath checks one path: relative, slash-separated, and spelled so that
// it names the same file on every system that may publish it or hold it. A
// path is refused or taken as it is, never cleaned. The error unwraps to
// ErrInvalid.
func ValidatePath(p string) error {
	if rule := brokenRule(p); rule != "" {
		return pathError(p, rule)
	}
	return nil
}

// brokenRule says in words which rule p breaks, "" for none.
func brokenRule(p string) string {
	switch {
	case p == "":
		return "it is empty"
	case len(p) > maxPath:
		return fmt.Sprintf("it has %d bytes, at most %d are allowed", len(p), maxPath)
	case p[0] == '/':
		return "it starts with '/'"
	}
	if rule := badCharacter(p); rule != "" {
		return rule
	}
	depth := 0
	for seg := range strings.SplitSeq(p, "/") {
		if depth++; depth > maxDepth {
			return fmt.Sprintf("it is more than %d segments deep", maxDepth)
		}
		if rule := badSegment(seg); rule != "" {
			return rule
		}
	}
	return reservedTop(p)
}

// badCharacter looks for characters that no path may have. Almost every path
// is ASCII, so that one is read once, byte by byte.
func badCharacter(p string) string {
	ascii := true
	for i := range len(p) {
		switch c := p[i]; {
		case c < ' ' || c == 0x7f:
			return fmt.Sprintf("it has the control character %U", c)
		case c == '\\' || c == ':':
			return fmt.Sprintf("it has %q, which not every file system can hold", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if ascii {
		return ""
	}
	if !utf8.ValidString(p) {
		return "it is not UTF-8"
	}
	for _, r := range p {
		if isHidden(r) {
			return fmt.Sprintf("it has the control character %U", r)
		}
	}
	if !norm.NFC.IsNormalString(p) {
		return "it is not in Unicode normal form C"
	}
	return ""
}

// isHidden picks the controls beyond ASCII: C1, the line separators, and the
// bidirectional overrides, which make a name read as another one.
func isHidden(r rune) bool {
	return r >= 0x80 && r <= 0x9f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

func badSegment(seg string) string {
	switch {
	case seg == "":
		return "it has an empty segment"
	case seg == "." || seg == "..":
		return fmt.Sprintf("it has the segment %q", seg)
	case len(seg) > maxSegment:
		return fmt.Sprintf("it has a segment of %d bytes, at most %d are allowed", len(seg), maxSegment)
	case seg[len(seg)-1] == ' ' || seg[len(seg)-1] == '.':
		return fmt.Sprintf("its segment %q ends in a space or a dot", seg)
	case isDevice(seg):
		return fmt.Sprintf("its segment %q is the name of a Windows device", seg)
	}
	return ""
}

// isDevice reports whether Windows opens a device for a file of this name,
// which it does whatever the extension.
func isDevice(seg string) bool {
	switch seg[0] | 0x20 { // lower case: nearly every name is out by now
	case 'a', 'c', 'l', 'n', 'p':
	default:
		return false
	}
	base, _, _ := strings.Cut(seg, ".")
	switch base = strings.ToLower(strings.TrimRight(base, " ")); base {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	port, isPort := strings.CutPrefix(base, "com")
	if !isPort {
		port, isPort = strings.CutPrefix(base, "lpt")
	}
	switch port {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return isPort
	}
	return false
}

// reservedTop keeps what relman serves and stores by itself out of sites.
func reservedTop(p string) string {
	top, _, _ := strings.Cut(p, "/")
	if strings.EqualFold(top, "_r") || strings.EqualFold(top, ".relman") {
		return fmt.Sprintf("%q at the top is reserved for relman", top)
	}
	return ""
}

// pathError names the path, shortened when it is too long to read.
func pathError(p, rule string) error {
	const show = 200
	if len(p) > show {
		return fmt.Errorf("%w path %q… (shortened): %s", ErrInvalid, p[:show], rule)
	}
	return fmt.Errorf("%w path %q: %s", ErrInvalid, p, rule)
}
