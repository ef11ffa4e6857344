package siterules

import (
	"net/http"
	"net/url"
	"strings"
)

// Site is what a release says about how it answers.
type Site struct {
	Redirects *Redirects // nil for none
	Policy    Policy
}

// Request is what the answer depends on.
type Request struct {
	Path  string // decoded
	Query string // as it was sent, without the '?'
	Asset bool   // the client wants no page; see Resolve
}

// Answer puts the rules and the files together, in the order of Netlify:
// rules with "!", then files, then the other rules, then the page for what is
// not there. (On Cloudflare every rule goes before the files.)
//
// A page that a rule names is shown, never redirected to the better address
// that it has, and no second rule is asked.
func (s Site) Answer(lookup func(path string) bool, r Request) Outcome {
	f := finder{lookup, s.Policy}
	here := f.show(r.Path)
	var rule Redirect
	var ok bool
	if here.Status == 0 || s.Redirects.mayForce() {
		rule, ok = s.Redirects.Match(r.Path, r.Query, func(path string) bool { return f.find(path) != "" })
	}
	switch {
	case ok && rule.Location != "":
		return Outcome{Status: rule.Status, Location: rule.Location}
	case ok:
		if out, ok := f.page(rule, r); ok {
			return out
		}
	case here.Status != 0:
		if here.Location != "" && r.Query != "" {
			here.Location += "?" + escapeLiteral(r.Query)
		}
		return here
	}
	return f.notFound(r.Path, r.Asset)
}

// Shows is the file that Answer shows at a path whatever else the request says; ""
// where that depends on it, or there is none.
func (s Site) Shows(lookup func(path string) bool, path string) string {
	if s.Redirects.mayForce() {
		return ""
	}
	f := finder{lookup, s.Policy}
	return f.show(path).File
}

// page answers with the page that a rule names; false if that cannot be.
func (s *finder) page(rule Redirect, r Request) (Outcome, bool) {
	file := s.find(rule.Path)
	if rule.Status != http.StatusOK {
		// The status stands also without its page.
		if file == "" && rule.Status == http.StatusNotFound {
			file = s.notFoundPage(r.Path)
		}
		return Outcome{Status: rule.Status, File: file}, true
	}
	if rule.spread && !rule.Forced && strings.HasSuffix(file, ".html") && (r.Asset || LooksLikeAsset(r.Path)) {
		return Outcome{}, false // "/* /index.html 200" is a way to write Policy.SPA
	}
	return Outcome{Status: http.StatusOK, File: file}, file != ""
}

// maxSteps is how many redirects a client is ready to follow, and more.
const maxSteps = 20

// Check tells the problems of the rules that show only with the files: pages
// that are not there, and redirects that go round in circles. It follows the
// rules whose target is the same for every request.
func (s Site) Check(lookup func(path string) bool) Problems {
	if s.Redirects == nil {
		return nil
	}
	c := scanner{file: RedirectsFile}
	f := finder{lookup, s.Policy}
	for i := range s.Redirects.rules {
		n := &s.Redirects.rules[i]
		if n.target.origin != "" || n.target.dynamic() {
			continue
		}
		to := n.target.location(&captured{}, "")
		switch {
		case !n.redirects():
			if f.find(n.target.plain(&captured{})) == "" {
				c.addAt(n.line, n.text, wrong("add the page or remove the rule", "the release has no page %s", to))
			}
		case s.circles(lookup, to):
			c.addAt(n.line, n.text, wrong("let one of the rules lead elsewhere", "redirects from %s never end", to))
		}
	}
	return c.problems
}

// circles reports whether redirects from an address go on and on within the site.
func (s Site) circles(lookup func(path string) bool, to string) bool {
	at := &url.URL{Path: "/"}
	for range maxSteps {
		next, err := at.Parse(to)
		if err != nil || next.Host != "" {
			return false
		}
		at = next
		out := s.Answer(lookup, Request{Path: at.Path, Query: at.RawQuery})
		if out.Location == "" {
			return false
		}
		to = out.Location
	}
	return true
}
