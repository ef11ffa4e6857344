package cluster

import (
	"context"
	"fmt"

	"relman/release"
)

// Register makes what was uploaded under a marker a release of its site (T1):
// build stores the manifest of the release with a sequence number and says its
// id and record. When another release took that number first, build is called
// again with the next.
//
// A *Refusal with ClassSweeping says that a sweep of the store has begun since
// the marker was put up, and one with ClassUploadExpired, that the marker has
// run out. Either way nothing that is known of the store holds any longer: the
// upload has to be done again under a new marker.
func (c *Client) Register(ctx context.Context, m *UploadMarker, build func(seq uint64) (release.ID, ReleaseRecord, error)) (release.ID, error) {
	for {
		seq, err := getEntry[uint64](ctx, c, SeqKey(m.Site))
		if err == nil && !seq.Exists() {
			err = fmt.Errorf("site %s: %w", m.Site, ErrNotFound)
		}
		if err != nil {
			return "", err
		}
		id, rec, err := build(seq.Value + 1)
		if err != nil {
			return "", err
		}
		rec.Request = m.Request
		_, err = c.Commit(ctx, Register(m.Site, seq, m.GC, id, rec))
		if RefusedBy(err) == ClassConflict {
			continue
		}
		if err != nil {
			return "", err
		}
		return id, nil
	}
}
