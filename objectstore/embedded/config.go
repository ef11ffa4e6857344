package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
)

// ErrNotBuilt is what a program that was built with the tag noembed answers.
var ErrNotBuilt = errors.New("this build has no embedded store (it was built with the tag noembed)")

// HealthPath answers 200 to GET, without credentials, while the server serves.
const HealthPath = "/healthz"

// region is the one region that the server knows.
const region = "us-east-1"

// Config says what to serve and where.
type Config struct {
	// Dir holds the objects; it is made if it is not there. One server at a
	// time may use it.
	Dir string
	// Addr is host:port; the default is 127.0.0.1:9000. Port 0 picks a free
	// one, and a port that is taken moves to a free one.
	Addr string
	// Exact makes a taken port an error instead (syscall.EADDRINUSE).
	Exact bool
	// AccessKey and SecretKey are the only credentials that are accepted.
	AccessKey, SecretKey string
	// Bucket is created if it is not there.
	Bucket string
	// Log gets what the server has to say; nil discards it. The server itself
	// writes nothing to stdout or stderr.
	Log *slog.Logger
}

// withDefaults returns c complete and checked; Dir is absolute, because the
// server changes the working directory.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no directory"))
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		errs = append(errs, errors.New("no credentials"))
	}
	if c.Bucket == "" {
		errs = append(errs, errors.New("no bucket"))
	}
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:9000")
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, err)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		errs = append(errs, err)
	}
	c.Dir = dir
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("embedded store: %w", err)
	}
	return c, nil
}

// storeURL is how clients on this host name the bucket. A server that listens
// on every address is reached on the loopback one.
func storeURL(addr, bucket string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return fmt.Sprintf("s3://%s?endpoint=http://%s&region=%s&path-style=true", bucket, addr, region)
}
