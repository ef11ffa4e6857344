package siterules

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// bare is a rule without its line.
func bare(rules []rule) []rule {
	out := make([]rule, len(rules))
	for i, r := range rules {
		r.line = 0
		out[i] = r
	}
	return out
}

// FuzzParseRedirects: what parses is printed as a file of the same rules, the
// first rule that applies is found, and none leads to its own address, to a
// host that it does not name, or out of a header.
func FuzzParseRedirects(f *testing.F) {
	f.Add("/old /new 301\n/a/* /b/:splat 302!\n", "/a/x/y", "q=1", "b/x/y index.html")
	f.Add("/store id=:id x=1 /s/:id?y=:id#z\n* /x\n", "/store", "x=1&id=%2f", "")
	f.Add("/:a/:b.html https://example.com/:b/:a 308 # no\r\n", "/x/y.html", "a", "x/y.html")
	f.Add("/* /index.html 200\n/x /gone 410", "/x", "", "index.html")
	f.Add("/go* /:splat\n/:a to=:to /:to", "/go//evil.com", "to=//evil.com", "")
	f.Add("/s a=:x b=1 /s?a=:x&b=:x", "/s", "b=1&a=1", "")
	f.Add("/:a/x /x/:a", "/x/x", "", "")
	f.Add("/0/x /", "/0/x", "#%", "")
	f.Add("/i p=1 /a\n/i* q=2 /b\n/i p=2 q=1 /c 302!\n/i p=:p /d/:p\n/i /e", "/i", "p=2&q=1&p=1", "i")
	f.Fuzz(func(t *testing.T, data, path, query, files string) {
		r, problems := ParseRedirects([]byte(data))
		if len(problems) > 0 && strings.Count(problems.Error(), "\n") != len(problems)-1 {
			t.Errorf("%d problems print as %q", len(problems), problems.Error())
		}
		again, problems := ParseRedirects([]byte(r.String()))
		if len(problems) > 0 || !reflect.DeepEqual(bare(again.rules), bare(r.rules)) {
			t.Errorf("%q\nprints as\n%q\n%v", data, r.String(), problems)
		}
		out, ok := r.Match(path, query, has(files))
		if slow, found := oneByOne(r, path, query, has(files)); slow != out || found != ok {
			t.Errorf("%q\n%s?%s: one rule after the other gives %+v, and Match %+v", data, path, query, slow, out)
		}
		if !ok || out.Location == "" {
			if ok && (!isClean(out.Path) || IsControl(out.Path[1:])) {
				t.Errorf("%s shows %q", path, out.Path)
			}
			return
		}
		checkLocation(t, r, out.Location)
		at := &url.URL{Scheme: "https", Host: "site.test", Path: path, RawQuery: query}
		to, err := at.Parse(out.Location)
		if err != nil {
			t.Fatalf("%s leads to %q: %v", path, out.Location, err)
		}
		if to.Host == at.Host && to.Path == path && to.RawQuery == query && to.Fragment == "" {
			t.Errorf("%s?%s leads to itself: %s", path, query, out.Location)
		}
	})
}

// oneByOne is Match without its maps.
func oneByOne(r *Redirects, path, query string, shows func(string) bool) (Redirect, bool) {
	m := search{redirects: r, path: path, query: query}
	for i := range r.rules {
		if isClean(path) && m.try(i, shows) {
			return m.found, true
		}
	}
	return Redirect{}, false
}

// checkLocation wants an address on this site, or on a host that a rule names.
func checkLocation(t *testing.T, r *Redirects, location string) {
	t.Helper()
	head, _, _ := strings.Cut(location, "?")
	if strings.ContainsFunc(location, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		t.Errorf("the Location %q cannot stand in a header", location)
	}
	if head[0] == '/' {
		if strings.HasPrefix(head, "//") || strings.ContainsRune(head, '\\') {
			t.Errorf("the Location %q leads to another host", location)
		}
		return
	}
	for i := range r.rules {
		if o := r.rules[i].target.origin; o != "" && strings.HasPrefix(head, o+"/") {
			return
		}
	}
	t.Errorf("the Location %q leads to a host that no rule names", location)
}

