package objectstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// lookAtOnce is how many packs are looked up at a time.
const lookAtOnce = 8

// Look is an Audit that reads no pack: manifests and layouts are read and
// verified, and packs are only looked up. It finds what is missing or has another
// length, and takes moments; what rots in a pack it does not see.
func Look(ctx context.Context, s Store, site release.Site, releases []Kept) (*Audited, error) {
	a := &audit{s: s, site: site, faults: map[string]*Fault{}}
	users := map[packRef][]release.ID{}
	for _, k := range releases {
		if err := a.load(ctx, k); err != nil {
			return nil, err
		}
	}
	if len(releases) > 0 && a.found == 0 {
		return nil, fmt.Errorf("read the releases of %s: none of %d is in the store: %w", site, len(releases), ErrNotFound)
	}
	for _, r := range a.releases {
		for _, ref := range r.Layout.packs {
			users[ref] = append(users[ref], r.Manifest.ID())
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookAtOnce)
	for ref, ids := range users {
		g.Go(func() error { return a.lookUp(gctx, ref, ids) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for ref := range users {
		a.result.Packs++
		a.result.Bytes += ref.Size
	}
	return a.report(len(releases)), nil
}

// lookUp looks whether a pack is there.
func (a *audit) lookUp(ctx context.Context, ref packRef, users []release.ID) error {
	key := packKey(ref.Digest)
	info, err := a.s.Stat(ctx, key)
	if err == nil && info.Size != ref.Size {
		err = fmt.Errorf("%w: it has %d bytes, published were %d", ErrCorrupt, info.Size, ref.Size)
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	slices.Sort(users)
	_, err = a.wrong(key, err, slices.Compact(users)...)
	return err
}
