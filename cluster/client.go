package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Config says how to reach etcd.
type Config struct {
	Endpoints []string    // "http://127.0.0.1:2379"
	TLS       *tls.Config // nil: none; with a client certificate its CN is the user
	Username  string      // for clusters that use passwords
	Password  string

	Timeout time.Duration // of each call; 5 s when zero
	// Reread is how often a client compares what it watches with what is there, a
	// node at least as often as it needs to know that it is not cut off;
	// 15 s when zero. Tests shorten it.
	Reread time.Duration
	Log    *slog.Logger // nil: silent
}

const (
	defaultTimeout = 5 * time.Second
	defaultReread  = 15 * time.Second

	// A dead connection is noticed after pingEvery+pingTimeout. Servers turn
	// away clients that ping more often than every 5 s.
	pingEvery   = 10 * time.Second
	pingTimeout = 4 * time.Second

	// mostReconnect is the longest pause between attempts to connect.
	mostReconnect = 3 * time.Second
)

// Client talks to etcd. It is safe for concurrent use. Its errors are those of
// this package and of contexts; none of etcd's or gRPC's escapes.
type Client struct {
	cfg Config
	log *slog.Logger

	kv *clientv3.Client // reads and transactions
	// Watches and leases have a connection of their own: sharing one with
	// large reads starves them (etcd#15402).
	ev      *clientv3.Client
	watcher clientv3.Watcher // ev's; tests put themselves in between
}

// Dial connects to etcd and asks it something, so that a wrong address or
// password shows now. It answers within the timeout.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.call(ctx)
	defer cancel()
	if _, err := c.kv.Get(ctx, InfoKey, clientv3.WithKeysOnly()); err != nil {
		_ = c.Close()
		return nil, c.translate(ctx, "dial etcd", err)
	}
	return c, nil
}

// Open is Dial without the question: but for a login by password it does no
// I/O. It is for what runs for long, and has work to do while etcd is away. The
// client outlives ctx.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Reread <= 0 {
		cfg.Reread = defaultReread
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Log}
	if len(cfg.Endpoints) == 0 {
		return nil, fmt.Errorf("dial etcd: %w: no endpoints given", ErrUnavailable)
	}
	if err := c.open(); err != nil {
		_ = c.Close()
		return nil, c.translate(ctx, "dial etcd", err)
	}
	return c, nil
}

func (c *Client) open() (err error) {
	if c.kv, err = c.connect(); err != nil {
		return err
	}
	if c.ev, err = c.connect(); err != nil {
		return err
	}
	c.watcher = c.ev.Watcher
	return nil
}

// connect makes a client; but for a login by password it does no I/O.
func (c *Client) connect() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            c.cfg.Endpoints,
		TLS:                  c.cfg.TLS,
		Username:             c.cfg.Username,
		Password:             c.cfg.Password,
		DialTimeout:          c.cfg.Timeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		// Not without a stream: etcd's server does not permit it, and hangs up
		// on clients that do (too_many_pings). A connection that died while
		// nothing was asked shows at the next call.
		PermitWithoutStream: false,
		Logger:              zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithStatsHandler(sentHandler{}),
			// gRPC's own pauses grow to two minutes: too long for a node to
			// find out that etcd is back.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: leastPause, Multiplier: 1.6, Jitter: 0.3, MaxDelay: mostReconnect},
				MinConnectTimeout: c.cfg.Timeout,
			}),
		},
	})
}

// Close ends all connections. Watches end with an error, leases run out.
func (c *Client) Close() error {
	var errs []error
	for _, cl := range []*clientv3.Client{c.kv, c.ev} {
		if cl == nil {
			continue
		}
		if err := cl.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close etcd client: %s", text(err))
	}
	return nil
}

// call is a context for one call.
func (c *Client) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// endpoints is for messages.
func (c *Client) endpoints() string { return strings.Join(c.cfg.Endpoints, ", ") }

// read gets several ranges in one transaction, so at one revision. clientv3
// never repeats a transaction, not even one that only reads; this does, until
// the time of a call is up, and so gets past an endpoint that is gone.
func (c *Client) read(ctx context.Context, what string, gets ...clientv3.Op) (*clientv3.TxnResponse, error) {
	all, cancel := c.call(ctx)
	defer cancel()
	for try := 0; ; try++ {
		r, err := c.readOnce(all, gets)
		if err == nil {
			return r, nil
		}
		if v := judge(err); v != lost && v != busy || !pause(all, try, leastRetry, mostRetry) {
			return nil, c.translate(ctx, what, err)
		}
	}
}

func (c *Client) readOnce(ctx context.Context, gets []clientv3.Op) (*clientv3.TxnResponse, error) {
	// Half of the time for one endpoint that does not answer.
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/2)
	defer cancel()
	return c.kv.Txn(ctx).Then(gets...).Commit()
}