// FuzzParseHeaders: what parses is printed as a file of the same blocks, and
// nothing that is the server's is changed.
func FuzzParseHeaders(f *testing.F) {
	f.Add("/*\n  X-A: 1\n  ! Cache-Control\n/b/:c\n  X-A: 2\n  Set-Cookie: a=1\n", "/b/x")
	f.Add("/*.css\nContent-Type: text/css\nContent-Type: text/plain\nVary: a\nVary: b", "/a.css")
	f.Add("x: 1\n/a b\n/c\n\t!\n", "/c")
	f.Fuzz(func(t *testing.T, data, path string) {
		h, _ := ParseHeaders([]byte(data))
		again, problems := ParseHeaders([]byte(h.String()))
		if len(problems) > 0 || again.String() != h.String() || again.Len() != h.Len() {
			t.Errorf("%q\nprints as\n%q\n%v", data, h.String(), problems)
		}
		got, want := http.Header{"Etag": {"x"}, "Content-Type": {"y"}}, http.Header{"Etag": {"x"}, "Content-Type": {"y"}}
		h.Apply(path, got)
		again.Apply(path, want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q\nat %s sets %v, and printed %v", data, path, got, want)
		}
		for name, values := range got {
			if name != "Etag" && checkName(name) != nil || len(values) == 0 {
				t.Errorf("%q\nsets %s: %q", data, name, values)
			}
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%q\nsets %s: %q", data, name, v)
				}
			}
		}
		if got.Get("Etag") != "x" || got.Get("Content-Type") == "" {
			t.Errorf("%q\nchanges what is the server's: %v", data, got)
		}
	})
}

// FuzzResolve: what is shown is there and may be shown, and a redirect leads to
// another address of the same host which is shown at once.
func FuzzResolve(f *testing.F) {
	f.Add("index.html a.html d/index.html 404.html", "/a.html", byte(1), false)
	f.Add("d/index.html", "/d", byte(0), false)
	f.Add("both both.html both/index.html", "/both/index", byte(5), true)
	f.Add(".html a/.html index/index.html x:y/index.html", "/x:y", byte(0), false)
	f.Add("*", "//evil.com", byte(1), false)
	f.Fuzz(func(t *testing.T, files, path string, bits byte, asset bool) {
		slashes := []TrailingSlash{"", Auto, Always, Never, Ignore}
		p := Policy{CleanURLs: bits&1 != 0, SPA: bits&2 != 0, TrailingSlash: slashes[int(bits>>2)%len(slashes)]}
		lookup := has(files)
		if files == "*" { // a release that has everything
			lookup = func(string) bool { return true }
		}
		out := Resolve(lookup, path, p, asset)
		at := &url.URL{Scheme: "https", Host: "site.test", Path: path}
		for step := 0; out.Location != ""; step++ {
			if step == 1 {
				t.Fatalf("%q: a second redirect, from %s", path, at)
			}
			to, err := at.Parse(out.Location)
			if err != nil || to.Host != at.Host || to.Scheme != at.Scheme || out.Status != http.StatusPermanentRedirect || to.Path == path {
				t.Fatalf("%q is redirected to %q with %d (%v)", path, out.Location, out.Status, err)
			}
			at = to
			if out = Resolve(lookup, at.Path, p, asset); out.Status == http.StatusNotFound {
				t.Fatalf("%q is redirected to %s, which is not there", path, at)
			}
		}
		switch {
		case out.File != "" && (!lookup(out.File) || IsControl(out.File)):
			t.Errorf("%q shows %q", path, out.File)
		case out.Status != http.StatusNotFound && (out.Status != http.StatusOK || out.File == ""):
			t.Errorf("%q is answered with %+v", path, out)
		}
	})
}
