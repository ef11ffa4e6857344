package siterules

import (
	"net/url"
	"strings"
)

// Redirect is what a rule wants done with a request.
type Redirect struct {
	Status   int
	Location string // where a status of 3xx leads
	Path     string // whose page is shown with the other statuses, decoded
	Line     int    // the line of the rule
	Forced   bool   // it applies whatever files there are

	spread bool // the rule shows one page for many paths
}

// Match finds the first rule that applies to a request for path, decoded, with
// the query as it was sent. shows says whether the site has something at a
// path; a rule without "!" does not apply then. It is asked only when there
// is a rule.
//
// A path with an empty or a dot segment matches nothing: it names no file, and
// a part of it must not become a host.
func (r *Redirects) Match(path, query string, shows func(path string) bool) (Redirect, bool) {
	if r == nil || len(r.rules) == 0 || !isClean(path) {
		return Redirect{}, false
	}
	m := search{redirects: r, path: path, query: query, best: len(r.rules)}
	exact := place{path: unslash(path)}
	m.chain(exact, shows)
	query = mostPairs(query)
	m.query = query
	if r.asked[exact.path] {
		for rest := query; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, "&")
			var ok bool
			if exact.name, exact.value, ok = cutPair(pair); ok {
				m.chain(exact, shows)
			}
		}
	}
	for _, i := range r.dynamic {
		if i >= m.best || m.try(i, shows) {
			break
		}
	}
	return m.found, m.best < len(r.rules)
}

// pairsAsked is how many parameters of a query rules are asked about: each of them
// may be compared with each rule of an address.
const pairsAsked = 64

// mostPairs is the beginning of a query with as many parameters.
func mostPairs(query string) string {
	for i, n := 0, 0; ; i++ {
		at := strings.IndexByte(query[i:], '&')
		if at < 0 {
			return query
		}
		i += at
		if n++; n == pairsAsked {
			return query[:i]
		}
	}
}

// search is the search for the first rule that applies to a request.
type search struct {
	redirects    *Redirects
	path, query  string
	best         int // the first rule found so far
	found        Redirect
	shown, known bool // whether the site has something at path, once that is known
	got          captured
}

// chain tries the rules for one place.
func (m *search) chain(at place, shows func(string) bool) {
	i, ok := m.redirects.static[at]
	for ok && i >= 0 && i < m.best && !m.try(i, shows) {
		i = m.redirects.rules[i].next
	}
}

// try reports whether a rule applies, and keeps it.
func (m *search) try(i int, shows func(string) bool) bool {
	n := &m.redirects.rules[i]
	if !n.match(m.path, &m.got) || !n.wants(m.query, &m.got) {
		return false
	}
	if !n.force && !m.known {
		m.shown, m.known = shows(m.path), true
	}
	if m.shown && !n.force {
		return false
	}
	out, ok := n.apply(m.path, m.query, &m.got, shows)
	if ok {
		m.best, m.found = i, out
	}
	return ok
}

// apply says where the rule leads, unless that is no place to lead to.
func (n *rule) apply(path, query string, got *captured, shows func(string) bool) (Redirect, bool) {
	out := Redirect{Status: n.status, Line: n.line, Forced: n.force, spread: !n.static() && !n.target.dynamic()}
	plain := n.target.plain(got)
	if n.target.origin == "" && !isClean(plain) {
		return out, false
	}
	if !n.redirects() {
		out.Path = plain
		return out, !IsControl(plain[1:])
	}
	out.Location = n.target.location(got, n.strip(query))
	return out, n.target.origin != "" || !n.returns(path, plain, out.Location, shows)
}

// returns reports whether a redirect would come back to its rule for ever. The
// rules of which that is known without a request have been refused.
func (n *rule) returns(path, plain, location string, shows func(string) bool) bool {
	var again captured
	if n.self && !shows(plain) && n.match(plain, &again) {
		return true // /* to /en/:splat, and there is no such page in /en either
	}
	if unslash(plain) != unslash(path) {
		return false
	}
	_, query, _ := strings.Cut(location, "?")
	query, _, _ = strings.Cut(query, "#")
	return n.wants(query, &again)
}

// wants reports whether the query has the parameters that the rule wants. It
// may have others. Of a parameter that is there twice the first counts.
func (n *rule) wants(query string, got *captured) bool {
	for i := range n.params {
		p := &n.params[i]
		value, ok := lookupParam(query, p.name)
		if !ok {
			return false
		}
		if p.slot < 0 {
			if value != p.value {
				return false
			}
			continue
		}
		if value == "" {
			return false
		}
		got[p.slot] = value
	}
	return true
}

// strip takes the parameters that the rule wants out of a query: the target
// says what becomes of them.
func (n *rule) strip(query string) string {
	if len(n.params) == 0 {
		return query
	}
	var b strings.Builder
	for pair := range strings.SplitSeq(query, "&") {
		name, _, ok := cutPair(pair)
		taken := !ok
		for i := range n.params {
			taken = taken || n.params[i].name == name
		}
		if taken {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair)
	}
	return b.String()
}

func lookupParam(query, name string) (value string, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if n, v, ok := cutPair(pair); ok && n == name {
			return v, true
		}
	}
	return "", false
}

// cutPair parts "name=value" and decodes both; false for what is no such pair.
func cutPair(pair string) (name, value string, ok bool) {
	name, value, _ = strings.Cut(pair, "=")
	name, err1 := url.QueryUnescape(name)
	value, err2 := url.QueryUnescape(value)
	return name, value, err1 == nil && err2 == nil && name != ""
}
