package siterules

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of _redirects.
const (
	// MaxStatic bounds the rules without * and :placeholders. Cloudflare takes
	// 2,000 and Netlify advises against more than 10,000. They are matched by
	// hash here, so what bounds them is only the memory on the nodes, some
	// 400 bytes a rule.
	MaxStatic = 10_000
	// MaxDynamic bounds the other rules, which are tried one after the other
	// for every request that nothing else answers: Cloudflare's limit.
	MaxDynamic = 100

	maxRedirectLine = 1000 // bytes; Cloudflare's limit
)

// Redirects are the rules of a _redirects file.
type Redirects struct {
	rules   []rule
	static  map[place]int   // the first rule for exactly this place
	asked   map[string]bool // the paths that have places with a parameter
	dynamic []int           // the rules with * and :placeholders, in order
	forced  bool            // some rule applies whatever files there are
}

// place is what a static rule is found by: its path, and the first parameter
// that must have one value. Sites that come from elsewhere have thousands of
// rules for one path: /index.php p=1234 /a-page.
type place struct{ path, name, value string }

// rule is one line.
type rule struct {
	pattern
	params []param
	target target
	status int
	force  bool
	self   bool // its target may be a path that it is for
	next   int  // the next rule for the same place, -1 for none; static rules only
	last   int  // the last rule for the same place, kept in the first one
	line   int
	text   string // the line, without what means nothing
}

// param is a query parameter that a rule wants.
type param struct {
	name  string
	value string
	slot  int // what it is captured as; negative for exactly value
}

// ParseRedirects reads a _redirects file. The rules that are right are
// returned also when others are not.
func ParseRedirects(data []byte) (*Redirects, Problems) {
	r := &Redirects{static: map[place]int{}, asked: map[string]bool{}}
	s := scanner{file: RedirectsFile, maxLine: maxRedirectLine}
	nStatic := 0
	s.lines(data, func(line string) *fault {
		rule, f := parseRule(line)
		if f != nil {
			return f
		}
		rule.line = s.line
		if rule.static() {
			if nStatic++; nStatic > MaxStatic {
				return wrong("join rules with * or :placeholders", "there are more than %d rules", MaxStatic)
			}
		} else if len(r.dynamic) == MaxDynamic {
			return wrong("join rules, or write them without", "there are more than %d rules with * or :placeholders", MaxDynamic)
		}
		r.add(rule)
		return nil
	})
	return r, s.problems
}

func (r *Redirects) add(n rule) {
	i := len(r.rules)
	n.next, n.last = -1, i
	r.rules = append(r.rules, n)
	r.forced = r.forced || n.force
	if !n.static() {
		r.dynamic = append(r.dynamic, i)
		return
	}
	at := place{path: n.rest}
	for _, p := range n.params {
		if p.slot < 0 {
			at.name, at.value = p.name, p.value
			r.asked[n.rest] = true
			break
		}
	}
	first, ok := r.static[at]
	if !ok {
		r.static[at] = i
		return
	}
	r.rules[r.rules[first].last].next = i
	r.rules[first].last = i
}

// Len is the number of rules.
func (r *Redirects) Len() int {
	if r == nil {
		return 0
	}
	return len(r.rules)
}

// mayForce reports whether a rule may apply where there is a file.
func (r *Redirects) mayForce() bool { return r != nil && r.forced }

