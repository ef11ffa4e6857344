package siterules

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The tables below say what the package does, one line for each convention.

// has makes a lookup out of a list of files.
func has(files string) func(string) bool {
	set := map[string]bool{}
	for f := range strings.FieldsSeq(files) {
		set[f] = true
	}
	return func(p string) bool { return set[p] }
}

// show prints an outcome: "200 file", "301 -> address", "404".
func show(o Outcome) string {
	switch {
	case o.Location != "" && o.File == "":
		return fmt.Sprintf("%d -> %s", o.Status, o.Location)
	case o.Location == "" && o.File != "":
		return fmt.Sprintf("%d %s", o.Status, o.File)
	case o.Location == "" && o.File == "":
		return fmt.Sprint(o.Status)
	}
	return fmt.Sprintf("%+v", o)
}

// TestConformance_redirects: rules (split at ';' into lines), a request, the answer.
func TestConformance_redirects(t *testing.T) {
	for _, c := range []struct{ rules, request, want string }{
		// Redirects: 301 if the rule says nothing.
		{"/old /new", "/old", "301 -> /new"},
		{"/old /new 301", "/old", "301 -> /new"},
		{"/old /new 302", "/old", "302 -> /new"},
		{"/old /new 303", "/old", "303 -> /new"},
		{"/old /new 307", "/old", "307 -> /new"},
		{"/old /new 308", "/old", "308 -> /new"},
		{"/old /new", "/other", "404 404.html"},
		{"/old /new", "/OLD", "404 404.html"}, // paths are case-sensitive
		{"/old   /new\t302", "/old", "302 -> /new"},
		{"/old /new # a comment", "/old", "301 -> /new"},
		{"# /old /new;;   ", "/old", "404 404.html"},
		{"/old /new#part", "/old", "301 -> /new#part"},
		{"/old https://example.com/new", "/old", "301 -> https://example.com/new"},
		{"/old https://example.com", "/old", "301 -> https://example.com/"},
		{"/old http://example.com:8080/x", "/old", "301 -> http://example.com:8080/x"},
		{"/a https://web.archive.org/web/https://example.com/", "/a", "301 -> https://web.archive.org/web/https://example.com/"},

		// The first rule that matches wins, of whatever kind.
		{"/old /one;/old /two", "/old", "301 -> /one"},
		{"/o* /x;/old /two", "/old", "301 -> /x"},
		{"/old /two;/o* /x", "/old", "301 -> /two"},

		// A slash at the end does not matter.
		{"/old /new", "/old/", "301 -> /new"},
		{"/old/ /new", "/old", "301 -> /new"},

		// Rules and files: a file goes first, unless the rule has a "!".
		{"/about /new", "/about", "200 about.html"},
		{"/about /new 301!", "/about", "301 -> /new"},
		{"/about.html /new 301", "/about.html", "308 -> /about"},
		{"/about /new;/about /newer 302!", "/about", "302 -> /newer"},
		{"/app.js /app2.js 302!", "/app.js", "302 -> /app2.js"},
		{"/* /new 302", "/", "200 index.html"},

		// Splats.
		{"/news/* /archive/:splat", "/news/2024/05", "301 -> /archive/2024/05"},
		{"/news/* /archive/:splat", "/news/2024/", "301 -> /archive/2024/"},
		{"/news/* /archive/:splat", "/news/", "301 -> /archive/"},
		{"/news/* /archive/:splat", "/news", "301 -> /archive/"},
		{"/news/* /archive/:splat", "/newsletter", "404 404.html"},
		{"/news* /archive/:splat", "/newsletter", "301 -> /archive/letter"},
		{"/news* /archive/:splat", "/news/x", "301 -> /archive/x"},
		{"/news/* https://example.com/:splat", "/news/a/b", "301 -> https://example.com/a/b"},
		{"/news/* /search?q=:splat", "/news/a/b c", "301 -> /search?q=a%2Fb+c"},
		{"/news/* /archive#:splat", "/news/a", "301 -> /archive#a"},

		// Placeholders take one segment, or one without its literal end.
		{"/:year/:month/:slug /posts/:slug-:year-:month", "/2024/05/hi", "301 -> /posts/hi-2024-05"},
		{"/p/:id /q/:id", "/p/7/", "301 -> /q/7"},
		{"/p/:id /q/:id", "/p/7/8", "404 404.html"},
		{"/p/:id /q/:id", "/p/", "404 404.html"},
		{"/p/:id/edit /e/:id", "/p/7/edit", "301 -> /e/7"},
		{"/p/:id.php /q/:id", "/p/7.php", "301 -> /q/7"},
		{"/p/:id.php /q/:id", "/p/7.asp", "404 404.html"},
		{"/:lang/p/* /p/:splat?lang=:lang", "/de/p/a/b", "301 -> /p/a/b?lang=de"},
		{"/p/:a_1 /q/:a_1", "/p/x", "301 -> /q/x"},

		// Query strings are passed on, unless the target has its own.
		{"/old /new", "/old?a=1&b", "301 -> /new?a=1&b"},
		{"/old /new?c=3", "/old?a=1", "301 -> /new?c=3"},
		{"/old /new#part", "/old?a=1", "301 -> /new?a=1#part"},
		{"/old https://example.com/", "/old?a=1", "301 -> https://example.com/?a=1"},

		// Query parameters that a rule wants; those that it took are not passed on.
		{"/store id=:id /shop/:id", "/store?id=7", "301 -> /shop/7"},
		{"/store id=:id /shop/:id", "/store?x=1&id=7&y=2", "301 -> /shop/7?x=1&y=2"},
		{"/store id=:id /shop/:id", "/store", "404 404.html"},
		{"/store id=:id /shop/:id", "/store?id=", "404 404.html"},
		{"/store id=5 /five", "/store?id=5", "301 -> /five"},
		{"/store id=5 /five", "/store?id=6", "404 404.html"},
		{"/store a=:a b=:b /:b/:a", "/store?b=2&a=1", "301 -> /2/1"},
		{"/store id=:id /shop/:id;/store /shop", "/store", "301 -> /shop"},
		{"/s/* q=:q /find/:q/:splat", "/s/x/y?q=z", "301 -> /find/z/x/y"},
		{"/store id=:id /shop/:id", "/store?id=a%2Fb", "301 -> /shop/a%2Fb"},
		{"/old v=1 /old", "/old?v=1&a", "301 -> /old?a"}, // no loop: v is gone
		{"/i.php p=1 /one;/i.php p=2 /two;/i.php /any", "/i.php?p=2", "301 -> /two"},
		{"/i.php p=1 /one;/i.php /any;/i.php p=2 /two", "/i.php?p=2", "301 -> /any?p=2"},
		{"/i* /any;/i.php p=2 /two", "/i.php?p=2", "301 -> /any?p=2"},
		{"/i.php q=3 p=2 /two;/i.php p=2 /one", "/i.php?p=2&q=3", "301 -> /two"},
		{"/i.php p=2 /two", "/i.php?p=1&p=2", "404 404.html"}, // the first one counts
		{"/i.php a%26b=c+d /two", "/i.php?a%26b=c%20d", "301 -> /two"},

		// Other pages under the same address.
		{"/sale /about 200", "/sale", "200 about.html"},
		{"/sale /about.html 200", "/sale", "200 about.html"},
		{"/news/* /blog/:splat 200", "/news/first", "200 blog/first.html"},
		{"/news/* /blog/:splat 200", "/news/", "200 blog/index.html"},
		{"/news/* /blog/:splat 200", "/news/gone", "404 404.html"},
		{"/a /sale 200;/sale /about 200", "/a", "404 404.html"}, // one rule only
		{"/app.js /about 200", "/app.js", "200 app.js"},
		{"/app.js /about 200!", "/app.js", "200 about.html"},
		{"/sale /sold-out 404", "/sale", "404 sold-out.html"},
		{"/sale /sold-out 410", "/sale", "410 sold-out.html"},
		{"/sale /gone 410", "/sale", "410"},
		{"/de/x /gone 404", "/de/x", "404 de/404.html"},
		{"/shop/* /sold-out 404", "/shop/a", "404 sold-out.html"},

		// The one page of an application. A missing asset stays missing.
		{"/* /index.html 200", "/user/7", "200 index.html"},
		{"/* /index.html 200", "/about", "200 about.html"},
		{"/* /index.html 200", "/app.0a1b.js", "404 404.html"},
		{"/* /index.html 200", "/docs/v1.2", "200 index.html"},
		{"/:page /index.html 200", "/app.0a1b.js", "404 404.html"},
		{"/news/* /blog/:splat 200", "/news/first.html", "200 blog/first.html"},

		// Encoding: rules and paths are compared decoded, targets are encoded.
		{"/caf%C3%A9 /coffee", "/café", "301 -> /coffee"},
		{"/café /coffee", "/caf%C3%A9", "301 -> /coffee"},
		{"/coffee /café", "/coffee", "301 -> /caf%C3%A9"},
		{"/a%20b /c%20d", "/a b", "301 -> /c%20d"},
		{"/wiki/A%3AB /c", "/wiki/A:B", "301 -> /c"},
		{"/x/* /y/:splat", "/x/a b?", "301 -> /y/a%20b"},
		{"/x/:n /y/:n", "/x/%25", "301 -> /y/%25"},

		// What must not get far: other hosts, other directories, circles.
		{"/go/* /:splat", "/go//evil.com", "404 404.html"},
		{"/go/* /:splat", "/go/%2Fevil.com", "404 404.html"},
		{"/go/* /:splat", `/go/\evil.com`, "404 404.html"},
		{"/go/* /:splat", "/go/https://evil.com", "404 404.html"},
		{"/go* /:splat", "/go/evil.com", "301 -> /evil.com"},
		{"/go to=:to /:to", "/go?to=/evil.com", "404 404.html"},
		{"/go to=:to /x/:to", "/go?to=..", "404 404.html"},
		{"/go/:a.html /x/:a/y", "/go/..html", "404 404.html"},
		{"/go/* /x/:splat", "/go/../secret", "404 404.html"},
		{"/go/* /x/:splat", "/go/%2e%2e/secret", "404 404.html"},
		{"/x/* /:splat 200", "/x/_redirects", "404 404.html"},
		{"/* /en/:splat 302", "/page", "404 404.html"}, // nor is there /en/page
		{"/* /blog/:splat 302", "/first", "302 -> /blog/first"},
		{"/* /missing 302", "/missing", "404 404.html"},
		{"/:a/x /x/:a", "/x/x", "404 404.html"},
	} {
		rules, problems := ParseRedirects([]byte(strings.ReplaceAll(c.rules, ";", "\n")))
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.rules, problems)
			continue
		}
		path, query, _ := strings.Cut(c.request, "?")
		s := Site{rules, clean()}
		if got := show(s.Answer(has(site), Request{Path: decode(t, path), Query: query})); got != c.want {
			t.Errorf("%s: %s is answered with %s, not %s", c.rules, c.request, got, c.want)
		}
	}
}

