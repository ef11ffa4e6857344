package objectstore

import (
	"context"
	"fmt"

	"relman/release"
)

// Stored is a release as it is in the store.
type Stored struct {
	Manifest *release.Manifest
	Layout   *Layout
}

// Load reads a release's manifest, checks it, and reads its layout.
func Load(ctx context.Context, s Store, site release.Site, id release.ID, digest release.Digest) (*Stored, error) {
	m, err := ReadManifest(ctx, s, site, id, digest)
	if err != nil {
		return nil, err
	}
	raw, err := getCompressed(ctx, s, layoutKey(site, id), maxLayoutBytes)
	if err != nil {
		return nil, err
	}
	l, err := parseLayout(raw, m)
	if err != nil {
		return nil, err
	}
	return &Stored{m, l}, nil
}

// ReadManifest reads a release's manifest. It is the one with this digest,
// whatever the store says.
func ReadManifest(ctx context.Context, s Store, site release.Site, id release.ID, digest release.Digest) (*release.Manifest, error) {
	key := manifestKey(site, id)
	raw, err := getCompressed(ctx, s, key, release.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	if release.Sum(raw) != digest {
		return nil, &CorruptError{Key: key, What: "the manifest", Want: digest}
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if m.Site != site || m.ID() != id {
		return nil, fmt.Errorf("%s: %w: it is release %s of %s", key, ErrCorrupt, m.ID(), m.Site)
	}
	return m, nil
}
