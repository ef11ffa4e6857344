package cluster

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Register makes a release part of its site (T1): build stores the manifest
// of the release with a sequence number and says its id and record. When
// another release took that number first, build is called again with the next.
//
// It waits for a sweep of the store that is under way. A *Refusal with
// ClassSweeping says that one began meanwhile: what was uploaded has to be
// looked at again; one with ClassUploadExpired, that the upload's marker has
// run out, which comes to the same.
func (c *Client) Register(ctx context.Context, site release.Site, req RequestID, build func(seq uint64) (release.ID, ReleaseRecord, error)) (release.ID, error) {
	for {
		seq, gc, err := c.turn(ctx, site)
		if err != nil {
			return "", err
		}
		id, rec, err := build(seq.Value + 1)
		if err != nil {
			return "", err
		}
		rec.Request = req
		_, err = c.Commit(ctx, Register(site, seq, gc, id, rec))
		if RefusedBy(err) == ClassConflict {
			continue
		}
		if err != nil {
			return "", err
		}
		return id, nil
	}
}

// turn reads the site's last sequence number while no sweep is under way.
func (c *Client) turn(ctx context.Context, site release.Site) (Entry[uint64], Entry[GC], error) {
	const look = time.Second
	what := "register a release of " + string(site)
	for {
		r, err := c.read(ctx, what, clientv3.OpGet(SeqKey(site)), clientv3.OpGet(GCKey))
		if err != nil {
			return Entry[uint64]{}, Entry[GC]{}, err
		}
		seq, err := entryAt[uint64](r, 0)
		if err != nil {
			return seq, Entry[GC]{}, fmt.Errorf("%s: %w", what, err)
		}
		if !seq.Exists() {
			return seq, Entry[GC]{}, fmt.Errorf("site %s: %w", site, ErrNotFound)
		}
		gc, err := entryAt[GC](r, 1)
		if err != nil {
			return seq, gc, fmt.Errorf("%s: %w", what, err)
		}
		if gc.Value.Phase != GCSweep {
			return seq, gc, nil
		}
		if !sleep(ctx, jittered(look)) {
			return seq, gc, fmt.Errorf("%s: a sweep of the store is under way since %s: %w", what, gc.Value.Since.Format(time.RFC3339), ctx.Err())
		}
	}
}
