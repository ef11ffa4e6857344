package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Observe reads all that a decision about a site can rest on, in one
// transaction at one revision. ErrNotFound: there is no such site. A value of the
// site that does not parse is an error that names its key: nothing is decided on
// a part.
func (c *Client) Observe(ctx context.Context, site release.Site) (*View, error) {
	what := "observe " + string(site)
	// Not the whole subtree: the history is long and nothing rests on it.
	r, err := c.read(ctx, what,
		clientv3.OpGet(ActiveKey(site)), clientv3.OpGet(RolloutKey(site)), clientv3.OpGet(DesiredKey(site)),
		clientv3.OpGet(ConfigKey(site)), clientv3.OpGet(FreezeKey(site)), clientv3.OpGet(RosterKey(site)),
		clientv3.OpGet(SeqKey(site)), clientv3.OpGet(GCKey), clientv3.OpGet(ToldKey(site)), clientv3.OpGet(ConfirmedKey(site)), clientv3.OpGet(BakedKey(site)),
		clientv3.OpGet(ReleasesPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(VerdictsPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(ResultsPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(PinsPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(MembersPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(CordonsPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(ApprovalsPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(ReadyPrefix(site), clientv3.WithPrefix()),
		clientv3.OpGet(nodesPrefix, clientv3.WithPrefix()),
	)
	if err != nil {
		return nil, err
	}
	v := newView(site, r.Header.Revision)
	for i := range r.Responses {
		for _, kv := range ranged(r, i) {
			if err := v.take(kv); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	if !v.Policy.Exists() {
		return nil, fmt.Errorf("site %s: %w", site, ErrNotFound)
	}
	if err := v.Policy.Value.Validate(); err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", what, ConfigKey(site), err)
	}
	v.arrange()
	return v, nil
}

func newView(site release.Site, revision int64) *View {
	return &View{
		Site: site, Revision: revision,
		Releases: map[release.ID]Entry[ReleaseRecord]{},
		Verdicts: map[release.ID]Entry[string]{},
		Results:  map[RequestID]Result{},
		Pins:     map[release.ID]Entry[string]{},
		Members:  map[release.NodeID]Entry[Member]{},
		Cordons:  map[release.NodeID]Entry[Cordon]{},
		Approved: map[release.NodeID]bool{},
		Joins:    map[release.NodeID]Join{},
		Last:     map[release.NodeID]Entry[Last]{},
		Live:     map[release.NodeID]Live{},
		Status:   map[release.NodeID]Status{},
	}
}

// take puts one key in its place. Keys that this program does not know are
// those of a newer one.
func (v *View) take(kv *mvccpb.KeyValue) error {
	key := string(kv.Key)
	switch key {
	case ActiveKey(v.Site):
		return entry(kv, &v.Active)
	case RolloutKey(v.Site):
		return entry(kv, &v.Rollout)
	case DesiredKey(v.Site):
		return entry(kv, &v.Desired)
	case ConfigKey(v.Site):
		return entry(kv, &v.Policy)
	case FreezeKey(v.Site):
		return entry(kv, &v.Freeze)
	case RosterKey(v.Site):
		return entry(kv, &v.Roster)
	case SeqKey(v.Site):
		return entry(kv, &v.Seq)
	case GCKey:
		return entry(kv, &v.GC)
	case ToldKey(v.Site):
		return entry(kv, &v.Told)
	case ConfirmedKey(v.Site):
		return entry(kv, &v.Confirmed)
	case BakedKey(v.Site):
		return entry(kv, &v.Baked)
	}
	if rest, ok := strings.CutPrefix(key, nodesPrefix); ok {
		return v.takeNode(rest, kv)
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(key, SitePrefix(v.Site)), "/")
	switch kind {
	case "ready":
		return v.takeClaim(rest, kv)
	case "members":
		return v.takeMember(rest, kv)
	case "results":
		var r Result
		if err := decode(key, kv.Value, &r); err != nil {
			return err
		}
		v.Results[RequestID(rest)] = r
	case "cordons", "approvals":
		return v.takeWish(kind, rest, kv)
	case "releases", "verdicts", "pins":
		return v.takeRelease(kind, rest, kv)
	}
	return nil
}

func (v *View) takeRelease(kind, rest string, kv *mvccpb.KeyValue) error {
	id, err := release.ParseID(rest)
	if err != nil {
		return fmt.Errorf("read %s: %w", kv.Key, err)
	}
	switch kind {
	case "verdicts":
		v.Verdicts[id] = bareEntry(kv)
		return nil
	case "pins":
		v.Pins[id] = bareEntry(kv)
		return nil
	}
	var e Entry[ReleaseRecord]
	if err := entry(kv, &e); err != nil {
		return err
	}
	v.Releases[id] = e
	return nil
}

func (v *View) takeClaim(rest string, kv *mvccpb.KeyValue) error {
	k, g, n, ok := claimKeyParts(rest)
	if !ok {
		return fmt.Errorf("read %s: no key of a claim", kv.Key)
	}
	v.Claims = append(v.Claims, Claim{Node: n, Group: g, Buffer: k, Release: claimed(kv)})
	return nil
}

// claimed is the release that a claim names, "" for none. What is no release's name
// claims nothing, and no flip passes it: its guard compares what the key holds.
func claimed(kv *mvccpb.KeyValue) release.ID {
	id, err := release.ParseID(string(kv.Value))
	if err != nil {
		return ""
	}
	return id
}

func (v *View) takeMember(rest string, kv *mvccpb.KeyValue) error {
	n, err := release.ParseNodeID(rest)
	if err != nil {
		return fmt.Errorf("read %s: %w", kv.Key, err)
	}
	e, err := memberEntry(kv)
	v.Members[n] = e
	return err
}

func memberEntry(kv *mvccpb.KeyValue) (Entry[Member], error) {
	m := Member(kv.Value)
	if m != MemberIn && m != MemberDrain && m != MemberOut {
		return Entry[Member]{}, fmt.Errorf("read %s: %q is none of %q, %q and %q", kv.Key, m, MemberIn, MemberDrain, MemberOut)
	}
	return Entry[Member]{Value: m, Mod: kv.ModRevision, Create: kv.CreateRevision}, nil
}

func (v *View) takeNode(rest string, kv *mvccpb.KeyValue) error {
	name, kind, _ := strings.Cut(rest, "/")
	n, err := release.ParseNodeID(name)
	if err != nil {
		return fmt.Errorf("read %s: %w", kv.Key, err)
	}
	// What a node says of itself it may say wrongly: then it is as if it had said
	// nothing, and the other nodes' site goes on.
	switch kind {
	case "live":
		decodeInto(kv, v.Live, n)
	case "join":
		decodeInto(kv, v.Joins, n)
	case "last":
		v.Last[n] = lastEntry(kv)
	case "status/" + string(v.Site):
		decodeInto(kv, v.Status, n)
	}
	return nil
}

// arrange sorts the claims and leaves only the nodes that are for this site. A member
// is, whatever its own join says.
func (v *View) arrange() {
	slices.SortFunc(v.Claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Buffer, b.Buffer), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Node, b.Node))
	})
	for n, j := range v.Joins {
		if !j.For(v.Site) {
			delete(v.Joins, n)
		}
	}
	others := func(n release.NodeID) bool {
		_, joined := v.Joins[n]
		_, member := v.Members[n]
		return !joined && !member
	}
	deleteNodes(v.Live, others)
	deleteNodes(v.Status, others)
	deleteNodes(v.Last, others)
}

func deleteNodes[T any](of map[release.NodeID]T, which func(release.NodeID) bool) {
	maps.DeleteFunc(of, func(n release.NodeID, _ T) bool { return which(n) })
}

// entry reads a key's value with its revisions.
func entry[T any](kv *mvccpb.KeyValue, e *Entry[T]) error {
	if p, ok := any(&e.Value).(*uint64); ok { // bare decimal
		n, err := strconv.ParseUint(string(kv.Value), 10, 64)
		if err != nil {
			return fmt.Errorf("read %s: %q is no number", kv.Key, kv.Value)
		}
		*p = n
	} else if err := decode(string(kv.Key), kv.Value, &e.Value); err != nil {
		return err
	}
	e.Mod, e.Create = kv.ModRevision, kv.CreateRevision
	return nil
}

// bareEntry is an entry that is no JSON.
func bareEntry(kv *mvccpb.KeyValue) Entry[string] {
	return Entry[string]{Value: string(kv.Value), Mod: kv.ModRevision, Create: kv.CreateRevision}
}

func decodeInto[K comparable, T any](kv *mvccpb.KeyValue, into map[K]T, at K) {
	var v T
	if decode(string(kv.Key), kv.Value, &v) == nil {
		into[at] = v
	}
}
