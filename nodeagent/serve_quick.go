package nodeagent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Quicken has an http.Server that serves s answer from memory what is there,
// before it has seen the request: what net/http does for each costs more than all
// of such an answer. It returns the listener for that server.
//
// Whatever is not the plainest of requests for something that is in memory goes
// to the server, byte for byte as it came. So there is one implementation of HTTP,
// and this is only a shorter way around it.
func (s *Server) Quicken(to *http.Server, l net.Listener) net.Listener {
	q := &quickListener{Listener: l, server: s, idle: to.IdleTimeout, header: to.ReadHeaderTimeout}
	before := to.ConnState
	to.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*quickConn); ok && state == http.StateIdle {
			c.between = !c.off
		}
		if before != nil {
			before(c, state)
		}
	}
	to.RegisterOnShutdown(func() { q.stops.Store(true) })
	return q
}

// quickListener accepts connections on which a Server answers quickly.
type quickListener struct {
	net.Listener
	server *Server
	idle   time.Duration // how long a connection may say nothing
	header time.Duration // how long the head of a request may take
	stops  atomic.Bool
	second atomic.Pointer[second]
}

// Accept is net.Listener.
func (l *quickListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	tcp, ok := c.(*net.TCPConn)
	if err != nil || !ok {
		return c, err
	}
	return &quickConn{TCPConn: tcp, l: l, between: true}, nil
}

// second is how heads end within one second.
type second struct {
	unix int64
	end  [2][]byte // 1: the connection ends, too
}

// end is how a head ends.
func (l *quickListener) end(now time.Time, last bool) []byte {
	s := l.second.Load()
	if s == nil || s.unix != now.Unix() {
		date := "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"
		s = &second{now.Unix(), [2][]byte{[]byte(date + "\r\n"), []byte(date + "Connection: close\r\n\r\n")}}
		l.second.Store(s)
	}
	if last {
		return s.end[1]
	}
	return s.end[0]
}

// quickConn is a connection of which net/http sees only those requests that are
// not answered here. Between two requests net/http waits for bytes; what comes
// then is looked at first, and answered if it can be, and net/http waits on.
type quickConn struct {
	*net.TCPConn
	l *quickListener

	// These belong to who reads. Of net/http that is one at a time.
	between bool        // net/http has answered the requests that it has had
	off     bool        // it has had more, or less, than whole requests: it has all that follows
	set     time.Time   // when the time for reading was set here; zero: by net/http
	host    string      // of the last request, and what it accepted: mostly it is the same
	accept  string      // in the next one
	pieces  net.Buffers // of an answer
	three   [3][]byte   // behind that

	state atomic.Int32 // who may close
}

// The states of a quickConn. One that is closed while an answer is on its way is
// closed behind that: a server that stops closes what is idle, and does not know.
const (
	quickIdle int32 = iota
	quickBusy
	quickLast // busy, to be closed
	quickClosed
)

// Read is net.Conn.
func (c *quickConn) Read(p []byte) (int, error) {
	switch {
	case c.off:
		return c.TCPConn.Read(p)
	case !c.between:
		return 0, c.gone()
	}
	for n, part, answered := 0, false, false; ; {
		m, err := c.TCPConn.Read(p[n:])
		n += m
		for n > 0 && err == nil {
			q := parseQuick(p[:n])
			if q.partial && n < len(p) || answered && n < least {
				break
			}
			ok, ends := c.answer(&q)
			if ends != nil {
				return 0, ends
			}
			if !ok {
				return c.pass(n, q.whole && q.size == n), nil
			}
			n, part, answered = copy(p, p[q.size:n]), false, true
		}
		switch {
		case err != nil && (n == 0 || answered && n < least):
			return 0, err
		case err != nil:
			return c.pass(n, false), nil // the next read has the same error
		case n > 0 && !part:
			part = true
			c.limit(time.Now().Add(-setEvery), c.l.header+setEvery)
		}
	}
}

// gone waits until the client is gone, or the time for reading is over: net/http
// wants to know while it answers. The next request may be there already, which
// is not for that eye.
func (c *quickConn) gone() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var b [1]byte
	ends := io.EOF
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case n > 0, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return false
		case err != nil:
			ends = err
		}
		return true
	})
	if err != nil {
		return err
	}
	return ends
}

