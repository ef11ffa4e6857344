package nodeagent

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

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
	ahead   *quickHead  // what was read before net/http had the connection; nil: nothing
	rest    bool        // pieces are what is left of the only answer

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
		return c.next(p)
	case c.rest:
		return 0, c.write(true)
	case !c.between:
		return 0, c.gone()
	}
	for n, part, answered := 0, false, false; ; {
		m, err := c.next(p[n:])
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

// least is how many bytes net/http waits for between two requests. It lets go of
// fewer without a word.
const least = 4

// next reads what comes next.
func (c *quickConn) next(p []byte) (int, error) {
	if c.ahead == nil || len(p) == 0 {
		return c.TCPConn.Read(p)
	}
	return c.ahead.read(p, &c.ahead), nil
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

// setEvery is how often the time for reading is set anew while requests come.
const setEvery = time.Second

// answer answers a request if that can be done quickly. An error ends the
// connection.
func (c *quickConn) answer(q *quickRequest) (bool, error) {
	now := time.Now()
	last := q.last || c.l.closed.Load()
	if !c.compose(q, now, last) {
		return false, nil
	}
	err := c.write(last)
	if err == nil && now.Sub(c.set) >= setEvery {
		c.limit(now, c.l.idle)
	}
	return true, err
}

// compose puts the pieces of an answer together, and counts it; false where it
// cannot be given quickly.
func (c *quickConn) compose(q *quickRequest, now time.Time, last bool) bool {
	if !q.plain {
		return false
	}
	if c.host != string(q.host) {
		c.host = string(q.host)
	}
	if c.accept != string(q.accept) {
		c.accept = string(q.accept)
	}
	f := c.l.server.routes.Load().front(c.host)
	if f == nil {
		return false
	}
	a := f.quick(q, c.accept, c.l.server.log)
	if a == nil {
		return false
	}
	head, body, class := a.head, a.body, http.StatusOK/100
	if len(q.match) > 0 && string(q.match) == a.etag {
		head, body, class = a.same, nil, http.StatusNotModified/100
	}
	c.three = [...][]byte{head, c.l.end(now, last), body}
	c.pieces = c.three[:]
	f.traffic.requests[class].Add(1)
	f.traffic.bytes.Add(uint64(len(body)))
	return true
}

// write writes the pieces. Behind the last answer, and where somebody has wanted
// to close the connection meanwhile, it ends.
func (c *quickConn) write(last bool) error {
	c.l.busy.Add(1) // before it can be seen to be busy
	defer c.l.busy.Add(-1)
	if !c.state.CompareAndSwap(quickIdle, quickBusy) {
		return net.ErrClosed
	}
	_, err := c.pieces.WriteTo(c.TCPConn)
	if !c.state.CompareAndSwap(quickBusy, quickIdle) {
		c.state.Store(quickClosed)
		return errors.Join(err, c.TCPConn.Close(), net.ErrClosed)
	}
	if err == nil && last {
		return io.EOF
	}
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
