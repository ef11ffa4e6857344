package objectstore

import (
	"fmt"

	"relman/release"
)

const (
	manifestName = "manifest.zst"
	layoutName   = "layout.zst"
)

func releasePrefix(site release.Site, id release.ID) string {
	return fmt.Sprintf("sites/%s/releases/%s/", site, id)
}

// manifestKey is where a release's signed content is: create-only, immutable.
func manifestKey(site release.Site, id release.ID) string {
	return releasePrefix(site, id) + manifestName
}

// layoutKey is where a release's layout is: replaceable, never trusted.
func layoutKey(site release.Site, id release.ID) string { return releasePrefix(site, id) + layoutName }

// packKey is where the pack with this digest is.
func packKey(d release.Digest) string {
	return "packs/" + d.Hex()[:2] + "/" + packName(d)
}