// pass gives what was read to net/http.
func (c *quickConn) pass(n int, whole bool) int {
	c.between, c.off = false, !whole
	if !c.set.IsZero() { // it believes in a time of its own, which is over
		c.limit(time.Now(), c.l.header)
		c.set = time.Time{}
	}
	return n
}

// limit says how long the next bytes may take from now on.
func (c *quickConn) limit(now time.Time, d time.Duration) {
	if c.set = now; d > 0 {
		_ = c.SetReadDeadline(now.Add(d)) // fails when it is closed, as the next read does
	}
}

// least is how many bytes net/http waits for between two requests. It lets go of
// fewer without a word.
const least = 4

// setEvery is how often the time for reading is set anew while requests come.
const setEvery = time.Second

// answer answers a request if that can be done quickly. An error ends the
// connection.
func (c *quickConn) answer(q *quickRequest) (bool, error) {
	if !q.plain {
		return false, nil
	}
	if c.host != string(q.host) {
		c.host = string(q.host)
	}
	if c.accept != string(q.accept) {
		c.accept = string(q.accept)
	}
	f := c.l.server.routes.Load().front(c.host)
	if f == nil {
		return false, nil
	}
	a, rel := f.quick(q, c.accept, c.l.server.log)
	if a == nil {
		return false, nil
	}
	defer f.release(rel, c.l.server.log)
	if !c.state.CompareAndSwap(quickIdle, quickBusy) {
		return false, net.ErrClosed
	}
	now, last := time.Now(), q.last || c.l.stops.Load()
	err := c.write(f, a, q, c.l.end(now, last))
	switch {
	case !c.state.CompareAndSwap(quickBusy, quickIdle):
		c.state.Store(quickClosed)
		return false, errors.Join(c.TCPConn.Close(), net.ErrClosed)
	case err == nil && last:
		err = io.EOF
	case now.Sub(c.set) >= setEvery:
		c.limit(now, c.l.idle)
	}
	return true, err
}

// write writes an answer, and counts it.
func (c *quickConn) write(f *Front, a *answer, q *quickRequest, end []byte) error {
	head, body, class := a.head, a.body, http.StatusOK/100
	if len(q.match) > 0 && string(q.match) == a.etag {
		head, body, class = a.same, nil, http.StatusNotModified/100
	}
	c.three = [...][]byte{head, end, body}
	c.pieces = c.three[:]
	n, err := c.pieces.WriteTo(c.TCPConn)
	f.traffic.requests[class].Add(1)
	f.traffic.bytes.Add(uint64(max(0, n-int64(len(head)+len(end)))))
	return err
}

// Close is net.Conn.
func (c *quickConn) Close() error {
	for {
		switch was := c.state.Load(); {
		case was == quickIdle && c.state.CompareAndSwap(was, quickClosed):
			return c.TCPConn.Close()
		case was == quickBusy && c.state.CompareAndSwap(was, quickLast):
			return nil // it is closed behind the answer
		case was == quickLast || was == quickClosed:
			return nil
		}
	}
}

// quick finds the answer to a plain request, with its release, which is acquired;
// nil where there is none. Beside path and coding these decide: the visitor's pin,
// which has to be none, or that of what is shown; and whether the node knows that
// it shows what is active, and is not cut off.
func (f *Front) quick(q *quickRequest, accept string, log *slog.Logger) (*answer, *Release) {
	h := f.holdings.Load()
	known := h.answers.find(q.path)
	if known == nil || bytes.Contains(q.query, []byte(previewQuery)) {
		return nil, nil
	}
	if bytes.Contains(q.cookie, []byte(pinCookie+"=")) {
		if pin, ok := pinIn(string(q.cookie)); ok && pin != "" && pin != h.pin {
			return nil, nil
		}
	}
	rel := h.shown.release
	if f.unconfirmed.Load() || f.gate != nil && f.gate.fenced() || !rel.acquire() {
		return nil, nil
	}
	a := known.pick(rel, accept)
	if a == nil || !a.current() {
		f.release(rel, log)
		return nil, nil
	}
	return a, rel
}
