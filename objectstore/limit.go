package objectstore

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// limitBurst is how many bytes may come at once. Readers ask for less.
const limitBurst = 256 << 10

// Limit wraps a store so that all bodies together come at no more than some
// bytes a second; 0 is no limit.
func Limit(s Store, bytesPerSecond int64) Store {
	if bytesPerSecond <= 0 {
		return s
	}
	return &limited{s, rate.NewLimiter(rate.Limit(bytesPerSecond), limitBurst)}
}

type limited struct {
	Store
	rate *rate.Limiter
}

func (l *limited) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	body, err := l.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &limitedBody{ctx, body, l.rate}, nil
}

type limitedBody struct {
	ctx context.Context //nolint:containedctx // a reader has no other way to know when to stop
	io.ReadCloser
	rate *rate.Limiter
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), limitBurst)])
	if n > 0 {
		if werr := b.rate.WaitN(b.ctx, n); werr != nil && err == nil {
			err = context.Cause(b.ctx)
			if err == nil {
				err = werr
			}
		}
	}
	return n, err
}
