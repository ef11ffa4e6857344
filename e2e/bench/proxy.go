package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// proxy lets connections over a wire to one server. It passes bytes on as they
// are, so that signatures made for its address hold.
type proxy struct {
	wire   *wire
	to     string
	http   bool // count requests
	listen net.Listener
	conns  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // nil once closed
}

// newProxy serves until it is closed.
func newProxy(ctx context.Context, w *wire, to string, isHTTP bool) (*proxy, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{wire: w, to: to, http: isHTTP, listen: l, open: map[net.Conn]bool{}}
	p.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.conns.Go(func() { p.serve(ctx, c) })
		}
	})
	return p, nil
}

// addr is where clients find the server.
func (p *proxy) addr() string { return p.listen.Addr().String() }

// close ends all connections and waits until nothing is left of them.
func (p *proxy) close() error {
	err := p.listen.Close()
	p.mu.Lock()
	for c := range p.open {
		_ = c.Close() // whoever reads or writes it sees that
	}
	p.open = nil
	p.mu.Unlock()
	p.conns.Wait()
	return err
}

// keep has close end c, too.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close() // both directions are over
}

func (p *proxy) serve(ctx context.Context, client net.Conn) {
	defer p.drop(client)
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.to)
	if err != nil {
		return // the client sees that nobody is there
	}
	defer p.drop(server)
	if !p.keep(client) || !p.keep(server) {
		return
	}
	requests := io.Writer(io.Discard)
	if p.http {
		counter := countRequests(func() { p.wire.requests.Add(1) })
		defer counter.Close()
		requests = counter
	}
	var both sync.WaitGroup
	both.Go(func() { pipe(server, client, &p.wire.up, requests) })
	both.Go(func() { pipe(client, server, &p.wire.down, io.Discard) })
	both.Wait()
}

// pipe passes bytes on until there are no more, and says so. What a broken
// connection loses the two ends notice themselves.
func pipe(to, from net.Conn, l *lane, also io.Writer) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = also.Write(buf[:n]) // counts only
			l.pass(n)
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite() // gone already when the other direction broke
	}
}

// countRequests calls each for every HTTP request that is written to what it
// returns, when the head of it is complete.
func countRequests(each func()) io.WriteCloser {
	r, w := io.Pipe()
	go func() {
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					_, _ = io.Copy(io.Discard, in) // no HTTP: let it pass
				}
				return
			}
			each()
			_, _ = io.Copy(io.Discard, req.Body) // cut off: the next read says so
			_ = req.Body.Close()
		}
	}()
	return w
}
