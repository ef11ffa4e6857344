package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// Bounds of what is compared for a list of changed paths.
const (
	mostCompared  = 20 // epochs that were not told of
	compareWithin = time.Minute
)

// changed lists the URL paths whose answers may differ between the release
// that was told of last and the active one, or any that was active between the
// two: a cache may hold something of each of them.
func (c *converger) changed(ctx context.Context, v *cluster.View) ([]string, error) {
	if c.store == nil {
		return nil, errors.New("this manager has no store to read manifests from")
	}
	ctx, cancel := context.WithTimeout(ctx, compareWithin)
	defer cancel()
	steps, err := c.untold(ctx, v)
	if err != nil {
		return nil, err
	}
	store, err := c.store(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	old := &release.Manifest{} // before the first release there was nothing
	for i, a := range steps {
		m, err := objectstore.ReadManifest(ctx, store, c.site, a.Release, a.Manifest)
		if err != nil {
			return nil, err
		}
		if i > 0 || v.Told.Value == 0 {
			differ(old.Files, m.Files, found)
		}
		old = m
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// untold is what was active from the epoch that was told of last up to now, both
// included, the oldest first.
func (c *converger) untold(ctx context.Context, v *cluster.View) ([]cluster.Active, error) {
	last, now := release.Epoch(v.Told.Value), v.Active.Value.Epoch
	first := max(last, 1)
	if now-first > mostCompared {
		return nil, fmt.Errorf("epochs %d to %d were not told of, more than %d", last+1, now, mostCompared)
	}
	const ahead = 10 // epochs that may have come since v
	list, err := c.cluster.History(ctx, c.site, int(now-first)+1+ahead)
	if err != nil {
		return nil, err
	}
	slices.Reverse(list)
	list = slices.DeleteFunc(list, func(a cluster.Active) bool { return a.Epoch < first || a.Epoch > now })
	for i, want := 0, first; want <= now; i, want = i+1, want+1 {
		if i >= len(list) || list[i].Epoch != want {
			return nil, fmt.Errorf("the history of %s does not have epoch %d", c.site, want)
		}
	}
	return list, nil
}

// differ adds the URL paths of the files in which two releases differ. Both
// lists are sorted by path.
func differ(old, now []release.File, found map[string]bool) {
	for len(old) > 0 || len(now) > 0 {
		switch order := order(old, now); {
		case order < 0:
			addURLs(found, old[0].Path, true)
			old = old[1:]
		case order > 0:
			addURLs(found, now[0].Path, true)
			now = now[1:]
		default:
			if old[0].Digest != now[0].Digest || old[0].Type != now[0].Type {
				addURLs(found, now[0].Path, false)
			}
			old, now = old[1:], now[1:]
		}
	}
}

// order compares the first paths; an empty list comes last.
func order(old, now []release.File) int {
	switch {
	case len(old) == 0:
		return 1
	case len(now) == 0:
		return -1
	}
	return strings.Compare(old[0].Path, now[0].Path)
}

// addURLs adds the paths at which visitors get a file. An index page is also its
// directory; where it came or went, so did the redirect to that.
func addURLs(found map[string]bool, file string, cameOrWent bool) {
	add := func(p string) { found[(&url.URL{Path: "/" + p}).EscapedPath()] = true }
	add(file)
	dir, name := path.Split(file)
	if name != "index.html" {
		return
	}
	add(dir)
	if cameOrWent && dir != "" {
		add(strings.TrimSuffix(dir, "/"))
	}
}
