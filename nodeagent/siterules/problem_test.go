package siterules

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestParseRedirects_refuses: lines that cannot work, and a part of what is said.
func TestParseRedirects_refuses(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"/a", "no target"},
		{"/a # /b", "no target"},
		{"a /b", "does not begin with a slash"},
		{"https://example.com/a /b", "not a path"},
		{"/a?x=1 /b", "query string"},
		{"/a#x /b", "'#'"},
		{"/a b", "neither a path nor an address"},
		{"/a javascript:alert(1)", "neither a path nor an address"},
		{"/a ftp://example.com/", "neither a path nor an address"},
		{"/a //example.com/", "another host"},
		{`/a /\example.com/`, "backslash"},
		{`/a https:\\example.com/`, "neither"},
		{`/a https://example.com\@b/`, "host"},
		{"/a /%2Fexample.com/", "empty segment"},
		{"/a https:///b", "no valid host"},
		{"/a https://user:pw@example.com/", "host"},
		{"/* https://:splat/", "host"},
		{"/* https://:splat.example.com/", "host"},
		{"/* https://example.com:splat", "host"},
		{"/a/../b /c", "dot segment"},
		{"/a//b /c", "empty segment"},
		{"/a /b/../c", "dot segment"},
		{"/a /b/%2e%2e/c", "dot segment"},
		{"/a%2Fb /c", "encoded slash"},
		{"/a%0Ab /c", "control character"},
		{"/a%zz /b", "percent sign"},
		{"/a /b%zz", "percent sign"},
		{"/a /b 200!!", "no number"},
		{"/a /b 999", "cannot answer with status 999"},
		{"/a /b 500", "cannot answer with status 500"},
		{"/a /b 304", "cannot answer with status 304"},
		{"/a /b 30x", "no number"},
		{"/a /b permanent", "unexpected word"},
		{"/a /b 301 302", "unexpected word"},
		{"/a /b 302 Country=us", "not supported"},
		{"/a /b 302 Language=de", "not supported"},
		{"/a /b Role=admin", "not supported"},
		{"/a /b 302 Cookie=x", "not supported"},
		{"/a Country=us /b", "not supported"},
		{"/a /b id=7", "after the target"},
		{"/a =7 /b", "not a query parameter"},
		{"/a id=:a:b /b", "more than a placeholder"},
		{"/a id=1 id=2 /b", "twice"},
		{"/*/a /b", "not at its end"},
		{"/a* /b*", "a *"},
		{"/a*b* /b", "more than one *"},
		{"/*/:a /b", "after the *"},
		{"/:a/:a /b", "twice"},
		{"/:a a=:a /b", "twice"},
		{"/:splat /b", ":splat is kept"},
		{"/:a-:b /b", "one segment"},
		{"/a:b /c", "inside a segment"},
		{"/a /b/:c", "unknown placeholder :c"},
		{"/a /b/:splat", "unknown placeholder :splat"},
		{"/a https://example.com/b 200", "no proxy"},
		{"/a https://example.com/b 404", "no proxy"},
		{"/a /_headers 200", "never shown"},
		{"/a /a", "redirects to itself"},
		{"/a /a/", "redirects to itself"},
		{"/a/ /a", "redirects to itself"},
		{"/a /a#x", "redirects to itself"},
		{"/a/* /a/:splat", "redirects to itself"},
		{"/:a /:a/", "redirects to itself"},
		{"/* /maintenance 302!", "redirects to itself"},
		{"/a/* /a/b/:splat 301!", "redirects to itself"},
		{"/a id=1 /a?id=1", "redirects to itself"},
		{"/a id=:b /a?id=:b", "redirects to itself"},
		{"/" + strings.Repeat("a", 1000) + " /b", "at most 1000"},
		{"/\xff /b", "not UTF-8"},
		{"/\x01 /b", "control character U+0001"},
		{"/:a1/:a2/:a3/:a4/:a5/:a6/:a7/:a8/:a9/:b1/:b2/:b3/:b4/:b5/:b6/:b7/:b8 /b", "more than 16"},
	} {
		r, problems := ParseRedirects([]byte("# first\n" + c.line + "\n"))
		checkOne(t, c.line, c.want, RedirectsFile, problems)
		if r.Len() != 0 {
			t.Errorf("%s: the rule is kept", c.line)
		}
	}
}

func checkOne(t *testing.T, line, want, file string, problems Problems) {
	t.Helper()
	if len(problems) != 1 || problems[0].Line != 2 || problems[0].File != file || problems[0].Do == "" ||
		!strings.Contains(problems[0].What, want) {
		t.Errorf("%s: got %v, want one problem in line 2 that says %q", line, problems, want)
	}
}

