package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"

	"relman/failpoint"
	"relman/release"
)

// Unchanged reports whether the build is equal to the base: the same paths,
// contents and modes.
func (u *Upload) Unchanged() bool {
	base := u.publisher.Base
	if base == nil {
		return false
	}
	m, err := release.New(u.publisher.Site, base.Manifest.Seq+1, time.Unix(0, 0), nil, u.files)
	return err == nil && m.Tree == base.Manifest.Tree
}

// Commit writes the layout and then the manifest of release seq: from then on
// the release is complete in the store. It can be called again, also with
// another number.
func (u *Upload) Commit(ctx context.Context, seq uint64, created time.Time) (*release.Manifest, error) {
	p := u.publisher
	var base *release.Manifest
	if p.Base != nil {
		base = p.Base.Manifest
	}
	m, err := release.New(p.Site, seq, created, base, u.files)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	layout, err := u.layout.encode(m)
	if err != nil {
		return nil, err
	}
	if err := putCompressed(ctx, p.Store, layoutKey(p.Site, m.ID()), layout, false); err != nil {
		return nil, err
	}
	if err := failpoint.Point("publish.after-layout"); err != nil {
		return nil, err
	}
	err = putCompressed(ctx, p.Store, manifestKey(p.Site, m.ID()), m.Raw(), true)
	if errors.Is(err, ErrExists) {
		// Its name has twelve digits of its digest: most likely the same.
		_, err = ReadManifest(ctx, p.Store, p.Site, m.ID(), m.Digest())
	}
	if err != nil {
		return nil, err
	}
	return m, failpoint.Point("publish.after-manifest")
}

func putCompressed(ctx context.Context, s Store, key string, raw []byte, create bool) error {
	enc, err := newEncoder()
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	return s.Put(ctx, key, enc.EncodeAll(raw, nil), create)
}

// getCompressed reads what putCompressed wrote: at most limit bytes.
func getCompressed(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	stored, err := readAll(ctx, s, key, maxObject)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderMaxWindow(maxFrame), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w: %w", key, ErrCorrupt, err)
	}
	defer dec.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(&limited{dec, limit}); err != nil {
		return nil, fmt.Errorf("get %s: %w: %w", key, ErrCorrupt, err)
	}
	return b.Bytes(), nil
}

// limited is an error, not an end, where too much comes.
type limited struct {
	r    *zstd.Decoder
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errors.New("it decompresses to more than is allowed")
	}
	return n, err
}
