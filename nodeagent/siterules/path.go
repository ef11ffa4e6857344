package siterules

// isClean reports whether a decoded path of an address is one that a file can
// have: from the root, without empty or dot segments, without what browsers
// take for a slash. All else matches no rule and names no file, so that no
// part of it can become the host of a redirect.
func isClean(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	from := 1
	for i := 1; i <= len(path); i++ {
		if i < len(path) {
			if c := path[i]; c < ' ' || c == 0x7f || c == '\\' {
				return false
			} else if c != '/' {
				continue
			}
		}
		seg := path[from:i]
		if seg == "." || seg == ".." || seg == "" && i < len(path) {
			return false
		}
		from = i + 1
	}
	return true
}

// unslash takes off the slash at the end, except of the root.
func unslash(path string) string {
	if len(path) > 1 && path[len(path)-1] == '/' {
		return path[:len(path)-1]
	}
	return path
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
