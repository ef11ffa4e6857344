package objectstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"relman/failpoint"
	"relman/release"
)

// Unchanged reports whether the build is equal to the base: the same paths,
// contents and modes.
func (u *Upload) Unchanged() bool {
	base := u.publisher.Base
	if base == nil || len(u.files) != len(base.Manifest.Files) {
		return false
	}
	for _, f := range u.files {
		old, ok := base.Manifest.Lookup(f.Path)
		f.MTime = old.MTime // follows from the rest
		if !ok || f != old {
			return false
		}
	}
	return true
}

// Layout says where everything is that the upload holds; it is of use with
// PackCache.Prune.
func (u *Upload) Layout() *Layout { return u.layout }

// Commit writes the layout and the manifest of release seq: when it returns,
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
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		layout, err := u.layout.encode(m)
		if err != nil {
			return err
		}
		if err := putCompressed(ctx, p.Store, layoutKey(p.Site, m.ID()), layout, false); err != nil {
			return err
		}
		return failpoint.Point("publish.after-layout")
	})
	g.Go(func() error {
		err := putCompressed(ctx, p.Store, manifestKey(p.Site, m.ID()), m.Raw(), true)
		if errors.Is(err, ErrExists) {
			// Its name has twelve digits of its digest: most likely the same.
			_, err = ReadManifest(ctx, p.Store, p.Site, m.ID(), m.Digest())
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return m, failpoint.Point("publish.after-manifest")
}

func putCompressed(ctx context.Context, s Store, key string, raw []byte, create bool) error {
	z, err := compress(make([]byte, 0, len(raw)/4+64), raw, quick)
	if err != nil {
		return err
	}
	return s.Put(ctx, key, z, create)
}

// getCompressed reads what putCompressed wrote: at most limit bytes.
func getCompressed(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	stored, err := readAll(ctx, s, key, maxObject)
	if err != nil {
		return nil, err
	}
	raw, err := decompress(stored, limit)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w: %w", key, ErrCorrupt, err)
	}
	return raw, nil
}
