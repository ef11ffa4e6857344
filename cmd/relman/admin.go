package main

import (
	"context"
	"errors"
	"fmt"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// addSite makes a site, and says so of one that is there already. With a
// store it first writes down, in a cluster that knows of none, where its
// objects are.
func addSite(ctx context.Context, client *cluster.Client, site release.Site, p cluster.Policy, store string) (added bool, err error) {
	if store != "" {
		if err := nameStore(ctx, client, store); err != nil {
			return false, err
		}
	}
	err = client.CreateSite(ctx, site, p)
	if cluster.RefusedBy(err) == cluster.ClassExists {
		return false, nil
	}
	return err == nil, err
}

// nameStore writes down where the cluster's objects are, if it does not know.
// A store that does not answer is not written down.
func nameStore(ctx context.Context, client *cluster.Client, store string) error {
	_, err := client.Info(ctx)
	if !errors.Is(err, cluster.ErrNotFound) {
		return err
	}
	st, err := openStore(cluster.Info{}, store)
	if err != nil {
		return err
	}
	if _, err := st.Stat(ctx, "packs/none"); err != nil && !errors.Is(err, objectstore.ErrNotFound) {
		return fmt.Errorf("ask the store: %w", err)
	}
	_, err = client.Init(ctx, cluster.Info{Store: store})
	return err
}

// initBucket makes the store's bucket and writes down where it is.
func initBucket(ctx context.Context, client *cluster.Client, store string) (url string, err error) {
	info, err := client.Info(ctx)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return "", err
	}
	st, err := openStore(info, store)
	if err != nil {
		return "", err
	}
	if err := st.EnsureBucket(ctx); err != nil {
		return "", err
	}
	if store == "" {
		return info.Store, nil
	}
	_, err = client.Init(ctx, cluster.Info{Store: store})
	return store, err
}
