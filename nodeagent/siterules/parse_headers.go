package siterules

import (
	"mime"
	"net/http"
	"slices"
	"strings"
)

// releaseCookie is the cookie that keeps a visitor on a release.
const releaseCookie = "relman"

// ParseHeaders reads a _headers file. The blocks and headers that are right
// are returned also when others are not.
//
// A line that begins with a slash is the path of a block, any other belongs to
// the block before it: indentation is for the eye, as on both hosts.
func ParseHeaders(data []byte) (*Headers, Problems) {
	p := headerParser{
		scanner: scanner{file: HeadersFile, maxLine: maxHeaderLine},
		headers: &Headers{static: map[string]int{}},
		ids:     map[string]int{},
	}
	p.lines(data, p.parse)
	p.end()
	p.headers.names = len(p.ids)
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
	return p.headers, p.problems
}

type headerParser struct {
	scanner
	headers *Headers
	ids     map[string]int // header name -> its number
	block   *block         // the one being read
	bad     bool           // its path is wrong; what follows is checked all the same
}

func (p *headerParser) parse(line string) *fault {
	switch {
	case line[0] == '/' || isAddress(line):
		p.end()
		p.block = &block{path: line, line: p.line}
		f := p.path(line)
		p.bad = f != nil
		return f
	case p.block == nil:
		return wrong("write a line with a path before it", "the line belongs to no path")
	case len(p.block.lines) == MaxHeaders:
		return wrong("remove some", "the path has more than %d lines of headers", MaxHeaders)
	}
	var f *fault
	if name, ok := strings.CutPrefix(line, "!"); ok {
		f = p.detach(strings.TrimSpace(name))
	} else {
		f = p.set(line)
	}
	if f == nil {
		p.block.lines = append(p.block.lines, line)
	}
	return f
}

// isAddress reports whether a line is the https://host/path of Cloudflare.
func isAddress(line string) bool {
	before, _, ok := strings.Cut(line, "://")
	return ok && !strings.ContainsAny(before, ": \t")
}

func (p *headerParser) path(line string) *fault {
	if strings.ContainsAny(line, " \t") {
		return wrong("write %20 for a space, and headers on lines of their own", "the path has a space in it")
	}
	var f *fault
	p.block.pattern, f = parsePattern(line)
	return f
}

// end adds the block that has been read.
func (p *headerParser) end() {
	h, b, bad := p.headers, p.block, p.bad
	p.block, p.bad = nil, false
	switch {
	case b == nil || bad:
		return
	case len(b.lines) == 0:
		if n := len(p.problems); n == 0 || p.problems[n-1].Line < b.line { // else it had some that are wrong
			p.addAt(b.line, b.path, wrong("add indented lines with name: value, or remove it", "the path has no headers"))
		}
		return
	case len(h.blocks) == MaxBlocks:
		p.addAt(b.line, b.path, wrong("join blocks with * or :placeholders", "there are more than %d paths with headers", MaxBlocks))
		return
	}
	b.next = -1
	i := len(h.blocks)
	h.blocks = append(h.blocks, *b)
	if !b.static() {
		h.dynamic = append(h.dynamic, i)
		return
	}
	at, ok := h.static[b.rest]
	if !ok {
		h.static[b.rest] = i
		return
	}
	for h.blocks[at].next >= 0 {
		at = h.blocks[at].next
	}
	h.blocks[at].next = i
}

// detach reads the rest of "! Name".
func (p *headerParser) detach(name string) *fault {
	if f := checkName(name); f != nil {
		return f
	}
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "Content-Type":
		return wrong("set another type", "an answer without Content-Type is guessed at by browsers")
	case "Vary":
		return wrong("remove the line", "an answer without Vary gets mixed up in caches")
	}
	if !slices.Contains(p.block.detach, name) {
		p.block.detach = append(p.block.detach, name)
	}
	return nil
}

// set reads "Name: value".
func (p *headerParser) set(line string) *fault {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return wrong("write name: value", "the line has no colon")
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if f := checkName(name); f != nil {
		return f
	}
	name = http.CanonicalHeaderKey(name)
	if f := p.checkValue(name, value); f != nil {
		return f
	}
	id, ok := p.ids[name]
	if !ok {
		id = len(p.ids)
		p.ids[name] = id
	}
	for i := range p.block.set {
		if f := &p.block.set[i]; f.name == name {
			more := field{name, id, []string{value}}
			f.value = more.merge(f.value, false)
			return nil
		}
	}
	p.block.set = append(p.block.set, field{name, id, []string{value}})
	return nil
}

// checkName refuses what no site may decide.
func checkName(name string) *fault {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
		return wrong("write name: value", "%q is not the name of a header", name)
	}
	switch lower := strings.ToLower(name); lower {
	case "basic-auth":
		return wrong("put the site behind something that asks for passwords", "Basic-Auth is not supported")
	case "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade":
		return wrong("remove the line", "%s is about the connection, which is the server's", name)
	case "content-length", "content-encoding", "content-range", "accept-ranges", "date":
		return wrong("remove the line", "%s is made by the server for each answer", name)
	case "etag", "last-modified":
		return wrong("remove the line", "%s is made from the content; any other value would keep old pages in caches", name)
	case "location":
		return wrong("write a rule in "+RedirectsFile, "Location is not set with headers")
	default:
		if strings.HasPrefix(lower, "relman-") {
			return wrong("choose another name", "names that begin with Relman- are the server's")
		}
	}
	return nil
}

// isToken reports whether a name may have the character (RFC 9110, 5.6.2).
func isToken(r rune) bool {
	return r < 0x80 && (isLetter(byte(r)) || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

func (p *headerParser) checkValue(name, value string) *fault {
	if value == "" {
		return wrong("write name: value, or ! name to remove it", "the header has no value")
	}
	if strings.ContainsRune(value, '\t') {
		return wrong("write a space", "the value has a tab in it")
	}
	for rest := value; ; {
		i := placeholderAt(rest)
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		// Cloudflare puts in what the placeholder stands for, Netlify does not.
		if used := placeholderName(rest); !p.bad && p.block.index(used) >= 0 {
			return wrong("write the value out, or give the placeholder another name", "placeholders such as :%s are not put into values", used)
		}
	}
	switch name {
	case "Content-Type":
		if kind, _, err := mime.ParseMediaType(value); err != nil || !strings.Contains(kind, "/") {
			return wrong("write type/subtype, such as text/css; charset=utf-8", "%q is not a media type", value)
		}
	case "Set-Cookie":
		if cookie, _, _ := strings.Cut(value, "="); strings.TrimSpace(cookie) == releaseCookie {
			return wrong("choose another name", "the cookie %s is the server's", releaseCookie)
		}
	}
	return nil
}
