package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Ask asks for something, on the ground of v (T2). A *Refusal with
// ClassConflict means that somebody else asked since v was read.
func (c *Client) Ask(ctx context.Context, v *View, d Desired) (int64, error) {
	rev, err := c.Commit(ctx, Request(v, d))
	if !errors.Is(err, ErrConflict) {
		return rev, err
	}
	// The answer to the copy that committed may be what was lost, and others
	// may have asked since: then the request's own traces tell.
	at, took, rerr := c.asked(ctx, v.Site, d.Request)
	switch {
	case rerr != nil:
		return 0, fmt.Errorf("ask for %s of %s: %w: %w", d.Mode, v.Site, ErrUnknown, rerr)
	case took:
		return at, nil
	}
	return 0, err
}

// asked reports whether a request was ever taken: it stands, has its result, or
// is known to the one that took its place.
func (c *Client) asked(ctx context.Context, site release.Site, id RequestID) (rev int64, took bool, err error) {
	r, err := c.read(ctx, "look for request "+string(id), clientv3.OpGet(DesiredKey(site)), clientv3.OpGet(ResultKey(site, id)))
	if err != nil {
		return 0, false, err
	}
	d, err := entryAt[Desired](r, 0)
	if err != nil {
		return 0, false, err
	}
	res, err := entryAt[Result](r, 1)
	took = d.Value.Request == id || slices.Contains(d.Value.Replaces, id) || res.Exists()
	return r.Header.Revision, took, err
}

// SetFreeze forbids flips, or allows them again when z is nil (T12). It is
// refused when v's freeze is no longer the one that stands.
func (c *Client) SetFreeze(ctx context.Context, v *View, z *Freeze) error {
	_, err := c.Commit(ctx, SetFreeze(v.Site, v.Freeze, z))
	return err
}
