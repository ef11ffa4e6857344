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
	return errors.Join(err, final)
}

func (r *retry) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	b := &retryBody{ctx: ctx, r: r, key: key, at: offset, left: length}
	return b, b.open()
}

// retryBody goes on where the body before broke off.
type retryBody struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to know when to stop
	r    *retry
	key  string
	at   int64
	left int64 // negative: to the end
	body io.ReadCloser
	try  int
}

func (b *retryBody) open() error {
	return b.r.do(b.ctx, "get", b.key, func() (err error) {
		b.body, err = b.r.s.Get(b.ctx, b.key, b.at, b.left)
		return err
	})
}

func (b *retryBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.at += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	broken := errors.Is(err, ErrUnavailable) || errors.Is(err, io.ErrUnexpectedEOF)
	if n > 0 {
		b.try = 0
		if broken {
			err = nil // the next call meets it again
		}
		return n, err
	}
	if !broken || b.left == 0 || b.try >= tries || b.ctx.Err() != nil {
		return n, err
	}
	b.try++
	b.r.log.Debug("body broke off, going on", "key", b.key, "offset", b.at, "error", err)
	if !pause(b.ctx, b.try) {
		return 0, err
	}
	if cerr := b.body.Close(); cerr != nil {
		b.r.log.Debug("close of a broken body", "key", b.key, "error", cerr)
	}
	if oerr := b.open(); oerr != nil {
		b.body = io.NopCloser(failed{oerr})
		return 0, oerr
	}
	return 0, nil
}

func (b *retryBody) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}

// failed is a body that could not be opened again.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

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
