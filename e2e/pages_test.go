package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A page build is made from its number alone, so that any body can be judged by
// itself: three pages, and eight assets that each of them needs. Half of the assets
// have a hash of their content in the name, as build tools make them.

const pagesPerBuild = 3

func pagePath(i int) string { return fmt.Sprintf("p%d.html", i) }

// plainAssets keep their names over all builds.
func plainAssets() []string { return []string{"style.css", "main.js", "logo.svg", "data.json"} }

// hashedAssets are the others of a build.
func hashedAssets(n int) []string {
	var names []string
	for _, ext := range []string{"js", "css", "svg", "woff2"} {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s of %d", ext, n))
		names = append(names, fmt.Sprintf("assets/app.%x.%s", sum[:8], ext))
	}
	return names
}

// pageContent is what a path holds in a build.
func pageContent(n int, path string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "build %d %s\n", n, path)
	if strings.HasSuffix(path, ".html") {
		for _, a := range append(hashedAssets(n), plainAssets()...) {
			fmt.Fprintf(&b, "<a href=\"/%s\">\n", a)
		}
	}
	size := 1 << (10 + len(path)%5) // 1 to 16 KiB
	for line := 0; b.Len() < size; line++ {
		fmt.Fprintf(&b, "%d %d %s\n", n*7919+line, line, path)
	}
	return b.Bytes()
}