// TestParseHeaders_refuses: a line below "/a", and a part of what is said.
func TestParseHeaders_refuses(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"Connection: close", "the connection"},
		{"transfer-encoding: chunked", "the connection"},
		{"Content-Length: 7", "made by the server"},
		{"Content-Encoding: gzip", "made by the server"},
		{"Content-Range: bytes 0-1/2", "made by the server"},
		{"Date: today", "made by the server"},
		{"ETag: x", "old pages"},
		{"! Last-Modified", "old pages"},
		{"Location: /b", "Location"},
		{"Set-Cookie: relman=x; Path=/", "cookie relman"},
		{"Relman-Release: x", "Relman-"},
		{"! relman-epoch", "Relman-"},
		{"Basic-Auth: me:secret", "Basic-Auth is not supported"},
		{"! Content-Type", "guessed"},
		{"! Vary", "caches"},
		{"! Content-Length", "made by the server"},
		{"X-A: a\x00b", "control character U+0000"},
		{"X-A: a\x7fb", "control character"},
		{"X-A: a\tb", "tab"},
		{"X-A: a\rb", "control character U+000D"},
		{"X-A:", "no value"},
		{"X-A", "no colon"},
		{"X A: 1", "not the name of a header"},
		{": 1", "not the name of a header"},
		{"!", "not the name of a header"},
		{"Content-Type: css", "not a media type"},
		{"Content-Type: /", "not a media type"},
		{"X-A: \xff", "not UTF-8"},
		{"X-A: " + strings.Repeat("a", 2000), "at most 2000"},
	} {
		h, problems := ParseHeaders([]byte("/a\n  " + c.line))
		checkOne(t, c.line, c.want, HeadersFile, problems)
		if h.Len() != 0 {
			t.Errorf("%s: the block is kept", c.line)
		}
	}
	for _, c := range []struct{ file, want string }{
		{"\nX-A: 1", "belongs to no path"},
		{"\n! X-A", "belongs to no path"},
		{"\n/a", "has no headers"},
		{"\n/a\n# only\n", "has no headers"},
		{"\n/a b\n  X-A: 1", "a space"},
		{"\nhttps://example.com/\n  X-A: 1", "not a path"},
		{"\n/*/*\n  X-A: 1", "more than one *"},
		{"\n/a:b\n  X-A: 1", "inside a segment"},
		{"/:id\nX-Id: you are :id", "not put into values"},
		{"/*\nX-Id: :splat", "not put into values"},
	} {
		_, problems := ParseHeaders([]byte(c.file))
		checkOne(t, c.file, c.want, HeadersFile, problems)
	}
}

// TestProblems: all are told, in order, each on one line that can be printed.
func TestProblems(t *testing.T) {
	_, problems := ParseRedirects([]byte("\ufeff/a /b 999\r\n/ok /x\r\n/a\x1b[31m /c\n/" + strings.Repeat("ä", 100) + " nowhere\n"))
	got := problems.Error()
	want := `_redirects:1: a rule cannot answer with status 999; use 301, 302, 303, 307 or 308 to redirect, 200, 404 or 410 to show another page (/a /b 999)
_redirects:3: the line has the control character U+001B; remove it (/a�[31m /c)
_redirects:4: the target "nowhere" is neither a path nor an address; begin it with a slash or with https:// (/` + strings.Repeat("ä", 79) + `…)`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var as Problems
	if err := problems.Err(); !errors.As(err, &as) || len(as) != 3 {
		t.Errorf("Err is %v", err)
	}
	if err := Problems(nil).Err(); err != nil {
		t.Errorf("no problems are the error %v", err)
	}
	_, problems = ParseHeaders([]byte("/a\n/b\n  X: \x02\n/c\n"))
	if s := fmt.Sprint(problems[0].Line, problems[1].Line, problems[2].Line, len(problems)); s != "1 3 4 3" {
		t.Errorf("lines and number of problems: %s", s)
	}
}

// TestLimits: one more than allowed is told, the others stay.
func TestLimits(t *testing.T) {
	var b strings.Builder
	for i := range MaxStatic + 1 {
		fmt.Fprintf(&b, "/old/%d /new/%d\n", i, i)
	}
	for i := range MaxDynamic + 1 {
		fmt.Fprintf(&b, "/dyn/%d/* /new/%d/:splat\n", i, i)
	}
	r, problems := ParseRedirects([]byte(b.String()))
	if len(problems) != 2 || problems[0].Line != MaxStatic+1 || problems[1].Line != MaxStatic+MaxDynamic+2 || r.Len() != MaxStatic+MaxDynamic {
		t.Errorf("%d rules, problems: %v", r.Len(), problems)
	}
	if out, ok := r.Match("/old/9999", "", func(string) bool { return false }); !ok || out.Location != "/new/9999" || out.Line != 10_000 {
		t.Errorf("the last rule gives %+v", out)
	}
	b.Reset()
	for i := range MaxBlocks + 1 {
		fmt.Fprintf(&b, "/%d\n  X-%d: %d\n", i, i, i)
	}
	h, problems := ParseHeaders([]byte(b.String()))
	if len(problems) != 1 || problems[0].Line != 2*MaxBlocks+1 || h.Len() != MaxBlocks {
		t.Errorf("%d blocks, problems: %v", h.Len(), problems)
	}
	r, problems = ParseRedirects(make([]byte, maxFile+1))
	if len(problems) != 1 || problems[0].Line != 0 || r.Len() != 0 || !strings.HasPrefix(problems.Error(), "_redirects: the file has") {
		t.Errorf("a file that is too large: %v", problems)
	}
}
