package cluster

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster/clustertest"
)

// proxy stands between a client and etcd and does what networks do.
type proxy struct {
	t    testing.TB
	addr string // of etcd
	l    net.Listener

	mu      sync.Mutex
	cond    *sync.Cond
	conns   map[net.Conn]bool
	deaf    bool // answers are thrown away
	holding bool // requests wait
	held    int  // how many did
	closed  bool // new connections are turned away
}

func newProxy(t testing.TB, endpoint string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, addr: strings.TrimPrefix(endpoint, "http://"), l: l, conns: map[net.Conn]bool{}}
	p.cond = sync.NewCond(&p.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		p.set(func() { p.deaf, p.holding, p.closed = false, false, true })
		_ = l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) endpoint() string { return "http://" + p.l.Addr().String() }

// set changes what the proxy does.
func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.cond.Broadcast()
}

// holds waits until a request is held back.
func (p *proxy) holds() {
	p.t.Helper()
	clustertest.Until(p.t, 10*time.Second, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held == 0 {
			return errors.New("no request held back")
		}
		return nil
	})
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return
	}
	server, err := net.Dial("tcp", p.addr)
	if err != nil {
		return
	}
	defer server.Close()
	p.set(func() { p.conns[client], p.conns[server] = true, true })
	defer p.set(func() { delete(p.conns, client); delete(p.conns, server) })
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client, true) })
	p.copy(client, server, false)
	_ = server.Close()
	_ = client.Close()
	wg.Wait()
}

func (p *proxy) copy(to, from net.Conn, requests bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		if requests && p.holding && n > 0 {
			p.held++
		}
		for requests && p.holding {
			p.cond.Wait()
		}
		drop := !requests && p.deaf
		p.mu.Unlock()
		if n > 0 && !drop {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}