func writePages(t testing.TB, dir string, n int) {
	t.Helper()
	paths := append(hashedAssets(n), plainAssets()...)
	for i := range pagesPerBuild {
		paths = append(paths, pagePath(i))
	}
	for _, p := range paths {
		to := filepath.Join(dir, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, pageContent(n, p), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// pageCounts is what page loads came to.
type pageCounts struct {
	responses, pages            atomic.Int64
	mixed, back, wrong, bad     atomic.Int64
	hashedMissing, plainMissing atomic.Int64
	cut                         atomic.Int64
	mu                          sync.Mutex
	examples                    []string // of what should not be
	noted                       map[*atomic.Int64]int
}

func (c *pageCounts) note(n *atomic.Int64, format string, args ...any) {
	n.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted == nil {
		c.noted = map[*atomic.Int64]int{}
	}
	if c.noted[n]++; c.noted[n] <= 4 { // of each kind
		c.examples = append(c.examples, fmt.Sprintf(format, args...))
	}
}

func (c *pageCounts) String() string {
	return fmt.Sprintf("%d responses, %d pages: mixed pages %d, hashed assets missing %d, other assets missing %d, steps back %d, wrong bytes %d, other answers than 200 %d; cut off and asked again %d",
		c.responses.Load(), c.pages.Load(), c.mixed.Load(), c.hashedMissing.Load(), c.plainMissing.Load(), c.back.Load(), c.wrong.Load(), c.bad.Load(), c.cut.Load())
}

// guest is one browser: it loads pages, with their assets side by side, and
// keeps the cookie that it is given, or not.
type guest struct {
	base    string
	cookies bool
	modern  bool // says what it asks for, as browsers do
	counts  *pageCounts
	client  *http.Client

	cookie string
	epoch  uint64
	saw    []int // the builds of his pages
}

// get asks until a whole answer comes. What a node that was killed had begun is
// asked for again, as browsers do.
func (g *guest) get(ctx context.Context, path, dest string) (code int, head http.Header, body []byte, ok bool) {
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+"/"+path, nil)
		if err != nil {
			panic(err)
		}
		if g.modern {
			req.Header.Set("Sec-Fetch-Dest", dest)
		}
		if g.cookie != "" {
			req.Header.Set("Cookie", "relman="+g.cookie)
		}
		resp, err := g.client.Do(req)
		if err == nil {
			body, err = io.ReadAll(resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		if ctx.Err() != nil {
			return 0, nil, nil, false
		}
		if err != nil {
			g.counts.cut.Add(1)
			continue
		}
		g.counts.responses.Add(1)
		return resp.StatusCode, resp.Header, body, true
	}
	g.counts.note(&g.counts.bad, "%s: no whole answer in 20 tries", path)
	return 0, nil, nil, false
}

var ofBuild = regexp.MustCompile(`^build (\d+) (\S+)\n`)

// judge says which build a body is of, and whether it is that to the byte.
func (g *guest) judge(path string, body []byte) (n int, ok bool) {
	m := ofBuild.FindSubmatch(body)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil && string(m[2]) == path && bytes.Equal(body, pageContent(n, path))
}

var hrefs = regexp.MustCompile(`<a href="/([^"]+)">`)

// load loads a page.
func (g *guest) load(ctx context.Context) {
	path := pagePath(rand.IntN(pagesPerBuild))
	code, head, body, ok := g.get(ctx, path, "document")
	if !ok {
		return
	}
	if code != http.StatusOK {
		g.counts.note(&g.counts.bad, "%s: %d %.80q", path, code, body)
		return
	}
	n, right := g.judge(path, body)
	if !right {
		g.counts.note(&g.counts.wrong, "%s: %.80q", path, body)
		return
	}
	g.counts.pages.Add(1)
	g.saw = append(g.saw, n)
	g.pin(path, head)
	var wg sync.WaitGroup
	var mixed atomic.Int64
	for _, m := range hrefs.FindAllSubmatch(body, -1) {
		wg.Go(func() { g.asset(ctx, n, string(m[1]), &mixed) })
	}
	wg.Wait()
	if m := mixed.Load(); m > 0 {
		g.counts.note(&g.counts.mixed, "%s of build %d (release %s, epoch %s, pin %s) with %d assets of others", path, n,
			head.Get("Relman-Release"), head.Get("Relman-Epoch"), g.cookie, m)
	}
}

// pin takes the cookie of a page. Its epoch never goes back.
func (g *guest) pin(path string, head http.Header) {
	if head.Get("Relman-Epoch") == "" { // another web server: it knows no epochs
		if value, ok := strings.CutPrefix(head.Get("Set-Cookie"), "relman="); ok && g.cookies {
			g.cookie, _, _ = strings.Cut(value, ";")
		}
		return
	}
	epoch, err := strconv.ParseUint(head.Get("Relman-Epoch"), 10, 64)
	if set := head.Get("Set-Cookie"); set != "" {
		value, _, _ := strings.Cut(strings.TrimPrefix(set, "relman="), ";")
		first, _, _ := strings.Cut(value, ".")
		first, _, _ = strings.Cut(first, "-") // a lot
		epoch, err = strconv.ParseUint(first, 10, 64)
		if g.cookies {
			g.cookie = value
		}
	} else if g.cookie != "" && strings.Contains(g.cookie, "."+head.Get("Relman-Release")+".") {
		epoch = g.epoch // of the release that he is pinned to, from a node that is behind
	}
	if err != nil || epoch < g.epoch {
		g.counts.note(&g.counts.back, "%s: epoch %d after %d: %v", path, epoch, g.epoch, err)
	}
	g.epoch = max(g.epoch, epoch)
}

func (g *guest) asset(ctx context.Context, page int, path string, mixed *atomic.Int64) {
	dest := map[string]string{".css": "style", ".js": "script", ".svg": "image", ".woff2": "font"}[filepath.Ext(path)]
	if dest == "" {
		dest = "empty"
	}
	code, head, body, ok := g.get(ctx, path, dest)
	hashed := strings.HasPrefix(path, "assets/")
	switch n, right := g.judge(path, body); {
	case !ok:
	case code == http.StatusNotFound && hashed:
		g.counts.note(&g.counts.hashedMissing, "%s of build %d: 404 from release %s, epoch %s", path, page, head.Get("Relman-Release"), head.Get("Relman-Epoch"))
	case code == http.StatusNotFound:
		g.counts.note(&g.counts.plainMissing, "%s of build %d: 404", path, page)
	case code != http.StatusOK:
		g.counts.note(&g.counts.bad, "%s: %d %.80q", path, code, body)
	case !right:
		g.counts.note(&g.counts.wrong, "%s: %.80q", path, body)
	case n != page:
		mixed.Add(1)
	}
}

// crowd are guests who load pages until enough responses have come.
func crowd(ctx context.Context, base string, with, without int, enough int64) (pinned, bare *pageCounts) {
	pinned, bare = &pageCounts{}, &pageCounts{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: 4 * (with + without), DisableCompression: true}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range with + without {
		g := &guest{base: base, cookies: i < with, modern: i%2 == 0, counts: pinned, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
		if !g.cookies {
			g.counts = bare
		}
		wg.Go(func() {
			for pinned.responses.Load()+bare.responses.Load() < enough && ctx.Err() == nil {
				g.load(ctx)
			}
		})
	}
	wg.Wait()
	return pinned, bare
}

// faults lists the counts that should be 0 and are not.
func (c *pageCounts) faults() []string {
	var f []string
	for name, n := range map[string]*atomic.Int64{
		"mixed pages": &c.mixed, "hashed assets missing": &c.hashedMissing, "other assets missing": &c.plainMissing,
		"steps back in time": &c.back, "wrong bytes": &c.wrong, "other answers than 200": &c.bad,
	} {
		if v := n.Load(); v > 0 {
			f = append(f, fmt.Sprintf("%s: %d", name, v))
		}
	}
	slices.Sort(f)
	return f
}
