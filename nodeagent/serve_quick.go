package nodeagent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Quicken has an http.Server that serves s answer from memory what is there,
// before it has seen the request: what net/http does for each costs more than all
// of such an answer. It returns the listener for that server, on which it may
// serve several times at once: each answers what comes, and needs a processor.
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
	return q
}

// quickListener accepts connections on which a Server answers quickly.
type quickListener struct {
	net.Listener
	server *Server
	idle   time.Duration // how long a connection may say nothing
	header time.Duration // how long the head of a request may take
	closed atomic.Bool   // the server stops
	busy   atomic.Int64  // answers that are on their way
	second atomic.Pointer[second]
}

// Accept is net.Listener. A connection whose only request is answered here is
// over then.
func (l *quickListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		tcp, ok := c.(*net.TCPConn)
		if err != nil || !ok {
			return c, err
		}
		q := &quickConn{TCPConn: tcp, l: l, between: true}
		if !q.only() {
			return q, nil
		}
	}
}

// Close is net.Listener. Each of those who serve closes it in the end.
func (l *quickListener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	return l.Listener.Close()
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

// Finish waits until the answers are sent that the server does not know of; after it
// has been shut down, no new ones begin.
func (l *quickListener) Finish(ctx context.Context) error {
	tick := time.NewTicker(finishEvery)
	defer tick.Stop()
	for l.busy.Load() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d answers: %w", l.busy.Load(), context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// finishEvery is how often a server that stops looks whether all is sent.
const finishEvery = 10 * time.Millisecond
