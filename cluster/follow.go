package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Follow calls each with what a site is now and after every change, until each
// is done or ctx ends. Calls come one after the other; states that pass
// meanwhile are skipped, the last one never. A site that does not exist, or an
// etcd that cannot be asked in the beginning, ends it; later faults of etcd it
// gets over.
func (c *Client) Follow(ctx context.Context, site release.Site, each func(*View) (done bool)) error {
	seen := false // each was called
	for try := 0; ; try++ {
		done, err := c.followOnce(ctx, site, func(v *View) bool {
			seen, try = true, 0
			return each(v)
		})
		if done || ctx.Err() != nil || !seen || !transient(err) {
			return err
		}
		if try == 0 {
			c.log.Warn("etcd is lost sight of, waiting for it", "site", site, "error", err)
		}
		pause(ctx, try, leastPause, mostPause)
	}
}

// followOnce is Follow until something breaks.
func (c *Client) followOnce(ctx context.Context, site release.Site, each func(*View) bool) (done bool, err error) {
	v, err := c.Observe(ctx, site)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	changed := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		targets := []target{{SitePrefix(site), true}, {nodesPrefix, true}}
		cancel(c.watch(ctx, v.Revision+1, targets, func([]*clientv3.Event) bool {
			select {
			case changed <- struct{}{}:
			default:
			}
			return true
		}))
	})
	for {
		if each(v) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-changed:
		case <-time.After(jittered(c.cfg.Reread)): // never the watch alone
		}
		began := time.Now() // of the reading alone: waiting leaves others all the time
		if v, err = c.Observe(ctx, site); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return false, cause
			}
			return false, err
		}
		// A large cluster changes faster than it can be read: leave others half
		// of the time.
		if took := time.Since(began); took > 100*time.Millisecond {
			sleep(ctx, min(took, time.Second))
		}
	}
}

// Changes calls changed for every site once in the beginning, and then for
// each site that something happens to, until ctx ends; a change of a node
// counts for every site. After a break of the watch it begins again. changed
// must return soon; calls come one after the other.
func (c *Client) Changes(ctx context.Context, changed func(release.Site)) error {
	for try := 0; ; try++ {
		began := time.Now()
		err := c.changesOnce(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > mostPause {
			try = 0
		}
		c.log.Debug("watch broken off, beginning again", "error", err)
		pause(ctx, try, leastPause, mostPause)
	}
}

func (c *Client) changesOnce(ctx context.Context, changed func(release.Site)) error {
	r, err := c.read(ctx, "read the catalog", clientv3.OpGet(CatalogKey))
	if err != nil {
		return err
	}
	catalog, err := entryAt[Catalog](r, 0)
	if err != nil {
		return err
	}
	sites := catalog.Value.Sites
	for _, s := range sites {
		changed(s)
	}
	return c.watch(ctx, r.Header.Revision+1, []target{{Prefix, true}}, func(evs []*clientv3.Event) bool {
		touched, all := touchedBy(evs)
		for _, e := range evs {
			if string(e.Kv.Key) != CatalogKey {
				continue
			}
			var now Catalog
			if err = decode(CatalogKey, e.Kv.Value, &now); err != nil {
				return false
			}
			sites = now.Sites
		}
		if all {
			touched = sites
		}
		for _, s := range touched {
			changed(s)
		}
		return ctx.Err() == nil
	})
}

// touchedBy lists the sites that events are about, each once, or says that it
// is all of them.
func touchedBy(evs []*clientv3.Event) (sites []release.Site, all bool) {
	for _, e := range evs {
		key := string(e.Kv.Key)
		rest, ok := strings.CutPrefix(key, sitesPrefix)
		if !ok {
			all = all || strings.HasPrefix(key, nodesPrefix) || key == CatalogKey
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if s, err := release.ParseSite(name); err == nil && !slices.Contains(sites, s) {
			sites = append(sites, s)
		}
	}
	return sites, all
}
