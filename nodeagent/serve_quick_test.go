package nodeagent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// quickly serves a Server on a port, and counts what net/http had to answer.
type quickly struct {
	t     testing.TB
	addr  string
	slow  atomic.Int64
	conns chan net.Conn // accepted, the first of them
	stop  func(context.Context) error
}

// watched tells of the connections that it accepts, as far as there is room.
type watched struct {
	net.Listener
	conns chan net.Conn
}

func (l watched) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		select {
		case l.conns <- c:
		default:
		}
	}
	return c, err
}

// serveQuickly serves s, with quick answers or without.
func serveQuickly(t testing.TB, s *Server, quick bool, header, idle time.Duration) *quickly {
	t.Helper()
	return serveQuicklyOn(t, listenDeferred(t, 0), s, quick, header, idle)
}

// listenDeferred listens as relman does: connections come with their first
// request. Their buffers for sending have some bytes, 0 for as many as usual.
func listenDeferred(t testing.TB, buffer int) net.Listener {
	t.Helper()
	c := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, 1)
			if buffer > 0 {
				err = errors.Join(err, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, buffer))
			}
		}), err)
	}}
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serveQuicklyOn(t testing.TB, l net.Listener, s *Server, quick bool, header, idle time.Duration) *quickly {
	t.Helper()
	q := &quickly{t: t, addr: l.Addr().String(), conns: make(chan net.Conn, 16)}
	server := &http.Server{ReadHeaderTimeout: header, IdleTimeout: idle, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.slow.Add(1)
		s.ServeHTTP(w, r)
	})}
	var open sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	ended := make(chan error, 1)
	if quick {
		l, ended = s.Quicken(server, l), make(chan error, 2)
	}
	l = watched{l, q.conns}
	for range cap(ended) {
		go func() { ended <- server.Serve(l) }()
	}
	q.stop = server.Shutdown
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		for range cap(ended) {
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}
		open.Wait()
	})
	return q
}

