package cluster

import (
	"context"
	"time"

	"relman/release"
)

// uploadTTL is how long the marker of a publisher that died keeps a sweep away.
const uploadTTL = 15 * time.Minute

// UploadMarker says that a publisher is at work: no sweep begins while it
// stands, and no release is registered without it.
type UploadMarker struct {
	session *session
}

// upload is the value of a marker.
type upload struct {
	Since time.Time `json:"since"`
	Host  string    `json:"host"`
}

// BeginUpload puts up a marker and keeps it alive until Close. Its owner must
// call Close; after its death the marker goes by itself.
func (c *Client) BeginUpload(ctx context.Context, site release.Site, req RequestID, host string) (*UploadMarker, error) {
	s, err := c.session(ctx, uploadTTL)
	if err != nil {
		return nil, err
	}
	_, err = c.commit(ctx, Txn{
		Name:   "mark the upload to " + string(site),
		Guards: []Guard{present(ConfigKey(site), ClassConflict)},
		Ops:    []Op{put(UploadKey(site, req), upload{Since: time.Now().UTC().Truncate(time.Second), Host: host}).leased()},
	}.markLast(), s.Lease())
	if err != nil {
		_ = s.end(ctx)
		return nil, err
	}
	return &UploadMarker{session: s}, nil
}

// Close takes the marker down.
func (m *UploadMarker) Close(ctx context.Context) error { return m.session.end(ctx) }
