package main

import (
	"fmt"

	"relman/cluster"
	"relman/release"
)

// storeWorlds are about what is in the object store, and what is told of it.
func storeWorlds() []*world {
	idle := func(st *store, at int32, s *state) int32 {
		s.sweep.objects = 3
		return st.put(at, cluster.GCKey, cluster.GC{Phase: cluster.GCIdle, Since: noon})
	}
	return []*world{
		{
			name: "publish and sweep", stores: true, publishes: true, sweepers: 1, giveUp: true,
			begin:  setting{releases: 2, more: idle}.begin,
			events: []event{markerEnds(), sweeperDies(0)},
		},
		{
			name: "publish again and sweep", stores: true, publishes: true, sweepers: 1, giveUp: true, tries: 2,
			begin:  setting{releases: 2, more: idle}.begin,
			events: []event{markerEnds(), sweeperDies(0)},
		},
		{
			name: "publish and two who sweep", stores: true, publishes: true, sweepers: 2,
			begin:  setting{releases: 2, more: idle}.begin,
			events: []event{markerEnds(), sweeperDies(0)},
		},
		{
			name: "two who sweep", stores: true, sweepers: 2, giveUp: true,
			begin: setting{releases: 2, more: idle}.begin,
		},
		{
			name: "rollout and sweep", nodes: 1, stores: true, sweepers: 1,
			begin:  setting{nodes: 1, releases: 2, more: idle}.begin,
			wishes: []wish{publish(operator0, "R1", 2), pin(operator1, rel(2), "mine")}, only: rollouts,
		},
		{
			name: "two register", giveUp: true, lose: true,
			begin: setting{releases: 1, more: func(st *store, at int32, s *state) int32 {
				at = st.put(at, cluster.UploadKey(www, "U0"), "{}")
				return st.put(at, cluster.UploadKey(www, "U1"), "{}")
			}}.begin,
			wishes: []wish{register(operator0, 0), register(operator1, 1)},
		},
		{
			name: "the first sweep", stores: true, sweepers: 1,
			begin: setting{releases: 1, more: func(st *store, at int32, s *state) int32 { s.sweep.objects = 3; return at }}.begin,
			wishes: []wish{
				await(operator0), await(operator1),
				{kind: "MarkUpload", who: operator0, decide: func(v *cluster.View) *cluster.Txn {
					t := cluster.MarkUpload(www, "U0", "host", noon)
					return &t
				}},
			},
			events: []event{{"a hand removes the site", func(x *explorer, s *state) bool {
				s.etcd = x.drop(s.etcd, cluster.ConfigKey(www))
				return true
			}}},
		},
		{
			name: "sites are created", begin: func(st *store) state { return state{etcd: st.put(0, cluster.InfoKey, cluster.Info{ID: "c"})} },
			wishes: []wish{create(operator0, www), create(operator1, www), create(operator1, "blog")},
		},
	}
}

func register(who actor, i int) wish {
	return wish{kind: "Register", who: who, decide: func(v *cluster.View) *cluster.Txn {
		seq := v.Seq.Value + 1
		id := release.NewID(seq, release.Sum([]byte(fmt.Sprint("of ", i))))
		t := cluster.Register(www, v.Seq, v.GC, id, cluster.ReleaseRecord{Created: noon, Request: cluster.RequestID(fmt.Sprint("U", i))})
		return &t
	}}
}

func await(who actor) wish {
	return wish{kind: "AwaitSweep", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if v.GC.Exists() {
			return nil
		}
		t := cluster.AwaitSweep(noon)
		return &t
	}}
}

func create(who actor, site release.Site) wish {
	return wish{kind: "CreateSite", who: who, decide: func(v *cluster.View) *cluster.Txn {
		if site == www && v.Policy.Exists() {
			return nil
		}
		t := cluster.CreateSite(site, cluster.DefaultPolicy(), cluster.Entry[cluster.Catalog]{})
		return &t
	}}
}
