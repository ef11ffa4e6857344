package nodeagent

import (
	"strings"
	"testing"

	"relman/cluster"
)

// TestServe_rules: what a release says of its addresses and headers, through the
// whole server. The rules themselves are tested where they are.
func TestServe_rules(t *testing.T) {
	rel := testRelease(t, "www", 1, map[string]string{
		"index.html": "home", "about.html": "about", "docs/index.html": "docs", "404.html": "lost", "docs/404.html": "lost in docs",
		"app.js": "code", "app.ab1ab1ab1ab1.js": "hashed",
		"_redirects": "/old /about 301\n/api/* /app.js 200\n/gone /404.html 410\n/away https://example.com/x 302\n/app.js /about 301!\n",
		"_headers":   "/*\n  X-Frame-Options: DENY\n/app.ab*\n  Cache-Control: no-cache\n/lib.wasm\n  Content-Type: application/wasm\n",
	})
	f := NewFront("www")
	serving := cluster.DefaultServing()
	serving.CleanURLs = true
	f.Serve(serving, testSecret)
	f.Show(rel, 3)
	s := NewServer(nil)
	s.Add(f)
	pin := f.holdings.Load().pin
	for _, c := range []struct {
		path           string
		code           int
		body, location string
		cache          string
	}{
		{"/", 200, "home", "", "no-cache"},
		{"/about", 200, "about", "", "no-cache"},
		{"/about.html?a=b", 308, "", "/about?a=b", "no-cache"},
		{"/about/", 308, "", "/about", "no-cache"},
		{"/docs", 308, "", "/docs/", "no-cache"},
		{"/docs/nothing", 404, "lost in docs", "", "no-cache"},
		{"/nothing", 404, "lost", "", "no-cache"},
		{"/nothing.js", 404, "404 page not found\n", "", "no-store"},
		{"/old?q=1", 301, "", "/about?q=1", "no-cache"},
		{"/api/v1/x", 200, "code", "", "no-cache"},
		{"/gone", 410, "lost", "", "no-cache"},
		{"/away", 302, "", "https://example.com/x", "no-cache"},
		{"/app.js", 301, "", "/about", "no-cache"},
		{"/app.ab1ab1ab1ab1.js", 200, "hashed", "", "no-cache"},
		{"/_redirects", 404, "", "", ""},
		{"/_headers", 404, "", "", ""},
		{"/_r/" + pin + "/about.html", 308, "", "/_r/" + pin + "/about", "private, no-cache"},
		{"/_r/" + pin + "/old", 301, "", "/_r/" + pin + "/about", "private, no-cache"},
	} {
		r := ask(s, "GET", c.path)
		h := r.Header()
		if r.Code != c.code || c.body != "" && r.Body.String() != c.body || h.Get("Location") != c.location || c.cache != "" && h.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d %q, location %q, cache %q; want %d %q %q %q", c.path, r.Code, r.Body, h.Get("Location"), h.Get("Cache-Control"), c.code, c.body, c.location, c.cache)
		}
		if h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: no header of _headers: %v", c.path, h)
		}
	}
	serving.SPA = true
	f.Serve(serving, testSecret)
	spa := testRelease(t, "www", 2, map[string]string{"index.html": "app"})
	f.Show(spa, 4)
	for path, want := range map[string]int{"/deep/link": 200, "/nothing.js": 404, "/assets/nothing.css": 404} {
		if r := ask(s, "GET", path); r.Code != want || want == 200 && r.Body.String() != "app" {
			t.Errorf("SPA %s: %d %q", path, r.Code, r.Body)
		}
	}
	if r := ask(s, "GET", "/deep/link", "Sec-Fetch-Dest", "script"); r.Code != 404 || r.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("SPA, a script: %d %v", r.Code, r.Header())
	}
}

// TestCheckRules: what is wrong is told with its line.
func TestCheckRules(t *testing.T) {
	has := func(p string) bool { return p == "about.html" || p == "index.html" }
	for rules, want := range map[string]string{
		"/a /about.html\n/b\n":            "_redirects:2:",
		"/a /b Country=de":                "_redirects:1:",
		"/a /nowhere.html 200\n":          "_redirects:1:",
		"# nothing\n/a /about.html 302\n": "",
	} {
		err := CheckRules(cluster.DefaultServing(), has, func(name string) ([]byte, error) {
			if name == "_redirects" {
				return []byte(rules), nil
			}
			return nil, nil
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", rules, err, want)
		}
	}
}
