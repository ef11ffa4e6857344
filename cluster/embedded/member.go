//go:build !noembed

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

const (
	// startTimeout bounds the wait for a member to be ready. One that is alone
	// is ready within an election; one of three waits for a second member.
	startTimeout      = 2 * time.Minute
	startTimeoutAlone = 30 * time.Second
	// portTries bounds how often another free port is picked when somebody
	// else took the one that was free a moment ago.
	portTries = 5
)

// Member is an etcd server in this process.
type Member struct {
	etcd *embed.Etcd
	url  string
	lock *os.File
	log  *bridge

	done chan struct{} // closed when the server has stopped, by itself or by Close
	err  error         // why it stopped by itself; written before done is closed
	stop chan struct{}
	once sync.Once
}

// Start starts a member and returns when it answers, which for one of several
// takes a majority of them. A taken port is an error that is
// syscall.EADDRINUSE.
func Start(ctx context.Context, c Config) (*Member, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := openDir(c)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	m := &Member{lock: lock, log: newBridge(c.Log), done: make(chan struct{}), stop: make(chan struct{})}
	if err := m.start(ctx, c); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", c.Dir, err)
	}
	m.log.phase.Store(running)
	go m.watch()
	return m, nil
}

func (m *Member) start(ctx context.Context, c Config) error {
	for try := 1; ; try++ {
		client, picked, err := freePort(c.ClientURL)
		if err != nil {
			return err
		}
		cfg, err := etcdConfig(c, client, m.log)
		if err != nil {
			return err
		}
		m.etcd, err = embed.StartEtcd(cfg)
		if errors.Is(err, syscall.EADDRINUSE) && picked && try < portTries {
			continue
		}
		if err != nil {
			return fmt.Errorf("start at %s: %w", client.String(), err)
		}
		m.url = client.String()
		return m.awaitReady(ctx, c)
	}
}

// awaitReady returns when the member can answer, or stops it.
func (m *Member) awaitReady(ctx context.Context, c Config) error {
	limit := startTimeout
	if c.alone() {
		limit = startTimeoutAlone
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready after %v; are the other members of %s up?", limit, c.InitialCluster))
	defer cancel()
	var err error
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case err = <-m.etcd.Err():
	case <-m.etcd.Server.StopNotify():
		err = errors.New("stopped while starting")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	m.log.phase.Store(stopping)
	// Close would wait for requests in flight and for leadership to be handed
	// over; a member that never was ready has neither.
	m.etcd.Server.HardStop()
	m.etcd.Close()
	return err
}

// watch waits for the end of the server; it is the one place that closes it.
func (m *Member) watch() {
	defer close(m.done)
	select {
	case m.err = <-m.etcd.Err():
	case <-m.etcd.Server.StopNotify():
		m.err = errors.New("embedded etcd stopped")
	case <-m.stop:
	}
	m.log.phase.Store(stopping)
	m.etcd.Close()
	_ = m.lock.Close()
}

// ClientURL is where the member answers clients.
func (m *Member) ClientURL() string { return m.url }

// Done is closed when the member has stopped, by Close or by itself.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err is nil until Done is closed; then it says why the member stopped, nil
// for Close.
func (m *Member) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Close stops the member and returns when it has stopped. Its data stays.
func (m *Member) Close() error {
	m.once.Do(func() { close(m.stop) })
	<-m.done
	return m.err
}

// freePort replaces port 0 by one that is free now: etcd publishes the URL
// that it is given, so it must be given a true one.
func freePort(raw string) (u *url.URL, picked bool, err error) {
	u, err = url.Parse(raw)
	if err != nil || u.Port() != "0" {
		return u, false, err
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		return nil, false, err
	}
	defer l.Close()
	u.Host = l.Addr().String()
	return u, true, nil
}
