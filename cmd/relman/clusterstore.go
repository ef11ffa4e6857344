package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"relman/cluster"
	"relman/objectstore"
)

// clusterStore is the store that the cluster names, found when it is first
// needed: an agent starts, and serves what it holds, while etcd is away.
type clusterStore struct {
	info func(context.Context) (cluster.Info, error)
	url  string // instead of the cluster's, if not empty
	log  *slog.Logger

	mu    sync.Mutex // guards found, held while the cluster is asked
	found objectstore.Store
}

// find asks the cluster once.
func (s *clusterStore) find(ctx context.Context) (objectstore.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found != nil {
		return s.found, nil
	}
	info := cluster.Info{}
	if s.url == "" {
		var err error
		if info, err = s.info(ctx); err != nil {
			return nil, fmt.Errorf("find the store: %w: %w", objectstore.ErrUnavailable, err)
		}
	}
	st, err := openStore(info, s.url)
	if err != nil {
		return nil, err
	}
	s.found = objectstore.Retry(st, s.log)
	return s.found, nil
}

// openStore opens the store at url with the credentials of the environment,
// or, without a url, the cluster's own with what the cluster says.
func openStore(info cluster.Info, url string) (*objectstore.S3, error) {
	var creds objectstore.Credentials
	if url == "" {
		url = info.Store
		creds = objectstore.Credentials{AccessKey: info.AccessKey, SecretKey: info.SecretKey}
	}
	if url == "" {
		return nil, fmt.Errorf("%w: the cluster names no store: give one with --store", cluster.ErrNotFound)
	}
	u, err := objectstore.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return objectstore.OpenS3(u, creds)
}

// Unwrap is objectstore.Wrapper.
func (s *clusterStore) Unwrap(ctx context.Context) (objectstore.Store, error) { return s.find(ctx) }

// Put is objectstore.Store.
func (s *clusterStore) Put(ctx context.Context, key string, body []byte, create bool) error {
	st, err := s.find(ctx)
	if err != nil {
		return err
	}
	return st.Put(ctx, key, body, create)
}

// Get is objectstore.Store.
func (s *clusterStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	st, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	return st.Get(ctx, key, offset, length)
}

// Stat is objectstore.Store.
func (s *clusterStore) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	st, err := s.find(ctx)
	if err != nil {
		return objectstore.Info{}, err
	}
	return st.Stat(ctx, key)
}

// List is objectstore.Store.
func (s *clusterStore) List(ctx context.Context, prefix string, each func(objectstore.Info) error) error {
	st, err := s.find(ctx)
	if err != nil {
		return err
	}
	return st.List(ctx, prefix, each)
}

// Delete is objectstore.Store.
func (s *clusterStore) Delete(ctx context.Context, key string) error {
	st, err := s.find(ctx)
	if err != nil {
		return err
	}
	return st.Delete(ctx, key)
}