// TestConformance_resolve: files, policy, path, answer.
func TestConformance_resolve(t *testing.T) {
	const (
		off    = "off"
		auto   = "auto"
		always = "always"
		never  = "never"
		ignore = "ignore"
		spa    = "auto spa"
		asset  = "auto spa asset"
	)
	for _, c := range []struct{ files, policy, path, want string }{
		// Without clean addresses: names as they are.
		{"index.html a.html d/index.html", off, "/", "200 index.html"},
		{"index.html a.html d/index.html", off, "/index.html", "200 index.html"},
		{"index.html a.html d/index.html", off, "/a.html", "200 a.html"},
		{"index.html a.html d/index.html", off, "/a", "404"},
		{"index.html a.html d/index.html", off, "/d", "308 -> d/"},
		{"x/d/index.html", off, "/x/d", "308 -> d/"},
		{"index.html a.html d/index.html", off, "/d/", "200 d/index.html"},
		{"index.html a.html d/index.html", off, "/d/index.html", "200 d/index.html"},
		{"d/404.html 404.html", off, "/d/x", "404 404.html"},

		// auto: /file and /dir/.
		{"index.html", auto, "/", "200 index.html"},
		{"index.html", auto, "/index.html", "308 -> /"},
		{"index.html", auto, "/index", "308 -> /"},
		{"about.html", auto, "/about", "200 about.html"},
		{"about.html", auto, "/about.html", "308 -> /about"},
		{"about.html", auto, "/about/", "308 -> /about"},
		{"about.html", auto, "/about/index.html", "308 -> /about"},
		{"d/index.html", auto, "/d/", "200 d/index.html"},
		{"d/index.html", auto, "/d", "308 -> /d/"},
		{"d/index.html", auto, "/d/index.html", "308 -> /d/"},
		{"d/index.html", auto, "/d/index", "308 -> /d/"},
		{"d/index.html", auto, "/d.html", "308 -> /d/"},
		{"both.html both/index.html", auto, "/both", "200 both.html"},
		{"both.html both/index.html", auto, "/both/", "200 both/index.html"},
		{"both.html both/index.html", auto, "/both.html", "308 -> /both"},
		{"both.html both/index.html", auto, "/both/index.html", "308 -> /both/"},
		{"bin bin.html", auto, "/bin", "200 bin"},
		{"bin bin.html", auto, "/bin.html", "200 bin.html"}, // /bin is something else
		{"a.css", auto, "/a.css", "200 a.css"},
		{"a.css", auto, "/a.css/", "404"},
		{"a.css", auto, "/a", "404"},
		{"dé/ü b.html", auto, "/dé/", "404"},
		{"dé/index.html", auto, "/dé", "308 -> /d%C3%A9/"},
		{"index/index.html", auto, "/index/", "200 index/index.html"},

		// always: /file/ and /dir/.
		{"about.html", always, "/about/", "200 about.html"},
		{"about.html", always, "/about", "308 -> /about/"},
		{"about.html", always, "/about.html", "308 -> /about/"},
		{"d/index.html", always, "/d", "308 -> /d/"},
		{"both.html both/index.html", always, "/both", "308 -> /both/"},
		{"both.html both/index.html", always, "/both/", "200 both/index.html"},
		{"both.html both/index.html", always, "/both.html", "200 both.html"},
		{"a.css", always, "/a.css", "200 a.css"},

		// never: /file and /dir.
		{"index.html", never, "/", "200 index.html"},
		{"d/index.html", never, "/d", "200 d/index.html"},
		{"d/index.html", never, "/d/", "308 -> /d"},
		{"d/index.html", never, "/d/index.html", "308 -> /d"},
		{"about.html", never, "/about/", "308 -> /about"},
		{"both.html both/index.html", never, "/both/", "308 -> /both"},
		{"both.html both/index.html", never, "/both/index.html", "200 both/index.html"},

		// ignore: both ways, but .html and index still go.
		{"about.html", ignore, "/about", "200 about.html"},
		{"about.html", ignore, "/about/", "200 about.html"},
		{"d/index.html", ignore, "/d", "200 d/index.html"},
		{"d/index.html", ignore, "/d/", "200 d/index.html"},
		{"about.html", ignore, "/about.html", "308 -> /about"},
		{"both.html both/index.html", ignore, "/both/", "200 both/index.html"},

		// What is not there: the nearest 404.html.
		{"404.html a/404.html", auto, "/x", "404 404.html"},
		{"404.html a/404.html", auto, "/a/x", "404 a/404.html"},
		{"404.html a/404.html", auto, "/a/b/c/x", "404 a/404.html"},
		{"404.html a/404.html", auto, "/a/", "404 a/404.html"},
		{"404.html a/404.html", auto, "/a", "404 404.html"},
		{"a/404.html", auto, "/b/x", "404"},

		// Then the one page of an application, if the policy says so.
		{"index.html", auto, "/user/7", "404"},
		{"index.html", spa, "/user/7", "200 index.html"},
		{"index.html", spa, "/user/7.html", "200 index.html"},
		{"index.html 404.html", spa, "/user/7", "404 404.html"},
		{"index.html", spa, "/app.js", "404"},
		{"index.html", spa, "/a.b/c", "200 index.html"},
		{"index.html", asset, "/user/7", "404"},
		{"about.html", spa, "/user/7", "404"},

		// Control files are never shown.
		{"_redirects _headers 404.html", auto, "/_redirects", "404 404.html"},
		{"_redirects _headers", off, "/_headers", "404"},
		{"_relman.yaml", auto, "/_relman.yaml", "404"},
		{"_relman.html", auto, "/_relman", "404"},
		{"a/_redirects", auto, "/a/_redirects", "200 a/_redirects"},

		// Odd paths name nothing.
		{"index.html d/index.html", auto, "//", "404"},
		{"index.html d/index.html", auto, "//d", "404"},
		{"index.html d/index.html", off, "//d", "404"},
		{"index.html d/index.html", auto, "/d/../d", "404"},
		{"index.html d/index.html", auto, "/./d", "404"},
		{"index.html d/index.html", auto, "", "404"},
		{"index.html d/index.html", auto, "*", "404"},
		{"index.html d/index.html", spa, "//evil.com", "404"},
	} {
		words := strings.Fields(c.policy)
		p := Policy{CleanURLs: words[0] != off, SPA: slices.Contains(words, "spa")}
		if p.CleanURLs {
			p.TrailingSlash = TrailingSlash(words[0])
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if got := show(Resolve(has(c.files), c.path, p, slices.Contains(words, "asset"))); got != c.want {
			t.Errorf("%s (%s): %s is answered with %s, not %s", c.files, c.policy, c.path, got, c.want)
		}
	}
}

// TestConformance_headers: blocks (';' ends a line), a path, and the headers of
// an answer that had Cache-Control: no-cache, Content-Type: text/html and
// Vary: Cookie before.
// TestMatch_longQuery: a query does not cost more than its first parameters.
func TestMatch_longQuery(t *testing.T) {
	r, problems := ParseRedirects([]byte("/a p=1 q=:q /x/:q\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	never := func(string) bool { return false }
	fill := strings.Repeat("p=1&", pairsAsked-1)
	if got, ok := r.Match("/a", fill+"q=2", never); !ok || got.Location != "/x/2" {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := r.Match("/a", fill+"p=1&q=2", never); ok {
		t.Errorf("behind the last one that counts: %+v", got)
	}
}

// TestHeaders_pin: a site sets cookies of its own, and takes away those of others but
// not the visitor's pin.
func TestHeaders_pin(t *testing.T) {
	pin := "relman=3.x; Path=/"
	for blocks, want := range map[string][]string{
		"/a;  Set-Cookie: a=1":                    {pin, "a=1"},
		"/a;  Set-Cookie: a=1;/*;  Set-Cookie: b": {pin, "a=1", "b"},
		"/a;  ! Set-Cookie":                       {pin},
		"/a;  ! Set-Cookie;  Set-Cookie: a=1":     {pin, "a=1"},
	} {
		h, problems := ParseHeaders([]byte(strings.ReplaceAll(blocks, ";", "\n")))
		if len(problems) > 0 {
			t.Errorf("%s: %v", blocks, problems)
			continue
		}
		to := http.Header{"Set-Cookie": {pin, "other=1"}}
		h.Apply("/a", to)
		if got := to["Set-Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", blocks, got, want)
		}
	}
}

func TestConformance_headers(t *testing.T) {
	const rest = " Content-Type=text/html Vary=Cookie"
	for _, c := range []struct{ blocks, path, want string }{
		{"/a;  X-A: 1", "/a", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/a;  X-A: 1", "/b", "Cache-Control=no-cache" + rest},
		{"/a;  X-A: 1", "/a/", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/a;X-A: 1", "/a", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"# a;/a;  # b;;  x-a:1", "/a", "Cache-Control=no-cache" + rest + " X-A=1"},

		// What a block sets takes the place of the default; blocks are joined.
		{"/a;  Cache-Control: no-store", "/a", "Cache-Control=no-store" + rest},
		{"/a;  X-A: 1;  X-A: 2", "/a", "Cache-Control=no-cache" + rest + " X-A=1, 2"},
		{"/*;  X-A: 1;/a;  X-A: 2", "/a", "Cache-Control=no-cache" + rest + " X-A=1, 2"},
		{"/a;  X-A: 2;/*;  X-A: 1", "/a", "Cache-Control=no-cache" + rest + " X-A=2, 1"},
		{"/a;  X-A: 1;/a;  X-A: 2", "/a", "Cache-Control=no-cache" + rest + " X-A=1, 2"},
		{"/*;  Cache-Control: public;/a;  Cache-Control: max-age=1", "/a", "Cache-Control=public, max-age=1" + rest},

		// Detached: a default, or what an earlier block has set.
		{"/a;  ! Cache-Control", "/a", rest[1:]},
		{"/*;  X-A: 1;/a;  ! X-A", "/a", "Cache-Control=no-cache" + rest},
		{"/*;  X-A: 1;/a;  ! X-A;  X-A: 2", "/a", "Cache-Control=no-cache" + rest + " X-A=2"},
		{"/a;  ! X-A;/*;  X-A: 1", "/a", "Cache-Control=no-cache" + rest + " X-A=1"},

		// Paths.
		{"/*;  X-A: 1", "/any/thing", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/*;  X-A: 1", "/", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/*;  X-A: 1", "//odd/../path", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/b/*;  X-A: 1", "/b/c/d", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/b/*;  X-A: 1", "/bc", "Cache-Control=no-cache" + rest},
		{"/*.css;  X-A: 1", "/b/c.css", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/*.css;  X-A: 1", "/b/c.js", "Cache-Control=no-cache" + rest},
		{"/b/:c;  X-A: 1", "/b/x", "Cache-Control=no-cache" + rest + " X-A=1"},
		{"/b/:c;  X-A: 1", "/b/x/y", "Cache-Control=no-cache" + rest},
		{"/caf%C3%A9;  X-A: 1", "/café", "Cache-Control=no-cache" + rest + " X-A=1"},

		// Three headers that are not joined like the others.
		{"/*.wat;  Content-Type: text/plain", "/a.wat", "Cache-Control=no-cache Content-Type=text/plain Vary=Cookie"},
		{"/*;  Content-Type: text/css;/a;  Content-Type: text/plain", "/a", "Cache-Control=no-cache Content-Type=text/plain Vary=Cookie"},
		{"/a;  Set-Cookie: a=1;  Set-Cookie: b=2", "/a", "Cache-Control=no-cache Content-Type=text/html Set-Cookie=a=1|b=2 Vary=Cookie"},
		{"/a;  Vary: Accept", "/a", "Cache-Control=no-cache Content-Type=text/html Vary=Cookie, Accept"},
	} {
		h, problems := ParseHeaders([]byte(strings.ReplaceAll(c.blocks, ";", "\n")))
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.blocks, problems)
			continue
		}
		for range 2 { // the second answer must not see the first one
			to := http.Header{"Cache-Control": {"no-cache"}, "Content-Type": {"text/html"}, "Vary": {"Cookie"}}
			h.Apply(c.path, to)
			var got []string
			for _, name := range slices.Sorted(maps.Keys(to)) {
				got = append(got, name+"="+strings.Join(to[name], "|"))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s: %s has %s, not %s", c.blocks, c.path, s, c.want)
			}
		}
	}
}
