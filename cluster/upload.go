package cluster

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// uploadTTL is how long the marker of a publisher that died keeps a sweep away.
const uploadTTL = 15 * time.Minute

// UploadMarker says that a publisher is at work: no sweep begins while it
// stands, and no release is registered without it.
type UploadMarker struct {
	Site    release.Site
	Request RequestID
	// GC is the state of the sweep, idle, when the marker stood already. What the
	// publisher learnt of the store after that no sweep has touched, if GC is
	// still so at T1.
	GC Entry[GC]
	// Active is what was active then: whole in the store.
	Active Entry[Active]

	session *session
}

// upload is the value of a marker.
type upload struct {
	Since time.Time `json:"since"`
	Host  string    `json:"host"`
}

// MarkUpload says that a publisher is at work, under its lease.
func MarkUpload(site release.Site, req RequestID, host string, since time.Time) Txn {
	return Txn{
		Name:   "mark the upload to " + string(site),
		Guards: []Guard{present(ConfigKey(site), ClassConflict)},
		Ops:    []Op{put(UploadKey(site, req), upload{Since: since, Host: host}).leased()},
	}.markLast()
}

// BeginUpload puts up a marker and keeps it alive until Close. Its owner must
// call Close; after its death the marker goes by itself. Nothing that was learnt
// of the store before it returns holds any longer.
//
// It waits for a sweep of the store that is under way; waiting, if not nil, is
// told once of it.
func (c *Client) BeginUpload(ctx context.Context, site release.Site, req RequestID, host string, waiting func(GC)) (*UploadMarker, error) {
	s, err := c.session(ctx, uploadTTL)
	if err != nil {
		return nil, err
	}
	m := &UploadMarker{Site: site, Request: req, session: s}
	_, err = c.commit(ctx, MarkUpload(site, req, host, time.Now().UTC().Truncate(time.Second)), s.Lease())
	if err == nil {
		err = m.awaitIdle(ctx, c, waiting)
	}
	if err != nil {
		_ = s.end(ctx) // it runs out by itself
		return nil, err
	}
	return m, nil
}

// awaitIdle reads the sweep's state until there is none under way. The marker
// stands by then: from that revision on no sweep begins.
func (m *UploadMarker) awaitIdle(ctx context.Context, c *Client, waiting func(GC)) error {
	const look = 200 * time.Millisecond
	what := "upload to " + string(m.Site)
	for {
		r, err := c.read(ctx, what, clientv3.OpGet(GCKey), clientv3.OpGet(ActiveKey(m.Site)))
		if err != nil {
			return err
		}
		if m.GC, err = entryAt[GC](r, 0); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if m.Active, err = entryAt[Active](r, 1); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		g := m.GC.Value
		if g.Phase != GCSweep {
			return nil
		}
		if waiting != nil {
			waiting(g)
			waiting = nil
		}
		if !sleep(ctx, jittered(look)) {
			return fmt.Errorf("%s: a sweep of the store by %s is under way since %s: %w", what, g.By, g.Since.Format(time.RFC3339), ctx.Err())
		}
	}
}

// Close takes the marker down.
func (m *UploadMarker) Close(ctx context.Context) error { return m.session.end(ctx) }
