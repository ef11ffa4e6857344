package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"relman/cluster"
	"relman/release"
)

const site release.Site = "www"

// value reads the value of a pair, once.
func value[T any](p *pair) T {
	if p.value == nil {
		v := new(T)
		if n, is := any(v).(*uint64); is {
			u, err := strconv.ParseUint(p.Value, 10, 64)
			if err != nil {
				panic(fmt.Sprintf("%s: %v", p.Key, err))
			}
			*n = u
		} else if err := json.Unmarshal([]byte(p.Value), v); err != nil {
			panic(fmt.Sprintf("%s: %v: %s", p.Key, err, p.Value))
		}
		p.value = *v
	}
	return p.value.(T)
}

// entry reads a pair, which may be nil.
func entry[T any](p *pair) (e cluster.Entry[T]) {
	if p != nil {
		e.Value, e.Mod, e.Create = value[T](p), p.Mod, p.Create
	}
	return e
}

// bareEntry is one that is no JSON.
func bareEntry(p *pair) cluster.Entry[string] {
	return cluster.Entry[string]{Value: p.Value, Mod: p.Mod, Create: p.Create}
}

func get[T any](e *etcd, key string) cluster.Entry[T] { return entry[T](e.pairs[key]) }

// member reads a member entry, which may be nil.
func memberOf(p *pair) (e cluster.Entry[cluster.Member]) {
	if p != nil {
		e.Value, e.Mod, e.Create = cluster.Member(p.Value), p.Mod, p.Create
	}
	return e
}

// observe is cluster.Client.Observe at the current revision. Nobody changes what it
// returns.
func (e *etcd) observe() *cluster.View {
	if e.view != nil {
		return e.view
	}
	v := &cluster.View{
		Site: site, Revision: e.rev,
		Active:    get[cluster.Active](e, cluster.ActiveKey(site)),
		Rollout:   get[cluster.Rollout](e, cluster.RolloutKey(site)),
		Desired:   get[cluster.Desired](e, cluster.DesiredKey(site)),
		Policy:    get[cluster.Policy](e, cluster.ConfigKey(site)),
		Freeze:    get[cluster.Freeze](e, cluster.FreezeKey(site)),
		Roster:    get[cluster.Roster](e, cluster.RosterKey(site)),
		Seq:       get[uint64](e, cluster.SeqKey(site)),
		GC:        get[cluster.GC](e, cluster.GCKey),
		Told:      get[uint64](e, cluster.ToldKey(site)),
		Baked:     get[uint64](e, cluster.BakedKey(site)),
		Confirmed: get[uint64](e, cluster.ConfirmedKey(site)),
		Releases:  map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
		Verdicts:  map[release.ID]cluster.Entry[string]{},
		Results:   map[cluster.RequestID]cluster.Result{},
		Pins:      map[release.ID]cluster.Entry[string]{},
		Members:   map[release.NodeID]cluster.Entry[cluster.Member]{},
		Cordons:   map[release.NodeID]cluster.Entry[cluster.Cordon]{},
		Approved:  map[release.NodeID]bool{},
		Joins:     map[release.NodeID]cluster.Join{},
		Last:      map[release.NodeID]cluster.Entry[cluster.Last]{},
		Live:      map[release.NodeID]cluster.Live{},
		Status:    map[release.NodeID]cluster.Status{},
	}
	for _, k := range e.under(cluster.SitePrefix(site)) {
		e.takeSite(v, k, e.pairs[k])
	}
	for _, k := range e.under(cluster.Prefix + "nodes/") {
		e.takeNode(v, k, e.pairs[k])
	}
	slices.SortFunc(v.Claims, func(a, b cluster.Claim) int {
		return cmp.Or(cmp.Compare(a.Buffer, b.Buffer), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Node, b.Node))
	})
	e.view = v
	return v
}

func (e *etcd) takeSite(v *cluster.View, key string, p *pair) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(key, cluster.SitePrefix(site)), "/")
	switch kind {
	case "releases":
		v.Releases[release.ID(name)] = entry[cluster.ReleaseRecord](p)
	case "verdicts":
		v.Verdicts[release.ID(name)] = bareEntry(p)
	case "pins":
		v.Pins[release.ID(name)] = bareEntry(p)
	case "results":
		v.Results[cluster.RequestID(name)] = value[cluster.Result](p)
	case "members":
		v.Members[release.NodeID(name)] = memberOf(p)
	case "cordons":
		v.Cordons[release.NodeID(name)] = entry[cluster.Cordon](p)
	case "approvals":
		v.Approved[release.NodeID(name)] = true
	case "ready":
		c := cluster.Claim{Buffer: int(name[0] - '0'), Release: release.ID(p.Value)}
		group, node, _ := strings.Cut(name[2:], "/")
		c.Group, c.Node = release.Group(group), release.NodeID(node)
		if p.Value == cluster.NoClaim {
			c.Release = ""
		}
		v.Claims = append(v.Claims, c)
	}
}

func (e *etcd) takeNode(v *cluster.View, key string, p *pair) {
	name, kind, _ := strings.Cut(strings.TrimPrefix(key, cluster.Prefix+"nodes/"), "/")
	n := release.NodeID(name)
	switch kind {
	case "live":
		v.Live[n] = value[cluster.Live](p)
	case "join":
		v.Joins[n] = value[cluster.Join](p)
	case "last":
		v.Last[n] = entry[cluster.Last](p)
	case "status/" + string(site):
		v.Status[n] = value[cluster.Status](p)
	}
}
