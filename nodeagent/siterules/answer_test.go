package siterules

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// site is the release that the tables of rules are about, unless a row has its own.
const site = "index.html about.html blog/index.html blog/first.html app.js 404.html sold-out.html de/404.html de/index.html"

// clean is the policy that is like Cloudflare's.
func clean() Policy { return Policy{CleanURLs: true} }

// parsed is a _redirects file without problems.
func parsed(t testing.TB, text string) *Redirects {
	t.Helper()
	r, problems := ParseRedirects([]byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r
}

func decode(t *testing.T, path string) string {
	t.Helper()
	dec, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	return dec
}

// TestAnswer is about what neither rules nor files decide alone.
func TestAnswer(t *testing.T) {
	app := parsed(t, "/* /index.html 200")
	for _, c := range []struct {
		name  string
		site  Site
		files string
		r     Request
		want  string
	}{
		{"no rules", Site{Policy: clean()}, site, Request{Path: "/about"}, "200 about.html"},
		{"a query stays on the way to the better address", Site{Policy: clean()}, site, Request{Path: "/about.html", Query: "a=1"}, "308 -> /about?a=1"},
		{"also without clean addresses", Site{}, site, Request{Path: "/blog", Query: "a"}, "308 -> blog/?a"},
		{"a rule knows files without clean addresses, too", Site{Redirects: parsed(t, "/x /blog 200")}, site, Request{Path: "/x"}, "200 blog/index.html"},
		{"but not the clean ones", Site{Redirects: parsed(t, "/x /about 200")}, site, Request{Path: "/x"}, "404 404.html"},
		{"an application's page", Site{app, clean()}, "index.html", Request{Path: "/user/7"}, "200 index.html"},
		{"is no script", Site{app, clean()}, "index.html", Request{Path: "/user/7", Asset: true}, "404"},
		{"nor is it when a policy asks for it as well", Site{app, Policy{CleanURLs: true, SPA: true}}, "index.html", Request{Path: "/a.js"}, "404"},
		{"but a rule can insist", Site{parsed(t, "/* /index.html 200!"), clean()}, "index.html a.js", Request{Path: "/a.js"}, "200 index.html"},
		{"a page whose name has a dot", Site{parsed(t, "/v1/* /v2/:splat 200"), clean()}, "v2/a.js.html", Request{Path: "/v1/a.js"}, "200 v2/a.js.html"},
		{"a script in the place of another", Site{parsed(t, "/v1/* /v2/:splat 200"), clean()}, "v2/a.js", Request{Path: "/v1/a.js", Asset: true}, "200 v2/a.js"},
		{"a query cannot break the header", Site{parsed(t, "/a /b"), clean()}, "", Request{Path: "/a", Query: "x\r\nSet-Cookie: y"}, "301 -> /b?x%0D%0ASet-Cookie:%20y"},
	} {
		if got := show(c.site.Answer(has(c.files), c.r)); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}

// TestCheck: what is wrong with rules only for the files that there are.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		rules  string
		policy Policy
		want   string // lines with a problem
	}{
		{"/a /about\n/b /gone\n/c https://example.com/", clean(), ""},
		{"/a /about 200\n/b /gone 200\n/c /gone 404\n/d/* /e/:splat 200", clean(), "2 3"},
		{"/a /b\n/b /a", clean(), "1 2"},
		{"/a /b\n/b /c\n/c /b\n/d /about", clean(), "1 2 3"},
		{"/about /a 301!\n/a /about", clean(), "1 2"},
		{"/a /about\n/about /a", clean(), ""}, // there is a file /about
		{"/ /index.html 302!", clean(), "1"},  // which goes back to /
		{"/ /index.html 302!", Policy{}, ""},
		{"/about /about/ 301!", Policy{}, "parse"},
		{"/x v=1 /x?v=2\n/x v=2 /x?v=1", clean(), "1 2"},
	} {
		r, problems := ParseRedirects([]byte(c.rules))
		got := "parse"
		if len(problems) == 0 {
			var lines []string
			for _, p := range (Site{r, c.policy}).Check(has(site)) {
				lines = append(lines, fmt.Sprint(p.Line))
			}
			got = strings.Join(lines, " ")
		}
		if got != c.want {
			t.Errorf("%q has problems in lines %q, not %q", c.rules, got, c.want)
		}
	}
	if p := (Site{}).Check(has(site)); p != nil {
		t.Errorf("no rules have problems: %v", p)
	}
}

// many is a site with as many rules as there may be, none of them for "/page".
func many(t testing.TB) (*Redirects, *Headers) {
	var r, h strings.Builder
	for i := range MaxStatic {
		fmt.Fprintf(&r, "/old/%d /new/%d\n", i, i)
	}
	for i := range MaxDynamic {
		fmt.Fprintf(&r, "/posts/:year/:month/%d/* /new/:year/:splat\n", i)
	}
	for i := range MaxBlocks - 2 {
		fmt.Fprintf(&h, "/posts/:year/%d/*\n  X-A: %d\n", i, i)
	}
	h.WriteString("/*\n  X-A: 1\n  X-B: 1\n/page\n  X-C: 2\n")
	headers, problems := ParseHeaders([]byte(h.String()))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return parsed(t, r.String()), headers
}

// TestMatch_allocations: rules that do not match cost no memory.
func TestMatch_allocations(t *testing.T) {
	r, h := many(t)
	files := map[string]bool{"page.html": true}
	lookup := func(p string) bool { return files[p] }
	shows := func(string) bool { return false }
	if n := testing.AllocsPerRun(100, func() { r.Match("/posts/2024/05/x/y", "a=1", shows) }); n != 0 {
		t.Errorf("matching nothing allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { Site{r, clean()}.Answer(lookup, Request{Path: "/page"}) }); n > 3 {
		t.Errorf("an answer allocates %v times", n)
	}
	to := http.Header{}
	if n := testing.AllocsPerRun(100, func() { h.Apply("/page", to) }); n != 0 {
		t.Errorf("headers allocate %v times", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	r, h := many(b)
	shows := func(string) bool { return false }
	lookup := has("page.html")
	var old strings.Builder
	for i := range MaxStatic {
		fmt.Fprintf(&old, "/index.php p=%d /page-%d\n", i, i)
	}
	php := parsed(b, old.String())
	s := Site{r, clean()}
	to := http.Header{}
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"static", func() { r.Match("/old/9999", "", shows) }},
		{"parameter", func() { php.Match("/index.php", "p=9999", shows) }},
		{"nothing", func() { r.Match("/page", "", shows) }},
		{"last-dynamic", func() { r.Match("/posts/2024/05/99/x", "", shows) }},
		{"file", func() { s.Answer(lookup, Request{Path: "/page"}) }},
		{"headers", func() { h.Apply("/page", to) }},
		{"headers-near", func() { h.Apply("/posts/2024/x", to) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do()
			}
		})
	}
}
