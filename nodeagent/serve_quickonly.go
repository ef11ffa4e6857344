package nodeagent

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// only answers the only request of a connection, if it is there already: what
// net/http prepares for a connection is in vain then. It waits for nothing. It
// reports whether that was all; otherwise the connection is for net/http, with
// what was read and what is left to be written.
func (c *quickConn) only() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	h := quickHeads.Get().(*quickHead)
	err = raw.Read(func(fd uintptr) bool {
		h.to, _ = unix.Read(int(fd), h.buf[:])
		return true
	})
	if err != nil || h.to <= 0 { // there is nothing, or it is gone: net/http finds out
		quickHeads.Put(h)
		return false
	}
	c.ahead, h.from = h, 0
	q := parseQuick(h.buf[:h.to])
	if !q.last || !c.compose(&q, time.Now(), true) {
		return false
	}
	c.ahead = nil
	quickHeads.Put(h)
	n := 0
	err = raw.Write(func(fd uintptr) bool {
		n, _ = unix.Writev(int(fd), c.pieces)
		return true
	})
	if c.rest = err == nil && c.left(max(n, 0)); c.rest {
		return false
	}
	_ = c.TCPConn.Close() // all is written, or nobody wants it
	return true
}

// left takes what was written off the pieces. It reports whether anything is left.
func (c *quickConn) left(written int) bool {
	for len(c.pieces) > 0 && written >= len(c.pieces[0]) {
		written -= len(c.pieces[0])
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) > 0 {
		c.pieces[0] = c.pieces[0][written:]
	}
	return len(c.pieces) > 0
}

// quickHead is room for what is read before net/http has a connection.
type quickHead struct {
	from, to int
	buf      [4 << 10]byte
}

var quickHeads = sync.Pool{New: func() any { return new(quickHead) }}

// read reads what is left of it. The last bytes give it back.
func (h *quickHead) read(p []byte, holder **quickHead) int {
	n := copy(p, h.buf[h.from:h.to])
	if h.from += n; h.from == h.to {
		*holder = nil
		quickHeads.Put(h)
	}
	return n
}
