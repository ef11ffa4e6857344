package objectstore

import (
	"fmt"
	"path"
	"strings"

	"relman/release"
)

const (
	manifestName = "manifest.zst"
	layoutName   = "layout.zst"
	packSuffix   = ".pack"
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

// sumOf is the digest of an object. A pack has it in its name; were it wrong
// there, the store would refuse the body.
func sumOf(key string, body []byte) release.Digest {
	if name, ok := strings.CutSuffix(path.Base(key), packSuffix); ok {
		if d, err := release.ParseDigest(name); err == nil {
			return d
		}
	}
	return release.Sum(body)
}
