package siterules

import (
	"net/url"
	"strings"
)

// target is where a rule leads: a path of the site, or an address elsewhere.
type target struct {
	origin   string // "https://host", "" for this site
	path     []piece
	query    []piece
	fragment []piece
	hasQuery bool
}

// piece is literal text and then, unless slot is negative, what a placeholder
// stands for.
type piece struct {
	raw  string // as the rule has it, fit for a Location
	text string // decoded
	slot int
	deep bool // the placeholder is the splat, which may have slashes
}

// parseTarget reads the target of a rule for paths like from.
func parseTarget(s string, from *pattern) (target, *fault) {
	var t target
	local := s
	if s[0] != '/' {
		var f *fault
		if t.origin, local, f = cutOrigin(s); f != nil {
			return t, f
		}
	}
	if strings.ContainsRune(s, '\\') {
		return t, wrong("write a slash or %5C", "the target %q has a backslash, which browsers take for a slash", s)
	}
	local, fragment, _ := strings.Cut(local, "#")
	path, query, hasQuery := strings.Cut(local, "?")
	t.hasQuery = hasQuery
	var f *fault
	if t.path, f = parsePieces(path, from); f != nil {
		return t, f
	}
	if t.query, f = parsePieces(query, from); f != nil {
		return t, f
	}
	if t.fragment, f = parsePieces(fragment, from); f != nil {
		return t, f
	}
	// What takes the places of the placeholders is checked for every request.
	var x captured
	for i := range x {
		x[i] = "x"
	}
	if t.origin == "" && !isClean(t.plain(&x)) {
		if strings.HasPrefix(path, "//") {
			return t, wrong("begin it with one slash, or with https:// for another host", "the target %q would lead to another host", s)
		}
		return t, wrong("write the path that is meant", "the target %q has an empty segment, a dot segment or a control character", s)
	}
	return t, nil
}

// cutOrigin parts "https://host/path" behind the host. Placeholders are not
// allowed before that, whoever asks could choose the host.
func cutOrigin(s string) (origin, rest string, f *fault) {
	scheme, after, ok := strings.Cut(s, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return "", "", wrong("begin it with a slash or with https://", "the target %q is neither a path nor an address", s)
	}
	host := after
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		host = after[:i]
	}
	if placeholderAt(host) >= 0 || strings.ContainsRune(host, '*') {
		return "", "", wrong("name the host", "the host of the target %q has a placeholder", s)
	}
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsRune(host, '\\') {
		return "", "", wrong("write https://host/path", "the target %q has no valid host", s)
	}
	return scheme + "://" + host, after[len(host):], nil
}

// parsePieces parts a piece of a target at its placeholders.
func parsePieces(s string, from *pattern) ([]piece, *fault) {
	if s == "" {
		return nil, nil
	}
	if strings.ContainsRune(s, '*') {
		return nil, wrong("write :splat for what the * of the path stands for", "the target has a *")
	}
	var pieces []piece
	for {
		i := placeholderAt(s)
		lit := s
		if i >= 0 {
			lit = s[:i]
		}
		text, err := url.PathUnescape(lit)
		if err != nil {
			return nil, wrong("write %25 for a percent sign", "%q has a percent sign that encodes nothing", lit)
		}
		p := piece{raw: escapeLiteral(lit), text: text, slot: -1}
		if i < 0 {
			return append(pieces, p), nil
		}
		name := placeholderName(s[i+1:])
		s = s[i+1+len(name):]
		if p.slot = from.index(name); p.slot < 0 {
			return nil, wrong("use one that the path has, or write %3A for a colon", "the target has the unknown placeholder :%s", name)
		}
		p.deep = name == "splat"
		pieces = append(pieces, p)
	}
}

// escapeLiteral encodes what a header may not have and leaves the rest to
// whoever wrote it.
func escapeLiteral(s string) string {
	if !strings.ContainsFunc(s, mustEscape) {
		return s
	}
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; mustEscape(rune(c)) {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func mustEscape(r rune) bool {
	return r <= ' ' || r >= 0x7f || r == '"' || r == '<' || r == '>' || r == '\\'
}

// dynamic reports whether the target depends on the request.
func (t *target) dynamic() bool {
	for _, p := range t.path {
		if p.slot >= 0 {
			return true
		}
	}
	return false
}

// plain is the decoded path that the target is for one request. A splat that
// begins with a slash and comes behind one loses it.
func (t *target) plain(got *captured) string {
	var b strings.Builder
	for _, p := range t.path {
		b.WriteString(p.text)
		if p.slot >= 0 {
			b.WriteString(joint(b.String(), got[p.slot], p.deep))
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// location is the target as a header says it; query is what is passed on of
// the request's.
func (t *target) location(got *captured, query string) string {
	var b strings.Builder
	b.WriteString(t.origin)
	for _, p := range t.path {
		b.WriteString(p.raw)
		if p.slot >= 0 {
			b.WriteString(escapeValue(joint(b.String(), got[p.slot], p.deep), p.deep))
		}
	}
	if len(t.path) == 0 {
		b.WriteByte('/')
	}
	if t.hasQuery {
		b.WriteByte('?')
		for _, p := range t.query {
			b.WriteString(p.raw)
			if p.slot >= 0 {
				b.WriteString(url.QueryEscape(got[p.slot]))
			}
		}
	} else if query != "" {
		b.WriteByte('?')
		// A request has no fragment: a '#' in its query is a part of the query.
		b.WriteString(strings.ReplaceAll(escapeLiteral(query), "#", "%23"))
	}
	if len(t.fragment) > 0 {
		b.WriteByte('#')
		for _, p := range t.fragment {
			b.WriteString(p.raw)
			if p.slot >= 0 {
				b.WriteString(escapeValue(got[p.slot], p.deep))
			}
		}
	}
	return b.String()
}

func joint(before, value string, deep bool) string {
	if deep && strings.HasSuffix(before, "/") {
		return strings.TrimPrefix(value, "/")
	}
	return value
}

// escapeValue encodes what a placeholder stands for. Only a splat has slashes
// of its own.
func escapeValue(s string, deep bool) string {
	if !deep {
		return url.PathEscape(s)
	}
	return (&url.URL{Path: "/" + s}).EscapedPath()[1:]
}
