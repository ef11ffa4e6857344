package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// ForgetAtOnce bounds the releases that one transaction forgets: etcd takes 128
// comparisons.
const ForgetAtOnce = 50

// BeginSweep is T17a: a sweep of the object store begins, and g.ID owns it. gc
// was read while no sweep was under way. No publisher is at work at the revision
// of the commit: what one has found in the store is swept under nobody's feet.
func BeginSweep(gc Entry[GC], g GC) Txn {
	g.Gen, g.Phase, g.Holds = gc.Value.Gen+1, GCSweep, 0
	return Txn{
		Name: "begin a sweep of the store",
		Guards: []Guard{
			unchanged(GCKey, gc.Mod, ClassSweeping),
			allAbsent(uploadsPrefix, ClassUploading),
		},
		Ops: []Op{put(GCKey, g)},
	}.markLast()
}

// AwaitSweep writes down, in a cluster that has never been swept, from when on
// the time until the first sweep counts. It keeps clear of publishers: one whose
// marker stands would have to begin anew.
func AwaitSweep(at time.Time) Txn {
	return Txn{
		Name: "set the time of the first sweep",
		Guards: []Guard{
			absent(GCKey, ClassSweeping),
			allAbsent(uploadsPrefix, ClassUploading),
		},
		Ops: []Op{put(GCKey, GC{Phase: GCIdle, Since: at})},
	}.markLast()
}

// HoldSweep proves that a sweep still is its owner's: own is what the owner
// wrote last. Its revision is the next own's.
func HoldSweep(own Entry[GC]) Txn {
	return Txn{
		Name:   "hold the sweep of the store",
		Guards: []Guard{unchanged(GCKey, own.Mod, ClassSweeping)},
		Ops:    []Op{put(GCKey, own.Value.held())},
	}.markLast()
}

// held is what the owner of a sweep writes next: never the same twice, so that
// an outcome that was not known is recognised.
func (g GC) held() GC {
	g.Holds++
	return g
}

// Forget is T17b: releases are no longer part of their site; their objects may
// go from then on, and not before. v shows that nothing refers to them, and what
// could begin to has not moved since: a release becomes active, or is rolled
// out, or comes to be held, only after somebody asked for it; and nobody has
// pinned it. It holds the sweep too.
func Forget(own Entry[GC], v *View, ids []release.ID) Txn {
	t := Txn{
		Name: fmt.Sprintf("forget %d releases of %s", len(ids), v.Site),
		Guards: []Guard{
			unchanged(GCKey, own.Mod, ClassSweeping),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
			unchanged(DesiredKey(v.Site), v.Desired.Mod, ClassConflict),
		},
	}
	for _, id := range ids {
		t.Guards = append(t.Guards,
			created(ReleaseKey(v.Site, id), v.Releases[id].Create, ClassReleaseGone),
			absent(PinKey(v.Site, id), ClassConflict))
		t.Ops = append(t.Ops, remove(ReleaseKey(v.Site, id)), remove(VerdictKey(v.Site, id)))
	}
	t.Ops = append(t.Ops, put(GCKey, own.Value.held()))
	return t.markLast()
}

// EndSweep is T17c: the owner of a sweep, or one that has seen it rest for
// longer than an owner's deletions can last, ends it. Publishers go on.
func EndSweep(own Entry[GC], at time.Time) Txn {
	g := own.Value
	g.Phase, g.Since = GCIdle, at
	return Txn{
		Name:   "end the sweep of the store",
		Guards: []Guard{unchanged(GCKey, own.Mod, ClassSweeping)},
		Ops:    []Op{put(GCKey, g)},
	}.markLast()
}

// GC reads the state of the sweep.
func (c *Client) GC(ctx context.Context) (Entry[GC], error) { return getEntry[GC](ctx, c, GCKey) }

// Uploading is a publisher at work.
type Uploading struct {
	Site    release.Site
	Request RequestID
	Host    string
	Since   time.Time
}

// Uploads lists the publishers at work.
func (c *Client) Uploads(ctx context.Context) ([]Uploading, error) {
	r, err := c.read(ctx, "list the publishers at work", clientv3.OpGet(uploadsPrefix, clientv3.WithPrefix()))
	if err != nil {
		return nil, err
	}
	var all []Uploading
	for _, kv := range ranged(r, 0) {
		// What a marker says only says who: one that cannot be read stands all
		// the same.
		var u upload
		_ = decode(string(kv.Key), kv.Value, &u)
		site, req, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), uploadsPrefix), "/")
		all = append(all, Uploading{release.Site(site), RequestID(req), u.Host, u.Since})
	}
	return all, nil
}
