package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/cenkalti/backoff/v5"

	"relman/cluster"
)

// homeCluster is the cluster that a manager belongs to: the one that was
// configured, or the first one that it finds.
type homeCluster struct {
	info func(context.Context) (cluster.Info, error)

	mu sync.Mutex // guards id
	id string     // "": not known yet
}

// check is an error when etcd is that of another cluster. One that has no name yet
// is anybody's.
func (h *homeCluster) check(ctx context.Context) error {
	info, err := h.info(ctx)
	if errors.Is(err, cluster.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.id == "" {
		h.id = info.ID
	}
	if h.id == info.ID {
		return nil
	}
	return usagef("etcd is that of cluster %s, this manager belongs to %s", info.ID, h.id).
		withHint("name the right --endpoints, or the right --cluster-id")
}

// watch checks as soon as etcd answers, and ends the manager when it is in the
// wrong place.
func (h *homeCluster) watch(ctx context.Context, log *slog.Logger) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := h.check(ctx)
		if _, wrong := errors.AsType[*failure](err); wrong {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	h.mu.Lock()
	log.Debug("cluster found", "cluster", h.id)
	h.mu.Unlock()
	<-ctx.Done()
	return nil
}