// say sends bytes on a connection of their own, and returns all that comes back,
// without dates. reset: the server closed before it had read all.
func (q *quickly) say(raw string) (said string, reset bool) {
	q.t.Helper()
	c := q.dial()
	defer c.Close()
	if _, err := io.WriteString(c, raw); err != nil {
		return "", true
	}
	if err := c.CloseWrite(); err != nil {
		return "", true
	}
	b, err := io.ReadAll(c)
	if errors.Is(err, syscall.ECONNRESET) {
		return "", true
	}
	if err != nil {
		q.t.Fatalf("%q: %v after %q", raw, err, b)
	}
	var out []string
	for line := range strings.SplitSeq(string(b), "\r\n") {
		if !strings.HasPrefix(line, "Date: ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\r\n"), false
}

func (q *quickly) dial() *net.TCPConn {
	q.t.Helper()
	c, err := net.Dial("tcp", q.addr)
	if err != nil {
		q.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		q.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// quickSite is a site as new sites are, with variants of the page and the script,
// a _headers file, and something too large to be kept.
func quickSite(t testing.TB) (*workshop, []*Release) {
	t.Helper()
	w := openWorkshop(t, t.TempDir())
	var rs []*Release
	for seq := range 2 {
		rs = append(rs, testRelease(t, www, uint64(seq+1), map[string]string{
			"page.html": prose(uint64(seq), 3000), "app.3f9ac1d2.js": prose(7, 9000), "large.bin": strings.Repeat("x", mostSmall+1),
			"empty.txt": "", "dir/index.html": "<h1>dir</h1>", "404.html": "<h1>none</h1>", "odd name.txt": "odd",
			"_headers":   "/page.html\n  X-Robots-Tag: noindex\n  Set-Cookie: a=b\n/*\n  Cache-Control: no-transform\n",
			"_redirects": "/old /page.html 301\n/shown /page.html 200\n",
		}))
	}
	w.show(rs[1], rs[0])
	w.front.Serve(cluster.DefaultServing(), testSecret)
	w.front.Hold(rs, nil)
	w.front.SetConfirmed(true)
	w.pass()
	return w, rs
}

// forget forgets the connections that net/http has had.
func (q *quickly) forget() {
	for len(q.conns) > 0 {
		<-q.conns
	}
}

func (q *quickly) warm(paths ...string) {
	q.t.Helper()
	for _, path := range paths {
		for _, accept := range []string{"", "gzip", "zstd"} {
			q.say("GET " + path + " HTTP/1.1\r\nHost: www.localhost\r\nAccept-Encoding: " + accept + "\r\nConnection: close\r\n\r\n")
		}
	}
}

func request(path string, fields ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: www.localhost\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
}

// TestQuicken: with quick answers a client gets, but for the date, the bytes that
// it gets without, whatever it sends.
func TestQuicken(t *testing.T) {
	w, rs := quickSite(t)
	quick, plain := serveQuickly(t, w.server, true, time.Minute, time.Minute), serveQuickly(t, w.server, false, time.Minute, time.Minute)
	h := w.front.holdings.Load()
	quick.warm("/page.html", "/app.3f9ac1d2.js", "/large.bin", "/dir/", "/empty.txt")
	etag := `"` + etagOf(t, rs[1], "page.html") + `"`
	page := request("/page.html")
	for _, c := range []struct {
		name, raw string
		slow      int64 // requests that net/http answers
	}{
		{"a page", page, 0},
		{"the only request of a connection", request("/page.html", "Connection: close"), 0},
		{"close, in capitals", request("/page.html", "CONNECTION: Close"), 0},
		{"keep-alive", request("/page.html", "Connection: keep-alive"), 0},
		{"a script", request("/app.3f9ac1d2.js", "Accept: */*", "User-Agent: curl/8", "Sec-Fetch-Dest: script"), 0},
		{"a directory", request("/dir/"), 0},
		{"nothing in it", request("/empty.txt"), 0},
		{"gzip", request("/page.html", "Accept-Encoding: gzip, deflate"), 0},
		{"zstd", request("/app.3f9ac1d2.js", "accept-encoding: br;q=0.1, zstd"), 0},
		{"gzip that is not wanted", request("/page.html", "Accept-Encoding: gzip;q=0"), 0},
		{"a query", request("/page.html?v=1"), 0},
		{"three at once", page + page + request("/app.3f9ac1d2.js"), 0},
		{"none after the last", request("/page.html", "Connection: close") + page, 0},
		{"the same ETag", request("/page.html", "If-None-Match: "+etag), 0},
		{"the same ETag, and a time", request("/page.html", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT", "If-None-Match: "+etag), 0},
		{"another ETag", request("/page.html", `If-None-Match: "x"`), 0},
		{"no ETag", request("/page.html", "If-None-Match:"), 0},
		{"an ETag for gzip", request("/page.html", "Accept-Encoding: gzip", "If-None-Match: "+strings.TrimSuffix(etag, `"`)+`-gzip"`), 0},
		{"a pin to what is shown", request("/page.html", "Cookie: a=b; relman="+h.pin), 0},
		{"other cookies", request("/page.html", "Cookie: xrelman=1; a=b"), 0},
		{"another host", "GET /page.html HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0},

		{"large", request("/large.bin"), 1},
		{"a redirect", request("/old"), 1},
		{"a page under another address", request("/shown"), 1},
		{"missing", request("/none"), 1},
		{"missing, a part", request("/none.js"), 1},
		{"no time", request("/page.html", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"), 1},
		{"no time and no ETag", request("/page.html", "If-None-Match:", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"), 1},
		{"a weak ETag", request("/page.html", "If-None-Match: W/"+etag), 1},
		{"two ETags", request("/page.html", `If-None-Match: "x", `+etag), 1},
		{"two fields of ETags", request("/page.html", `If-None-Match: "x"`, "If-None-Match: "+etag), 1},
		{"any ETag", request("/page.html", "If-None-Match: *"), 1},
		{"an ETag that has to be", request("/page.html", `If-Match: "x"`), 1},
		{"a time that has to be", request("/page.html", "If-Unmodified-Since: Tue, 14 Nov 2017 22:13:20 GMT"), 1},
		{"a range", request("/page.html", "Range: bytes=4-7"), 1},
		{"a range, if", request("/page.html", "Range: bytes=4-7", "If-Range: "+etag), 1},
		{"a pin to another release", request("/app.3f9ac1d2.js", "Cookie: relman="+h.pinTo(1, rs[0])), 1},
		{"a pin in a second cookie", request("/page.html", "Cookie: a=b", "Cookie: relman="+h.pinTo(1, rs[0])), 1},
		{"a wrong pin", request("/page.html", "Cookie: relman=1.x.y"), 1},
		{"a pin in a header", request("/page.html", "Relman-Pin: "+h.pinTo(1, rs[0])), 1},
		{"a pin in the path", request("/_r/" + h.pinTo(1, rs[0]) + "/page.html"), 1},
		{"a preview", request("/page.html?relman-preview=off"), 1},
		{"the head of it", "HEAD /page.html HTTP/1.1\r\nHost: www.localhost\r\n\r\n", 1},
		{"encoded", request("/%70age.html"), 1},
		{"a space", request("/odd%20name.txt"), 1},
		{"HTTP/1.0", "GET /page.html HTTP/1.0\r\nHost: www.localhost\r\n\r\n", 1},
		{"an absolute address", "GET http://www.localhost/page.html HTTP/1.1\r\nHost: www.localhost\r\n\r\n", 1},
		{"lines that end otherwise", "GET /page.html HTTP/1.1\nHost: www.localhost\n\n", 1},
		{"one line that ends otherwise", "GET /page.html HTTP/1.1\r\nHost: www.localhost\n\r\n", 1},
		{"another method", "OPTIONS * HTTP/1.1\r\nHost: www.localhost\r\n\r\n", 0}, // net/http does it without a handler
		{"POST", "POST /page.html HTTP/1.1\r\nHost: www.localhost\r\nContent-Length: 4\r\n\r\nbody" + page, 2},
		{"a body", request("/page.html", "Content-Length: 4") + "body" + page, 2},
		{"a body in chunks", request("/page.html", "Transfer-Encoding: chunked") + "4\r\nbody\r\n0\r\n\r\n" + page, 2},
		{"a body that is a request", request("/page.html", "Transfer-Encoding: chunked", "Content-Length: 3") + "0\r\n\r\n" + page, 2},
		{"expectations", request("/page.html", "Expect: 100-continue"), 1},
		{"an upgrade", request("/page.html", "Upgrade: h2c", "Connection: Upgrade"), 1},
		{"connections of several words", request("/page.html", "Connection: keep-alive, close"), 1},
		{"what is slow and what is not", request("/none") + page, 2},
		{"what is not and what is slow", page + request("/none") + page, 2},
		{"two hosts", request("/page.html", "Host: other"), 0},
		{"no host", "GET /page.html HTTP/1.1\r\n\r\n", 0},
		{"an empty host", "GET /page.html HTTP/1.1\r\nHost:\r\n\r\n", 1},
		{"an impossible host", "GET /page.html HTTP/1.1\r\nHost: a b\r\n\r\n", 0},
		{"no version", "GET /page.html\r\n\r\n", 0},
		{"a folded field", request("/page.html", "A: b", " c"), 1},
		{"a name with a space", request("/page.html", "A : b"), 0},
		{"no name", request("/page.html", ": b"), 0},
		{"no colon", request("/page.html", "A"), 0},
		{"a control character", request("/page.html", "A: b\x01"), 0},
		{"two spaces", "GET  /page.html HTTP/1.1\r\nHost: www.localhost\r\n\r\n", 0},
		{"not ASCII", request("/pagé.html"), 1},
		{"no request", "\x16\x03\x01\x02\x00", 0},
		{"half a request", page[:20], 0},
		{"a request and a half", page + page[:20], 0},
		{"a long field", request("/page.html", "Referer: "+strings.Repeat("r", 5000)), 1},
		{"nothing", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			quick.slow.Store(0)
			got, reset := quick.say(c.raw)
			want, wantReset := plain.say(c.raw)
			if got != want && !reset && !wantReset {
				t.Errorf("quick: %.900q\nplain: %.900q", got, want)
			}
			if n := quick.slow.Load(); n != c.slow {
				t.Errorf("net/http answered %d of it, not %d", n, c.slow)
			}
		})
	}
}

// FuzzQuicken is TestQuicken with whatever else there is.
func FuzzQuicken(f *testing.F) {
	w, rs := quickSite(f)
	quick, plain := serveQuickly(f, w.server, true, time.Minute, time.Minute), serveQuickly(f, w.server, false, time.Minute, time.Minute)
	quick.warm("/page.html", "/app.3f9ac1d2.js", "/dir/")
	etag := `"` + etagOf(f, rs[1], "page.html") + `"`
	for _, seed := range []string{
		request("/page.html"), request("/page.html", "Accept-Encoding: gzip", "Connection: close"), request("/page.html", "If-None-Match: "+etag),
		request("/page.html", "Range: bytes=0-5") + request("/dir/"), request("/dir/", "Content-Length: 3") + "abc", request("/dir/") + request("/dir/"),
		"HEAD /dir/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /dir/ HTTP/1.0\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 3000 { // what is not read when the server closes has the answer thrown away
			return
		}
		quick.t, plain.t = t, t
		got, reset := quick.say(string(raw))
		want, wantReset := plain.say(string(raw))
		if got != want && !reset && !wantReset {
			t.Errorf("%q\nquick: %.900q … %q\nplain: %.900q … %q", raw, got, got[max(0, len(got)-200):], want, want[max(0, len(want)-200):])
		}
	})
}

// talk is one connection on which requests follow each other.
type talk struct {
	t testing.TB
	q *quickly
	c *net.TCPConn
	r *bufio.Reader
}

func (q *quickly) talk() *talk {
	c := q.dial()
	q.t.Cleanup(func() { _ = c.Close() })
	return &talk{q.t, q, c, bufio.NewReader(c)}
}

func (k *talk) send(raw string) {
	k.t.Helper()
	if _, err := io.WriteString(k.c, raw); err != nil {
		k.t.Fatal(err)
	}
}

// reply is an answer.
type reply struct {
	code int
	head http.Header
	body string
	last bool // of the connection
	slow bool // net/http gave it
}

func (k *talk) answer() reply {
	k.t.Helper()
	resp, err := http.ReadResponse(k.r, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(raw), resp.Close, k.q.slow.Swap(0) > 0}
}

func (k *talk) ask(path string, fields ...string) reply {
	k.t.Helper()
	k.send(request(path, fields...))
	return k.answer()
}

// TestQuicken_connection: net/http and quick answers take turns on a connection,
// whatever the pieces in which requests come.
func TestQuicken_connection(t *testing.T) {
	w, _ := quickSite(t)
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	q.warm("/page.html")
	k := q.talk()
	q.slow.Store(0)
	for range 3 {
		if !k.ask("/none").slow {
			t.Error("what is missing came quickly")
		}
		first := k.ask("/page.html", "Range: bytes=0-9")
		if all := k.ask("/page.html"); all.slow || all.body[:10] != first.body || all.code != 200 {
			t.Errorf("%d %.20q, slow %v", all.code, all.body, all.slow)
		}
		for _, piece := range strings.SplitAfter(request("/page.html", "A: b"), "\n") {
			k.send(piece)
			time.Sleep(2 * time.Millisecond) // so that most arrive one by one; it has to work in any case
		}
		if k.answer().slow {
			t.Error("a request in pieces was slow")
		}
	}
	k.ask("/page.html", "Content-Length: 0")
	if !k.ask("/page.html").slow {
		t.Error("quick after a request that may have had a body")
	}
}

// TestQuicken_times: whoever says nothing between requests has idle, whoever has
// begun to say something has header, as with net/http alone.
func TestQuicken_times(t *testing.T) {
	const short, long = 300 * time.Millisecond, time.Minute
	w, _ := quickSite(t)
	ends := func(k *talk, within time.Duration) bool {
		if err := k.c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err := k.r.ReadByte()
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	for _, c := range []struct {
		name         string
		header, idle time.Duration
		after        []string // whole requests
		say          string
		ends         bool
	}{
		{"a head that does not end", short, long, nil, "GET /page.html HTTP/1.1\r\nHost: a\r\n", true},
		{"the second one", short, long, []string{"/page.html"}, "GET /page.html HTTP/1.1\r\nHost: a\r\n", true},
		{"after net/http", short, long, []string{"/page.html", "/none"}, "GET /page.html HTTP/1.1\r\nHost: a\r\n", true},
		{"one for net/http", short, long, []string{"/page.html"}, "POST /page.html HTTP/1.1\r\nHost: a\r\n", true},
		{"nothing, at first", short, long, nil, "", true},
		{"nothing, after a request", short, long, []string{"/page.html"}, "", false},
		{"nothing, after net/http", short, long, []string{"/page.html", "/none"}, "", false},
		{"nothing for too long", long, short, []string{"/page.html"}, "", true},
		{"nothing for too long, after both", long, short, []string{"/none", "/page.html"}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q := serveQuickly(t, w.server, true, c.header, c.idle)
			q.warm("/page.html")
			k := q.talk()
			for _, path := range c.after {
				k.ask(path)
			}
			k.send(c.say)
			within := 3 * short
			if c.ends {
				within = 10 * time.Second
			}
			if ended := ends(k, within); ended != c.ends {
				t.Errorf("ended within %v: %v", within, ended)
			}
		})
	}
}

// TestQuicken_closedWhileBusy: a server that stops closes the connections that are
// idle, as far as it knows. An answer that is on its way is finished.
func TestQuicken_closedWhileBusy(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	body := noise(mostSmall)
	w.show(testRelease(t, www, 1, map[string]string{"page.html": body}))
	w.front.SetConfirmed(true)
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	q.warm("/page.html")
	q.forget()
	k := q.talk()
	c := (<-q.conns).(*quickConn)
	if err := errors.Join(c.SetWriteBuffer(64<<10), k.c.SetReadBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
	const many = 60 // more than what the buffers take, and read at once
	k.send(strings.Repeat(request("/page.html"), many))
	stuck := time.Now()
	w.until("busy", func() bool { // for so long that it waits for the client
		if c.state.Load() != quickBusy {
			stuck = time.Now()
		}
		return time.Since(stuck) > 100*time.Millisecond
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	n := 0
	for ; ; n++ {
		resp, err := http.ReadResponse(k.r, nil)
		if err != nil {
			break
		}
		got, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || string(got) != body {
			t.Fatalf("answer %d was cut off after %d bytes: %v", n, len(got), err)
		}
	}
	if n == 0 || n == many {
		t.Errorf("%d answers", n)
	}
	if state := c.state.Load(); state != quickClosed {
		t.Errorf("state %d", state)
	}
}

// TestQuicken_only: net/http does not hear of a connection whose only request is
// answered quickly, but where the answer cannot be sent at once, or the request
// does not come at once.
func TestQuicken_only(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	w.show(testRelease(t, www, 1, map[string]string{"small.html": prose(1, 500), "large.html": noise(mostSmall)}))
	w.front.SetConfirmed(true)
	q := serveQuicklyOn(t, listenDeferred(t, 1), w.server, true, time.Minute, time.Minute)
	q.warm("/small.html", "/large.html")
	last := func(path string) string { return request(path, "Connection: close") }
	for _, c := range []struct {
		name, raw string
		size      int
		heard     bool // by net/http of the connection
		slow      bool
	}{
		{"small", last("/small.html"), 500, false, false},
		{"more than the buffer", last("/large.html"), mostSmall, true, false},
		{"not the last", request("/small.html"), 500, true, false},
		{"not known", last("/none"), 0, true, true},
	} {
		q.forget()
		q.slow.Store(0)
		k := q.talk()
		k.send(c.raw)
		r := k.answer()
		if c.size > 0 && (r.code != 200 || len(r.body) != c.size) || r.slow != c.slow {
			t.Errorf("%s: %d with %d bytes, slow %v", c.name, r.code, len(r.body), r.slow)
		}
		if heard := len(q.conns) > 0; heard != c.heard {
			t.Errorf("%s: net/http has heard of it: %v", c.name, heard)
		}
		if c.name == "not the last" {
			continue
		}
		if _, err := k.r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: not closed: %v", c.name, err)
		}
	}
}

// TestQuicken_shutdown: what is asked for while the server stops is answered, and
// is the last.
func TestQuicken_shutdown(t *testing.T) {
	w, _ := quickSite(t)
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	q.warm("/page.html")
	k := q.talk()
	k.ask("/page.html")
	stopped := make(chan error, 1)
	go func() { stopped <- q.stop(t.Context()) }()
	w.until("stopping", func() bool {
		_, err := net.Dial("tcp", q.addr)
		return err != nil
	})
	// A new connection counts as idle after five seconds only.
	if r := k.ask("/page.html"); r.code != 200 || len(r.body) != 3000 || r.slow || !r.last {
		t.Errorf("%d, %d bytes, slow %v, the last %v", r.code, len(r.body), r.slow, r.last)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestQuicken_follows: an answer is only given for as long as it is right.
func TestQuicken_follows(t *testing.T) {
	w, rs := quickSite(t)
	etcd := newFakeEtcd()
	w.front.gate = &gate{reg: etcd, policy: Stop, fence: time.Hour}
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	k := q.talk()
	page := filepath.Join(rs[1].root.Name(), "page.html")
	for _, c := range []struct {
		name   string
		change func() error
		code   int
		state  string
		slow   bool // whenever it is asked for
	}{
		{"nothing", func() error { return nil }, 200, "", false},
		{"the file goes", func() error { return os.Rename(page, page+".gone") }, 500, "", true},
		{"it comes back", func() error { return os.Rename(page+".gone", page) }, 200, "", false},
		{"another mode", func() error { return os.Chmod(page, 0o600) }, 500, "", true},
		{"the mode it had", func() error { return os.Chmod(page, 0o444) }, 200, "", false},
		{"another name of it", func() error { return os.Link(page, page+".link") }, 200, "", false},
		{"not confirmed", func() error { w.front.SetConfirmed(false); return nil }, 200, "unconfirmed", true},
		{"confirmed", func() error { w.front.SetConfirmed(true); return nil }, 200, "", false},
		{"cut off", func() error { etcd.silence(2 * time.Hour); return nil }, 503, "", true},
		{"not cut off", func() error { etcd.silence(0); return nil }, 200, "", false},
		{"a flip", func() error { w.front.Show(rs[0], 9); return nil }, 200, "", false},
		{"a flip back", func() error { w.front.Show(rs[1], 10); return nil }, 200, "", false},
		{"served in another way", func() error {
			w.front.Serve(cluster.Serving{Pin: cluster.PinOff, CleanURLs: true, Slash: cluster.SlashAuto}, testSecret)
			return nil
		}, 308, "", true},
		{"nothing is shown", func() error { w.front.Show(nil, 0); return nil }, 503, "", true},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		var bodies [3]string
		for i := range bodies {
			r := k.ask("/page.html")
			if r.code != c.code || r.head.Get("Relman-State") != c.state {
				t.Errorf("%s: %d, state %q", c.name, r.code, r.head.Get("Relman-State"))
			}
			if id, _ := w.front.Shown(); c.code == 200 && r.head.Get("Relman-Release") != string(id) {
				t.Errorf("%s: release %s", c.name, r.head.Get("Relman-Release"))
			}
			if i > 0 && r.slow != c.slow {
				t.Errorf("%s: net/http answers %v", c.name, r.slow)
			}
			bodies[i] = r.body
		}
		if bodies[0] != bodies[1] || bodies[1] != bodies[2] {
			t.Errorf("%s: bodies %.40q", c.name, bodies)
		}
	}
}

// silence is for how long nothing has been heard of it; 0: it answers.
func (e *fakeEtcd) silence(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down, e.contact = d > 0, cluster.Boottime()-d
}

// TestQuicken_variants: a variant is sent as soon as it is there, and no more when
// it is not.
func TestQuicken_variants(t *testing.T) {
	w := openWorkshop(t, t.TempDir())
	r := testRelease(t, www, 1, map[string]string{"page.html": prose(1, 5000)})
	w.show(r)
	w.front.SetConfirmed(true)
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	k := q.talk()
	coding := func() (string, bool) {
		r := k.ask("/page.html", "Accept-Encoding: gzip")
		return r.head.Get("Content-Encoding"), r.slow
	}
	for _, c := range []struct {
		change func()
		want   string
	}{{func() {}, ""}, {w.pass, "gzip"}, {func() { w.hold(nil); w.pass() }, ""}, {func() { w.hold([]*Release{r}); w.pass() }, "gzip"}} {
		c.change()
		coding()
		if got, slow := coding(); got != c.want || slow {
			t.Errorf("coding %q, not %q; slow %v", got, c.want, slow)
		}
	}
}

// TestRelease_rotten: a file that differs in nothing but its bytes is found when it
// is read into memory.
func TestRelease_rotten(t *testing.T) {
	w, rs := quickSite(t)
	name := filepath.Join(rs[1].root.Name(), "page.html")
	info, err := os.Stat(name)
	must(t, err)
	rewrite(t, name, func(b []byte) []byte { b[9] ^= 1; return b })
	must(t, os.Chtimes(name, info.ModTime(), info.ModTime()))
	if r := ask(w.server, "GET", "/page.html"); r.Code != 500 || !rs[1].suspect.Load() {
		t.Errorf("%d, suspect %v", r.Code, rs[1].suspect.Load())
	}
	// A variant that is rotten is not sent, and made anew.
	variant := w.of(prose(7, 9000), zstandard)
	rewrite(t, variant, func(b []byte) []byte { b[9] ^= 1; return b })
	if r := ask(w.server, "GET", "/app.3f9ac1d2.js", "Accept-Encoding", "zstd"); r.Code != 200 || r.Header().Get("Content-Encoding") != "" || r.Body.String() != prose(7, 9000) {
		t.Errorf("%d %q", r.Code, r.Header())
	}
	w.pass()
	if r := ask(w.server, "GET", "/app.3f9ac1d2.js", "Accept-Encoding", "zstd"); r.Header().Get("Content-Encoding") != "zstd" {
		t.Errorf("not made anew: %q", r.Header())
	}
}

// TestAnswers_bound: what is kept stays within its bound, and makes use of it.
func TestAnswers_bound(t *testing.T) {
	const most = 100_000
	a := &answers{}
	check := func() (sum int64) {
		for _, known := range a.paths {
			for i := range known.as {
				sum += known.as[i].Load().size()
			}
		}
		return sum
	}
	for i := range 2000 {
		path := fmt.Sprintf("/%d", i%300)
		one := &answer{choice: noVariant, body: bytes.Repeat([]byte{1}, 100*(i%90))}
		if i%3 == 0 {
			one.choice = variant{coding: coding(i % int(codingCount)), made: made{size: 1}}
		}
		a.keep(path, release.File{Path: path[1:]}, one, most)
		if a.bytes > most || a.bytes != check() {
			t.Fatalf("%d bytes are kept, in truth %d", a.bytes, check())
		}
	}
	if len(a.paths) < 10 {
		t.Errorf("%d paths", len(a.paths))
	}
}

// TestQuicken_counts: quick answers are counted as others are.
func TestQuicken_counts(t *testing.T) {
	w, rs := quickSite(t)
	q := serveQuickly(t, w.server, true, time.Minute, time.Minute)
	k := q.talk()
	etag := `"` + etagOf(t, rs[1], "page.html") + `"`
	count := func() [3]uint64 {
		tr := &w.front.traffic
		return [3]uint64{tr.requests[2].Load(), tr.requests[3].Load(), tr.bytes.Load()}
	}
	k.ask("/page.html")
	page := k.ask("/page.html")
	k.ask("/page.html", "If-None-Match: "+etag)
	want := [3]uint64{2, 1, 2 * uint64(len(page.body))}
	w.until("counted", func() bool { return count() == want })
	if page.slow {
		t.Error("nothing was quick")
	}
}

// TestQuicken_finish: a server that has been shut down still waits for the answers
// that net/http does not know of.
func TestQuicken_finish(t *testing.T) {
	big := strings.Repeat("x", 60<<10)
	f := NewFront("www")
	f.Serve(cluster.DefaultServing(), testSecret)
	f.SetConfirmed(true)
	f.Show(testRelease(t, "www", 1, map[string]string{"index.html": "one", "big.txt": big}), 4)
	s := NewServer(nil)
	s.Add(f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	q, is := s.Quicken(srv, l).(*quickListener)
	if !is {
		t.Fatal("it is another listener")
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(q) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get := "GET /big.txt HTTP/1.1\r\nHost: x\r\n\r\n"
	read := bufio.NewReaderSize(c, 4096)
	answer := func() error {
		r, err := http.ReadResponse(read, nil)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(big)) {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
		return nil
	}
	if _, err := io.WriteString(c, get); err != nil { // first, so that it is in memory
		t.Fatal(err)
	}
	if err := answer(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, strings.Repeat(get, 300)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); q.busy.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no answer is on its way")
		}
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Finish(over); err == nil {
		t.Error("nobody reads, and all is sent")
	}
	finished := make(chan error, 1)
	go func() { finished <- q.Finish(t.Context()) }()
	n := 0
	for err = answer(); err == nil; err = answer() {
		n++
	}
	if n == 0 { // how many more does not matter: questions that it does not read end it
		t.Errorf("no whole answer, %v", err)
	}
	if err := <-finished; err != nil {
		t.Error(err)
	}
}
