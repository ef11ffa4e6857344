package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bed is what all tools of a run share: one directory, one S3 server, and one
// wire to it.
type bed struct {
	bin  string // relman
	etcd string
	dir  string
	wire *wire

	s3    string // address of the S3 server, over the wire
	store *minio.Client

	closers []func() error
}

// Everything is in one bucket, below a prefix of its own.
const (
	bucket    = "bench"
	region    = "us-east-1"
	accessKey = "bench"
	secretKey = "bench-secret-bench-secret"
)

var awsEnv = []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_REGION=" + region}

// newBed starts the S3 server in a directory below dir, all of which goes when
// the bed is closed.
func newBed(ctx context.Context, dir, bin, etcd string, rate float64) (b *bed, err error) {
	b = &bed{bin: bin, etcd: etcd, wire: newWire(rate)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.dir, err = os.MkdirTemp(dir, "relman-bench-"); err != nil {
		return b, err
	}
	b.closers = append(b.closers, func() error { return os.RemoveAll(b.dir) })
	addr, err := freeAddr(ctx)
	if err != nil {
		return b, err
	}
	d, err := program{env: awsEnv, argv: []string{bin, "store", filepath.Join(b.dir, "store"), "--addr", addr, "--bucket", bucket}}.start(ctx)
	if err != nil {
		return b, err
	}
	b.closers = append(b.closers, d.stop)
	if b.s3, err = b.over(ctx, addr, true); err != nil {
		return b, err
	}
	if b.store, err = newStoreClient(b.s3); err != nil {
		return b, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return b, d.until(ctx, func(ctx context.Context) error {
		ok, err := b.store.BucketExists(ctx, bucket)
		if err == nil && !ok {
			err = errors.New("the bucket is not there")
		}
		return err
	})
}

// startLimit is how long a daemon may take to start.
const startLimit = 30 * time.Second

func newStoreClient(addr string) (*minio.Client, error) {
	return minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: region})
}

// over returns an address that is another one's, over the wire.
func (b *bed) over(ctx context.Context, addr string, isHTTP bool) (string, error) {
	p, err := newProxy(ctx, b.wire, addr, isHTTP)
	if err != nil {
		return "", err
	}
	b.closers = append(b.closers, p.close)
	return p.addr(), nil
}

// close ends all that was started, in reverse order.
func (b *bed) close() error {
	var err error
	for len(b.closers) > 0 {
		last := len(b.closers) - 1
		err = errors.Join(err, b.closers[last]())
		b.closers = b.closers[:last]
	}
	return err
}

// mark is for closing what was started since, with closeTo.
func (b *bed) mark() int { return len(b.closers) }

func (b *bed) closeTo(mark int) error {
	above := &bed{closers: b.closers[mark:]}
	b.closers = b.closers[:mark:mark]
	return above.close()
}

// place makes a directory for one tool at one site in one run.
func (b *bed) place(site, tool string, run int, parts ...string) (string, error) {
	dir := filepath.Join(append([]string{b.dir, "work", fmt.Sprintf("%s-%d", site, run), tool}, parts...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// prefix is where a tool keeps a site's objects in one run.
func prefix(site, tool string, run int) string { return fmt.Sprintf("%s-%d/%s", site, run, tool) }

// freeAddr is an address that nothing listens on.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
