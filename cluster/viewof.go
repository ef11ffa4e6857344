package cluster

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"relman/release"
)

// ViewOf is what Observe would read if these were all of relman's keys. It is
// for those who have the keys already, or make them up, as a model does.
func ViewOf(site release.Site, revision int64, pairs []Pair) (*View, error) {
	v := newView(site, revision)
	for _, p := range pairs {
		if err := v.take(p.keyValue()); err != nil {
			return nil, fmt.Errorf("view of %s: %w", site, err)
		}
	}
	v.arrange()
	return v, nil
}

// NodeViewOf is what a node would follow, and know of its own claims and turn, if
// these were all of relman's keys.
func NodeViewOf(site release.Site, self Self, revision int64, pairs []Pair) (NodeView, error) {
	at := map[string]*mvccpb.KeyValue{}
	for _, p := range pairs {
		at[p.Key] = p.keyValue()
	}
	v, err := nodeView(site, revision, []*mvccpb.KeyValue{
		at[ActiveKey(site)], at[RolloutKey(site)], at[MemberKey(site, self.Node)],
		at[ServingKey(site)], at[SecretKey(site)], at[InfoKey],
	})
	if err != nil {
		return v, fmt.Errorf("view of %s on %s: %w", site, self.Node, err)
	}
	v.ClaimMods = make([]int64, MaxBuffers)
	for k := range v.ClaimMods {
		if kv := at[ClaimKey(site, k, self.Group, self.Node)]; kv != nil {
			v.ClaimMods[k] = kv.ModRevision
		}
	}
	if kv := at[TurnKey(self.Node, site)]; kv != nil {
		v.Turn = kv.ModRevision
	}
	return v, nil
}

func (p Pair) keyValue() *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(p.Key), Value: []byte(p.Value), ModRevision: p.Mod, CreateRevision: p.Create}
}
