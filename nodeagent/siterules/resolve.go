package siterules

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// TrailingSlash says at which address a page is: with a slash at the end or
// without. It is about pages only, files of other kinds have one address.
type TrailingSlash string

// The policies, with what they do to the pages file.html and dir/index.html.
// What is asked for at another address is redirected to the one given here.
const (
	// Auto has /file and /dir/, so that relative links work as in the tree of
	// files. It is the default, also on Cloudflare.
	Auto TrailingSlash = "auto"
	// Always has /file/ and /dir/; of file.html and file/index.html, the
	// latter is at /file/. Relative links in file.html have to know it.
	Always TrailingSlash = "always"
	// Never has /file and /dir; of file.html and file/index.html, the former
	// is at /file. Relative links in dir/index.html have to know it.
	Never TrailingSlash = "never"
	// Ignore shows a page with and without, and redirects neither way.
	Ignore TrailingSlash = "ignore"
)

// Policy says which addresses the files of a release have. The zero value
// knows index.html at the address of its directory and 404.html at the top,
// and nothing else.
type Policy struct {
	// CleanURLs shows about.html at /about and redirects there from
	// /about.html, and the same for index.html. It also looks for the 404.html
	// nearest to what was asked for.
	CleanURLs bool
	// TrailingSlash is used with CleanURLs only; "" is Auto.
	TrailingSlash TrailingSlash
	// SPA shows the index.html at the top, as if it had been asked for, where
	// there is nothing and no 404.html either. (Cloudflare does that to every
	// site without a 404.html; a site here has to want it.)
	SPA bool
}

// Validate checks what somebody has written down.
func (p Policy) Validate() error {
	switch p.TrailingSlash {
	case "", Auto, Always, Never, Ignore:
		return nil
	}
	return fmt.Errorf("trailing-slash policy %q is unknown: use auto, always, never or ignore", p.TrailingSlash)
}

// Outcome is how a request is answered.
type Outcome struct {
	Status   int
	File     string // the file of the release whose content is shown; "" for none
	Location string // for a redirect
}

const (
	indexPage    = "index.html"
	notFoundPage = "404.html"
)

// maxPath is the longest path that a file of a release has, in bytes.
const maxPath = 1024

// Resolve says how a request for a path, decoded, is answered without rules.
// lookup tells the files of the release. asset is true when the client said
// that it wants no page (its Sec-Fetch-Dest is script, style, image, font, …).
//
// A redirect leads to an address that is shown, so there is never a second
// one. It has no host in it, and begins with one slash or a name.
func Resolve(lookup func(path string) bool, urlPath string, policy Policy, asset bool) Outcome {
	s := finder{lookup, policy}
	if out := s.show(urlPath); out.Status != 0 {
		return out
	}
	return s.notFound(urlPath, asset)
}

// finder finds files by addresses.
type finder struct {
	lookup func(path string) bool
	policy Policy
}

func (s *finder) has(path string) bool { return !IsControl(path) && s.lookup(path) }

// show answers with what is at an address. The status is 0 if nothing is.
func (s *finder) show(urlPath string) Outcome {
	file := s.find(urlPath)
	switch {
	case file == "":
		return Outcome{}
	case !s.policy.CleanURLs:
		return s.plainly(urlPath, file)
	}
	to := s.address(file)
	if urlPath == to || s.policy.TrailingSlash == Ignore && unslash(urlPath) == unslash(to) {
		return Outcome{Status: http.StatusOK, File: file}
	}
	if s.find(to) != file {
		// Its address belongs to another file: about.html next to a file
		// "about", say. Then it is shown where it was found.
		return Outcome{Status: http.StatusOK, File: file}
	}
	return Outcome{Status: http.StatusPermanentRedirect, Location: (&url.URL{Path: to}).EscapedPath()}
}

// plainly is show without clean addresses. The redirect is relative, as it
// always was.
func (s *finder) plainly(urlPath, file string) Outcome {
	if len(file) <= len(urlPath) || strings.HasSuffix(urlPath, "/") {
		return Outcome{Status: http.StatusOK, File: file}
	}
	dir := url.URL{Path: urlPath[strings.LastIndexByte(urlPath, '/')+1:] + "/"}
	return Outcome{Status: http.StatusPermanentRedirect, Location: dir.String()}
}

// find finds the file that an address means, whether or not it is the best
// address for it; "" for none.
func (s *finder) find(urlPath string) string {
	if !isClean(urlPath) || len(urlPath) > maxPath {
		return ""
	}
	name := urlPath[1:]
	slash := name == "" || strings.HasSuffix(name, "/")
	if !slash && s.has(name) {
		return name
	}
	if !s.policy.CleanURLs {
		if !slash {
			name += "/"
		}
		return s.first(name+indexPage, "")
	}
	stem := strings.TrimSuffix(name, "/")
	if !slash {
		stem = strings.TrimSuffix(stem, ".html")
		if stem == "index" {
			stem = ""
		} else if dir, ok := strings.CutSuffix(stem, "/index"); ok {
			stem, slash = dir, true
		}
	}
	if stem == "" {
		return s.first(indexPage, "")
	}
	page, dir := stem+".html", stem+"/"+indexPage
	if s.policy.TrailingSlash == Always || slash && s.policy.TrailingSlash != Never {
		return s.first(dir, page)
	}
	return s.first(page, dir)
}

func (s *finder) first(a, b string) string {
	switch {
	case s.has(a):
		return a
	case b != "" && s.has(b):
		return b
	}
	return ""
}

// address is where a file is best asked for.
func (s *finder) address(file string) string {
	if file == indexPage {
		return "/"
	}
	if dir, ok := strings.CutSuffix(file, "/"+indexPage); ok {
		if s.policy.TrailingSlash == Never {
			return "/" + dir
		}
		return "/" + dir + "/"
	}
	if stem, ok := strings.CutSuffix(file, ".html"); ok {
		if s.policy.TrailingSlash == Always {
			return "/" + stem + "/"
		}
		return "/" + stem
	}
	return "/" + file
}

// notFound answers where nothing is.
func (s *finder) notFound(urlPath string, asset bool) Outcome {
	if page := s.notFoundPage(urlPath); page != "" {
		return Outcome{Status: http.StatusNotFound, File: page}
	}
	if s.policy.SPA && !asset && isClean(urlPath) && !LooksLikeAsset(urlPath) && s.has(indexPage) {
		return Outcome{Status: http.StatusOK, File: indexPage}
	}
	return Outcome{Status: http.StatusNotFound}
}

// notFoundPage finds the 404.html nearest to what was asked for, from its
// directory upwards; "" for none.
func (s *finder) notFoundPage(urlPath string) string {
	if s.policy.CleanURLs && isClean(urlPath) && len(urlPath) <= maxPath {
		for dir := urlPath; dir != ""; {
			dir = dir[:strings.LastIndexByte(dir, '/')]
			if dir == "" {
				break
			}
			if page := dir[1:] + "/" + notFoundPage; s.has(page) {
				return page
			}
		}
	}
	return s.first(notFoundPage, "")
}

// LooksLikeAsset reports whether a path has the name of something that is no
// page. Such a thing is there or not: a script that is gone must not turn into
// the page of the application, which a browser would try to run. An extension
// has a letter in it: /docs/v1.2 may be a page.
func LooksLikeAsset(urlPath string) bool {
	name := urlPath[strings.LastIndexByte(urlPath, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || name[dot:] == ".html" || name[dot:] == ".htm" || name[dot:] == ".xhtml" {
		return false
	}
	for i := dot + 1; i < len(name); i++ {
		if isLetter(name[i]) {
			return true
		}
	}
	return false
}
