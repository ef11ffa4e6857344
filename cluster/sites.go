package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// NewULID makes an identity that sorts by its time. Nothing is decided by that
// order: revisions order things.
func NewULID() string { return ulid.Make().String() }

// NewRequestID makes the identity of one intention.
func NewRequestID() RequestID { return RequestID(NewULID()) }

// getEntry reads one key.
func getEntry[T any](ctx context.Context, c *Client, key string) (Entry[T], error) {
	what := "read " + strings.TrimPrefix(key, Prefix)
	r, err := c.read(ctx, what, clientv3.OpGet(key))
	if err != nil {
		return Entry[T]{}, err
	}
	return entryAt[T](r, 0)
}

// entryAt is the key that the i-th get of a read found, if any.
func entryAt[T any](r *clientv3.TxnResponse, i int) (e Entry[T], err error) {
	for _, kv := range ranged(r, i) {
		err = entry(kv, &e)
	}
	return e, err
}

// Sites lists the sites of the cluster in the order in which they were made.
func (c *Client) Sites(ctx context.Context) ([]release.Site, error) {
	e, err := getEntry[Catalog](ctx, c, CatalogKey)
	return e.Value.Sites, err
}

// CreateSite makes a site (T0). Of a site that exists the error is a *Refusal
// with ClassExists.
func (c *Client) CreateSite(ctx context.Context, site release.Site, p Policy) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("create site %s: %w", site, err)
	}
	for {
		catalog, err := getEntry[Catalog](ctx, c, CatalogKey)
		if err != nil {
			return err
		}
		_, err = c.Commit(ctx, CreateSite(site, p, catalog))
		if RefusedBy(err) == ClassConflict { // another site came first
			continue
		}
		return err
	}
}

// Info says what cluster this is and where its objects are. ErrNotFound: Init
// has not been called.
func (c *Client) Info(ctx context.Context) (Info, error) {
	e, err := getEntry[Info](ctx, c, InfoKey)
	if err == nil && !e.Exists() {
		err = fmt.Errorf("the cluster's own entry %s: %w", InfoKey, ErrNotFound)
	}
	return e.Value, err
}

// Init writes down where the cluster's objects are. The id of a cluster that
// has one stays.
func (c *Client) Init(ctx context.Context, i Info) (Info, error) {
	if i.ID == "" {
		i.ID = NewULID()
	}
	for {
		have, err := getEntry[Info](ctx, c, InfoKey)
		if err != nil {
			return Info{}, err
		}
		if have.Exists() {
			i.ID = have.Value.ID
		}
		if have.Value == i {
			return i, nil
		}
		_, err = c.Commit(ctx, Txn{
			Name:   "write down what the cluster is",
			Guards: []Guard{unchanged(InfoKey, have.Mod, ClassConflict)},
			Ops:    []Op{put(InfoKey, i)},
		}.markLast())
		if errors.Is(err, ErrConflict) {
			continue
		}
		return i, err
	}
}

// History lists what was active, the newest first, at most limit epochs.
func (c *Client) History(ctx context.Context, site release.Site, limit int) ([]Active, error) {
	what := "read the history of " + string(site)
	r, err := c.read(ctx, what,
		clientv3.OpGet(ConfigKey(site), clientv3.WithCountOnly()),
		clientv3.OpGet(HistoryPrefix(site), clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)),
	)
	if err != nil {
		return nil, err
	}
	if r.Responses[0].GetResponseRange().Count == 0 {
		return nil, fmt.Errorf("site %s: %w", site, ErrNotFound)
	}
	var all []Active
	for _, kv := range ranged(r, 1) {
		var a Active
		if err := decode(string(kv.Key), kv.Value, &a); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, a)
	}
	return all, nil
}
