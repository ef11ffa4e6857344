package main

import (
	"time"

	"relman/cluster"
)

func tryOut(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.TryOut, Release: rel(r), Canary: cluster.Audience{Share: 500}})
}

func promote(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.Promote, Release: rel(r)})
}

func endCanary(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.EndCanary, Release: rel(r)})
}

func scheduled(who actor, id cluster.RequestID, r uint64) wish {
	return ask(who, cluster.Desired{Request: id, Mode: cluster.Publish, Release: rel(r), SwapInMS: time.Minute.Milliseconds()})
}

// shown: release 2 is a canary in buffer 1.
func shown(st *store, at int32, _ *state) int32 {
	a := st.view(at).Active.Value
	a.Canary = &cluster.Canary{Release: rel(2), Buffer: 1, Audience: cluster.Audience{Share: 500}, Since: 1}
	return st.put(at, cluster.ActiveKey(www), a)
}

// due: the time of what was scheduled comes. A flip that was decided while
// another one was pending is taken to have ended by then: no transaction can compare a
// time.
func due() event {
	return event{"the time that was scheduled comes", func(x *explorer, s *state) bool {
		a := x.view(s.etcd).Active.Value
		for _, who := range []actor{manager0, manager1, late} {
			if t := x.store.all[s.flights[who].txn]; t != nil && t.kind == "Flip" {
				return false
			}
		}
		ok := !s.due && a.Pending(noon)
		s.due = true
		return ok
	}}
}

// canaryWorlds are about canaries and flips that are scheduled.
func canaryWorlds() []*world {
	return []*world{
		{
			name: "a canary, and its end", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{tryOut(operator0, "R1", 2), endCanary(operator1, "R2", 2)}, only: rollouts,
		},
		{
			name: "a canary is promoted or ended", nodes: 1, giveUp: true, lose: true,
			begin:  setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}, more: shown}.begin,
			wishes: []wish{promote(operator0, "R1", 2), endCanary(operator1, "R2", 2)},
			events: []event{election()}, only: []string{"Flip", "End"},
		},
		{
			name: "a canary, and a publisher", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 2, 2: 3}}.begin,
			wishes: []wish{tryOut(operator0, "R1", 2), publish(operator1, "R2", 3)}, only: []string{"Flip", "End", "StartRollout"},
		},
		{
			name: "a canary, and what is only prepared", nodes: 1,
			begin: setting{nodes: 1, releases: 4, claims: map[int]uint64{1: 2, 2: 4}, more: shown}.begin,
			wishes: []wish{
				ask(operator1, cluster.Desired{Request: "R1", Mode: cluster.Publish, Release: rel(3), Hold: true}),
				endCanary(operator0, "R2", 2),
			},
			only: rollouts,
		},
		{
			name: "a canary that a node loses", nodes: 1, copies: true,
			begin:  setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}, more: shown}.begin,
			wishes: []wish{promote(operator0, "R1", 2)},
			events: []event{damage(0, 1), damage(0, 0)}, only: with(nodes, []string{"Flip", "End", "StartRollout"}),
		},
		{
			name: "a canary of what has to be undone", nodes: 1,
			begin: setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}, more: func(st *store, at int32, s *state) int32 {
				at = shown(st, at, s)
				return st.put(at, cluster.FreezeKey(www), cluster.Freeze{By: "ops", At: noon, AllowRollback: true})
			}}.begin,
			wishes: []wish{endCanary(operator0, "R1", 2), freeze(operator1, strict), judgeRelease(operator1, rel(2), cluster.Bad, "")},
			only:   []string{"Flip", "End"},
		},
		{
			name: "a canary, and a trial", nodes: 1, giveUp: true,
			begin:  trial(cluster.Policy{}),
			wishes: []wish{tryOut(operator0, "R1", 3), confirm(operator1)}, only: []string{"Revert", "Flip", "End"},
		},
		{
			name: "a flip that is scheduled, and another one", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 2, 2: 3}}.begin,
			wishes: []wish{scheduled(operator0, "R1", 2), publish(operator1, "R2", 3)},
			events: []event{due()}, only: []string{"Flip", "End"},
		},
		{
			name: "a flip that is scheduled, and a rollback", nodes: 2,
			begin:  setting{nodes: 2, releases: 3, previous: true, claims: map[int]uint64{2: 3}}.begin,
			wishes: []wish{scheduled(operator0, "R1", 3), rollback(operator1, "R2", 2)},
			events: []event{due()}, only: rollouts,
		},
		{
			name: "a flip that is scheduled, and a rollout", nodes: 1, copies: true,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{scheduled(operator0, "R1", 2), scheduled(operator1, "R2", 3)},
			events: []event{due()}, only: rollouts,
		},
	}
}
