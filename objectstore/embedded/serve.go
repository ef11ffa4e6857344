//go:build !noembed

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

// portTries bounds how often a free port may be taken by somebody else between
// being found and being bound.
const portTries = 10

// Serve runs the server in this process until ctx ends, and calls ready with
// the address as soon as it answers. It takes the process over: the working
// directory, os.Stdout and os.Stderr are its own while it runs, and it may not
// run twice at once. Everything that needs a process of its own uses Start.
func Serve(ctx context.Context, c Config, ready func(addr string)) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	free, err := claimDir(ctx, c.Dir)
	if err != nil {
		return fmt.Errorf("embedded store %s: %w", c.Dir, err)
	}
	defer free()
	restore, err := capture(c.Log)
	if err != nil {
		return fmt.Errorf("embedded store: %w", err)
	}
	defer restore()
	for try := 1; ; try++ {
		addr, err := findPort(ctx, c)
		if err != nil {
			return fmt.Errorf("embedded store: %w", err)
		}
		err = serveAt(ctx, c, addr, syncer{(*os.File).Sync}, ready)
		if errors.Is(err, syscall.EADDRINUSE) && !c.Exact && try < portTries && ctx.Err() == nil {
			continue // somebody was faster; nobody has been told this address
		}
		if err != nil {
			return fmt.Errorf("embedded store %s: %w", c.Dir, err)
		}
		return nil
	}
}

// findPort names an address that was free a moment ago. The server has no way
// to be handed a listener, so between this and its own bind the port may go.
func findPort(ctx context.Context, c Config) (string, error) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return "", err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Addr)
	if errors.Is(err, syscall.EADDRINUSE) && !c.Exact {
		c.Log.Info("port is taken, using a free one", "addr", c.Addr)
		l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), errors.Join(err, l.Close())
}

// serveAt is one run of the server on one address.
func serveAt(ctx context.Context, c Config, addr string, s syncer, ready func(addr string)) error {
	be, err := openBackend(ctx, c, s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listening, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- embedgw.RunVersityGW(ctx, be, gateway(c, addr, func() { close(listening) }))
	}()
	select {
	case <-listening:
		if err := answers(ctx, addr); err != nil {
			cancel()
			return errors.Join(err, <-ended)
		}
		ready(addr)
		select {
		case err = <-ended:
		case <-ctx.Done():
			be.drain(ended, c.Log)
		}
	case err = <-ended:
	}
	if ctx.Err() != nil {
		return nil // it was asked to stop
	}
	return err
}

// drain returns when the server has ended, or when it has nothing more to do
// but wait for clients that keep a connection and do not use it: that would
// take it up to ten seconds, and the end of the process does the same.
func (d *durable) drain(ended <-chan error, log *slog.Logger) {
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for idle := 0; idle < 10; idle++ {
		select {
		case err := <-ended:
			if err != nil {
				log.Debug("the S3 server ended", "error", err)
			}
			return
		case <-ticks.C:
			if d.busy.Load() > 0 {
				idle = 0
			}
		}
	}
}

func gateway(c Config, addr string, listening func()) *embedgw.Config {
	return &embedgw.Config{
		RootUserAccess: c.AccessKey, RootUserSecret: c.SecretKey, Region: region,
		// Given, so that it does not print that there is none.
		IAMService: auth.NewIAMServiceSingle(auth.Account{Access: c.AccessKey, Secret: c.SecretKey, Role: auth.RoleAdmin}),
		Ports:      []string{addr}, HealthPath: HealthPath, Quiet: true, KeepAlive: true,
		MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10000,
		S3Options: []s3api.Option{s3api.WithOnListen(listening)},
	}
}

// answers waits until the server answers on its health path.
func answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+HealthPath, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s: %s", req.URL, res.Status)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// openBackend opens the directory and sees to it that all of it is durable:
// what an earlier server that was killed had written, but not yet answered,
// must not be taken for safe by a client that finds it.
func openBackend(ctx context.Context, c Config, s syncer) (*durable, error) {
	root := filepath.Join(c.Dir, "objects")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	// The parent directory may be one that only lets us pass.
	if err := s.syncBetween(root, c.Dir); err != nil {
		return nil, err
	}
	if err := s.syncPath(filepath.Dir(c.Dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if old, err := os.ReadDir(root); err != nil {
		return nil, err
	} else if len(old) > 0 {
		if err := syncAll(c.Dir); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
	}
	metadata, err := openMetadata(root, filepath.Join(c.Dir, "metadata"), s)
	if err != nil {
		return nil, err
	}
	be, err := posix.New(root, metadata, posix.PosixOpts{
		// Zero would make every copy fail.
		CopyObjectThreshold: 5 << 30,
	})
	if err != nil {
		return nil, err
	}
	d := &durable{Posix: be, syncer: s, root: root, metadata: metadata}
	if err := d.ensureBucket(ctx, c.Bucket, c.AccessKey); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", c.Bucket, err)
	}
	return d, nil
}
