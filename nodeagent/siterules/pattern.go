package siterules

import (
	"net/url"
	"strings"
)

// maxPlaceholders bounds the placeholders of one rule: what they take is kept
// in an array, so that matching allocates nothing.
const maxPlaceholders = 16

// captured is what the placeholders of a rule stand for in one request, in the
// order in which the rule names them; the splat is the last one.
type captured [maxPlaceholders]string

// pattern says which paths a rule is for. Patterns and paths are compared
// decoded, and a slash at the end of either does not matter (as on Netlify;
// Cloudflare tells /a from /a/): which of the two is right is a matter of the
// trailing-slash policy, not of every single rule.
type pattern struct {
	parts []part
	rest  string // literal after the last part, without the slash at its end
	splat bool   // anything follows rest
	tail  string // what anything ends in
	names []string
}

// part is a literal and then a placeholder: one segment, or one without its
// literal end, as in /:name.html.
type part struct{ lit, end string }

// static reports whether exactly one path matches.
func (p *pattern) static() bool { return len(p.parts) == 0 && !p.splat }

// parsePattern reads the path of a rule.
func parsePattern(s string) (pattern, *fault) {
	var p pattern
	if f := p.refuse(s); f != nil {
		return p, f
	}
	s, p.tail, p.splat = strings.Cut(s, "*")
	var f *fault
	if p.tail, f = literal(p.tail); f != nil {
		return p, f
	}
	for {
		i := placeholderAt(s)
		if i < 0 {
			break
		}
		if s[i-1] != '/' {
			return p, wrong("write %3A for a colon, or begin the segment with the placeholder", "%q has a placeholder inside a segment", s)
		}
		var next part
		if next.lit, f = literal(s[:i]); f != nil {
			return p, f
		}
		name := placeholderName(s[i+1:])
		s = s[i+1+len(name):]
		end := strings.IndexByte(s+"/", '/')
		if placeholderAt(s[:end]) >= 0 {
			return p, wrong("put a slash between them", "two placeholders are in one segment")
		}
		if next.end, f = literal(s[:end]); f != nil {
			return p, f
		}
		s = s[end:]
		p.parts = append(p.parts, next)
		if f := p.name(name); f != nil {
			return p, f
		}
	}
	if p.rest, f = literal(s); f != nil {
		return p, f
	}
	if p.splat {
		return p, p.name("splat")
	}
	if len(p.parts) > 0 {
		p.rest = strings.TrimSuffix(p.rest, "/")
	} else {
		p.rest = unslash(p.rest)
	}
	return p, nil
}

// refuse tells what no path of a rule may have.
func (p *pattern) refuse(s string) *fault {
	switch {
	case strings.Contains(s, "://"):
		return wrong("write the path only; rules are for all host names of the site", "%q is not a path", s)
	case s[0] != '/':
		return wrong("begin it with a slash", "the path %q does not begin with a slash", s)
	case strings.ContainsRune(s, '?'):
		return wrong("write the parameters as words after the path: /path id=:id /target", "the path %q has a query string", s)
	case strings.ContainsRune(s, '#'):
		return wrong("remove it and what follows", "the path %q has a '#', and browsers send nothing after it", s)
	case strings.Count(s, "*") > 1:
		return wrong("use one * and :placeholders", "the path %q has more than one *", s)
	}
	if before, after, ok := strings.Cut(s, "*"); ok {
		if placeholderAt(after) >= 0 {
			return wrong("put the * last", "a placeholder comes after the *")
		}
		s = before + "x" + after
	}
	if dec, err := url.PathUnescape(s); err == nil && !isClean(dec) {
		return wrong("write the path as browsers ask for it", "the path %q has an empty segment, a dot segment, a backslash or a control character", s)
	}
	return nil
}

// name takes the name of one more placeholder.
func (p *pattern) name(name string) *fault {
	for _, other := range p.names {
		if other == name {
			return wrong("give each its own name", "the placeholder :%s is there twice", name)
		}
	}
	if name == "splat" && !p.splat {
		return wrong("use another name", "the name :splat is kept for the *")
	}
	if len(p.names) == maxPlaceholders {
		return wrong("use a * for the rest", "the rule has more than %d placeholders", maxPlaceholders)
	}
	p.names = append(p.names, name)
	return nil
}

// index finds a placeholder, -1 for none.
func (p *pattern) index(name string) int {
	for i, other := range p.names {
		if other == name {
			return i
		}
	}
	return -1
}

// match reports whether the rule is for path, a decoded one, and fills in
// what its placeholders stand for.
func (p *pattern) match(path string, got *captured) bool {
	whole := path
	if !p.splat {
		whole = unslash(path)
	}
	at := 0
	for i := range p.parts {
		part := &p.parts[i]
		if !strings.HasPrefix(whole[at:], part.lit) {
			return false
		}
		at += len(part.lit)
		seg := whole[at:]
		if end := strings.IndexByte(seg, '/'); end >= 0 {
			seg = seg[:end]
		}
		at += len(seg)
		value, ok := strings.CutSuffix(seg, part.end)
		if !ok || value == "" {
			return false
		}
		got[i] = value
	}
	left := whole[at:]
	if !p.splat {
		return left == p.rest
	}
	if rest, ok := strings.CutSuffix(p.rest, "/"); ok && left == rest && p.tail == "" {
		left = p.rest // /blog is /blog/ and so matches /blog/*
	}
	left, ok := strings.CutPrefix(left, p.rest)
	if !ok {
		return false
	}
	left, ok = strings.CutSuffix(left, p.tail)
	got[len(p.parts)] = left
	return ok
}

// literal decodes a piece of a rule's path.
func literal(s string) (string, *fault) {
	dec, err := url.PathUnescape(s)
	if err != nil {
		return "", wrong("write %25 for a percent sign", "%q has a percent sign that encodes nothing", s)
	}
	if strings.Count(dec, "/") != strings.Count(s, "/") {
		return "", wrong("write a slash", "%q has an encoded slash, which is the same as a slash here", s)
	}
	return dec, nil
}

// placeholderAt finds the colon of the next placeholder, -1 for none.
func placeholderAt(s string) int {
	for i := range len(s) {
		if s[i] == ':' && i+1 < len(s) && isLetter(s[i+1]) {
			return i
		}
	}
	return -1
}

// placeholderName is the name that s begins with: a letter, then letters,
// digits and underscores (as on Cloudflare).
func placeholderName(s string) string {
	n := 0
	for n < len(s) && (isLetter(s[n]) || s[n] == '_' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[:n]
}
