//go:build !noembed

package embedded

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3response"
)

// Reads wait for a commit of their key that is under way: an object is not
// reported before it is durable. Listings do not wait; they promise nothing
// about a single key.

func (d *durable) settle(ctx context.Context, bucket, key *string) error {
	return d.keys.settle(ctx, lockName(bucket, key))
}

func (d *durable) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	if err := d.settle(ctx, in.Bucket, in.Key); err != nil {
		return nil, err
	}
	return d.Posix.HeadObject(ctx, in)
}

func (d *durable) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	if err := d.settle(ctx, in.Bucket, in.Key); err != nil {
		return nil, err
	}
	out, err := d.Posix.GetObject(ctx, in)
	if err == nil && out.Body != nil {
		d.busy.Add(1)
		out.Body = &busyBody{ReadCloser: out.Body, busy: &d.busy}
	}
	return out, err
}

// busyBody counts as work under way until it is closed.
type busyBody struct {
	io.ReadCloser
	busy *atomic.Int64
	once sync.Once
}

func (b *busyBody) Close() error {
	b.once.Do(func() { b.busy.Add(-1) })
	return b.ReadCloser.Close()
}

func (d *durable) GetObjectAttributes(ctx context.Context, in *s3.GetObjectAttributesInput) (s3response.GetObjectAttributesResponse, error) {
	if err := d.settle(ctx, in.Bucket, in.Key); err != nil {
		return s3response.GetObjectAttributesResponse{}, err
	}
	return d.Posix.GetObjectAttributes(ctx, in)
}
