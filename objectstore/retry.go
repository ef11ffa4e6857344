package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"
)

// The one policy of retries: a call that met ErrUnavailable is made again, up
// to tries times in all, after pauses of full jitter that double from least to
// most. Everything else is final.
const (
	tries      = 5
	leastPause = 100 * time.Millisecond
	mostPause  = 3 * time.Second
)

// Retry wraps a store so that passing faults do not show. A body that breaks
// off is continued where it broke.
func Retry(s Store, log *slog.Logger) Store {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &retry{s, log}
}

type retry struct {
	s   Store
	log *slog.Logger
}

var _ Store = (*retry)(nil)

func (r *retry) do(ctx context.Context, op, key string, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if err == nil || !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if try == tries {
			return fmt.Errorf("%w (tried %d times)", err, tries)
		}
		r.log.Debug("store does not answer, trying again", "op", op, "key", key, "try", try, "error", err)
		if !pause(ctx, try) {
			return err
		}
	}
}

// pause waits before the next try; false when ctx ended first.
func pause(ctx context.Context, try int) bool {
	t := time.NewTimer(rand.N(min(leastPause<<(try-1), mostPause)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (r *retry) Put(ctx context.Context, key string, body []byte, create bool) error {
	again := false
	return r.do(ctx, "put", key, func() error {
		err := r.s.Put(ctx, key, body, create)
		if again && errors.Is(err, ErrExists) && r.holds(ctx, key, body) {
			return nil // the call before did it, its answer was lost
		}
		again = true
		return err
	})
}

// holds reports whether an object has exactly these bytes.
func (r *retry) holds(ctx context.Context, key string, body []byte) bool {
	got, err := readAll(ctx, r.s, key, int64(len(body)))
	return err == nil && string(got) == string(body)
}

func (r *retry) Stat(ctx context.Context, key string) (i Info, err error) {
	err = r.do(ctx, "look for", key, func() error { i, err = r.s.Stat(ctx, key); return err })
	return i, err
}

func (r *retry) Delete(ctx context.Context, key string) error {
	return r.do(ctx, "delete", key, func() error { return r.s.Delete(ctx, key) })
}

// List is not tried again once it has handed over an object.
func (r *retry) List(ctx context.Context, prefix string, each func(Info) error) error {
	var final error
	err := r.do(ctx, "list", prefix, func() error {
		begun := false
		err := r.s.List(ctx, prefix, func(i Info) error { begun = true; return each(i) })
		if begun {
			final = err
			return nil
		}
		return err
	})
	return errorOr(err, final)
}

func (r *retry) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	b := &retryBody{ctx: ctx, r: r, key: key, at: offset, left: length}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// retryBody goes on where the body before broke off.
type retryBody struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to know when to stop
	r    *retry
	key  string
	at   int64
	left int64 // negative: to the end
	body io.ReadCloser
	err  error // how the body broke off, when it has
	try  int   // since the last byte
}

func (b *retryBody) open() error {
	return b.r.do(b.ctx, "get", b.key, func() error {
		body, err := b.r.s.Get(b.ctx, b.key, b.at, b.left)
		if err == nil {
			b.body = body
		}
		return err
	})
}

func (b *retryBody) Read(p []byte) (int, error) {
	for {
		if b.err != nil {
			if err := b.again(); err != nil {
				return 0, err
			}
		}
		if b.left == 0 {
			return 0, io.EOF
		}
		n, err := b.body.Read(p)
		b.at += int64(n)
		if n > 0 {
			b.try = 0
		}
		if b.left > 0 {
			b.left -= int64(n)
		}
		if !errors.Is(err, ErrUnavailable) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, err
		}
		if b.left != 0 {
			b.err = err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// again opens the rest of a body that broke off.
func (b *retryBody) again() error {
	if b.try++; b.try >= tries || !pause(b.ctx, b.try) {
		return b.err
	}
	b.r.log.Debug("body broke off, going on", "key", b.key, "offset", b.at, "error", b.err)
	if err := b.body.Close(); err != nil {
		b.r.log.Debug("close of a broken body", "key", b.key, "error", err)
	}
	b.body = io.NopCloser(nil) // nothing is left to be closed
	if err := b.open(); err != nil {
		b.err, b.try = err, tries
		return err
	}
	b.err = nil
	return nil
}

func (b *retryBody) Close() error { return b.body.Close() }

// readAll reads a whole object of at most limit bytes.
func readAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	body, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("get %s: %w: larger than %d bytes", key, ErrCorrupt, limit)
	}
	return b, nil
}