// String is a _redirects file with the same rules.
func (r *Redirects) String() string {
	var b strings.Builder
	if r != nil {
		for i := range r.rules {
			b.WriteString(r.rules[i].text)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// parseRule reads "from [name=value…] to [status][!]".
func parseRule(line string) (rule, *fault) {
	var n rule
	words := strings.Fields(line)
	if i := slices.IndexFunc(words, func(w string) bool { return w[0] == '#' }); i > 0 {
		words = words[:i] // both hosts allow a comment at the end
	}
	var f *fault
	if n.pattern, f = parsePattern(words[0]); f != nil {
		return n, f
	}
	if n.tail != "" {
		return n, wrong("end the path with the *", "%q has a * that is not at its end", words[0])
	}
	to := 1
	for to < len(words) && isParam(words[to]) {
		to++
	}
	if f := n.parseParams(words[1:to]); f != nil {
		return n, f
	}
	if to == len(words) {
		return n, wrong("write: path target status", "the rule has no target")
	}
	if n.target, f = parseTarget(words[to], &n.pattern); f != nil {
		return n, f
	}
	if f := n.parseStatus(words[to+1:]); f != nil {
		return n, f
	}
	n.text = strings.Join(words, " ")
	return n, n.sense(words[to])
}

// isParam tells a word between path and target from the target.
func isParam(word string) bool {
	return word[0] != '/' && !strings.HasPrefix(word, "https://") && !strings.HasPrefix(word, "http://") &&
		strings.ContainsRune(word, '=')
}

// parseParams reads the query parameters that a rule wants.
func (n *rule) parseParams(words []string) *fault {
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		p := param{slot: -1}
		var err1, err2 error
		p.name, err1 = url.QueryUnescape(name)
		p.value, err2 = url.QueryUnescape(value)
		if err1 != nil || err2 != nil || p.name == "" {
			return wrong("write name=value or name=:placeholder", "%q is not a query parameter", w)
		}
		if isCondition(p.name) && p.name[0]|0x20 != p.name[0] {
			return noCondition(w)
		}
		if slices.ContainsFunc(n.params, func(o param) bool { return o.name == p.name }) {
			return wrong("remove one", "the query parameter %s is there twice", p.name)
		}
		if placeholderAt(value) == 0 {
			p.value = placeholderName(value[1:])
			if len(p.value) != len(value)-1 {
				return wrong("write name=value or name=:placeholder", "%q is more than a placeholder", w)
			}
			if f := n.name(p.value); f != nil {
				return f
			}
			p.slot = len(n.names) - 1
		}
		n.params = append(n.params, p)
	}
	return nil
}

// parseStatus reads what follows the target.
func (n *rule) parseStatus(words []string) *fault {
	n.status = 301 // Netlify's; Cloudflare's is 302, which no address would ever get rid of
	if len(words) > 0 && words[0][0] >= '0' && words[0][0] <= '9' {
		digits, force := strings.CutSuffix(words[0], "!")
		status, err := strconv.Atoi(digits)
		if err != nil {
			return wrong("use a number, such as 301", "the status %q is no number", words[0])
		}
		n.status, n.force = status, force
		words = words[1:]
	}
	if len(words) > 0 {
		if name, _, ok := strings.Cut(words[0], "="); ok {
			if isCondition(name) {
				return noCondition(words[0])
			}
			return wrong("write query parameters before the target", "%q comes after the target", words[0])
		}
		return wrong("write: path target status", "the rule has the unexpected word %q", words[0])
	}
	switch n.status {
	case 200, 301, 302, 303, 307, 308, 404, 410:
		return nil
	}
	return wrong("use 301, 302, 303, 307 or 308 to redirect, 200, 404 or 410 to show another page", "a rule cannot answer with status %d", n.status)
}

// isCondition knows the conditions of Netlify.
func isCondition(name string) bool {
	switch strings.ToLower(name) {
	case "country", "language", "role", "cookie":
		return true
	}
	return false
}

func noCondition(word string) *fault {
	return wrong("remove the rule, or decide it in the page", "the condition %s is not supported: every visitor gets the same answer", word)
}

// redirects reports whether the rule sends the client elsewhere.
func (n *rule) redirects() bool { return n.status >= 300 && n.status < 400 }

// sense looks for rules that are well written and cannot work.
func (n *rule) sense(to string) *fault {
	t := &n.target
	if !n.redirects() {
		if t.origin != "" {
			return wrong("use 301, or 302", "status %d shows a page of this site, and %s is elsewhere: a site is no proxy", n.status, to)
		}
		if !t.dynamic() && IsControl(t.plain(&captured{})[1:]) {
			return wrong("choose another page", "the file %s is never shown", to)
		}
		return nil
	}
	if t.origin != "" {
		return nil
	}
	return n.loops(to)
}

// loops finds out whether the target is a path that the rule is for. Then it
// would lead to itself, unless there is a file, which only the server knows.
func (n *rule) loops(to string) *fault {
	var got, again captured
	for i := range n.names {
		got[i] = "x" + strconv.Itoa(i)
	}
	_, query, _ := strings.Cut(n.target.location(&got, ""), "?")
	query, _, _ = strings.Cut(query, "#")
	// Parameters that the rule wants are not passed on, unless the target has them.
	if !n.match(n.target.plain(&got), &again) || !n.wants(query, &again) {
		return nil
	}
	n.self = true
	if n.force || got == again {
		return wrong("choose another target, or 200 to show it under this address; for slashes at the end there is the trailing-slash policy",
			"the rule redirects to itself: %s is a path that it is for", to)
	}
	return nil
}
