package main

import (
	"relman/cluster"
	"relman/release"
)

// What leaders and nodes decide on in most worlds.
var (
	rollouts = []string{"StartRollout", "Flip", "End", "Retract", "ClaimReady"}
	nodes    = []string{"Retract", "ClaimReady", "Enter", "Lower"}
	trials   = []string{"Revert", "Flip", "Lower"}
	members  = []string{"Drain", "Out", "Admit", "Enter", "Lower"}
)

func with(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var strict = &cluster.Freeze{By: "ops", At: noon}

func worlds() []*world {
	all := requestWorlds()
	all = append(all, nodeWorlds()...)
	all = append(all, memberWorlds()...)
	all = append(all, canaryWorlds()...)
	all = append(all, largeWorlds()...)
	all = append(all, operatorWorlds()...)
	return append(all, storeWorlds()...)
}

// requestWorlds are about what is asked for, rolled out and flipped.
func requestWorlds() []*world {
	needsTwo := policy(func(p *cluster.Policy) { p.Min = "2" })
	live := policy(func(p *cluster.Policy) { p.RequireLive = true })
	return []*world{
		{
			name: "flip, two nodes, a second leader", nodes: 2, lose: true,
			begin:  setting{nodes: 2, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{election()}, only: rollouts,
		},
		{
			name: "flip and abort", nodes: 1, giveUp: true, copies: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2), abort(operator1, "R2")}, only: rollouts,
		},
		{
			name: "two publishers", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 3}.begin,
			wishes: []wish{publish(operator0, "R1", 2), publish(operator1, "R2", 3)}, only: rollouts,
		},
		{
			name: "flip and freeze", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2), freeze(operator1, strict), freeze(operator1, nil)}, only: rollouts,
		},
		{
			name: "rollout and freeze", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2), freeze(operator1, strict), freeze(operator1, nil)}, only: rollouts,
		},
		{
			name: "rollback through a freeze", nodes: 1, giveUp: true,
			begin: setting{nodes: 1, releases: 3, previous: true, more: func(st *store, at int32, s *state) int32 {
				return st.put(at, cluster.FreezeKey(www), cluster.Freeze{By: "ops", At: noon, AllowRollback: true})
			}}.begin,
			wishes: []wish{rollback(operator0, "R1", 1), freeze(operator1, strict)}, only: rollouts,
		},
		{
			name: "publish and rollback over a freeze", nodes: 1,
			begin: setting{nodes: 1, releases: 3, more: func(st *store, at int32, s *state) int32 {
				return st.put(at, cluster.FreezeKey(www), strict)
			}}.begin,
			wishes: []wish{overriding(operator0, "R1", 2, cluster.OverrideFreeze), freeze(operator1, &cluster.Freeze{By: "dev", At: noon})}, only: rollouts,
		},
		{
			name: "flip and verdict", nodes: 1,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2), judgeRelease(operator1, rel(2), cluster.Bad, "")}, only: rollouts,
		},
		{
			name: "flip over a verdict", nodes: 1,
			begin: setting{nodes: 1, releases: 2, more: func(st *store, at int32, s *state) int32 {
				return st.put(at, cluster.VerdictKey(www, rel(2)), "bad slow")
			}}.begin,
			wishes: []wish{overriding(operator0, "R1", 2, cluster.OverrideVerdict), judgeRelease(operator1, rel(2), cluster.Yanked, "")}, only: rollouts,
		},
		{
			name: "flip and policy", nodes: 1,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2), setPolicy(operator1, needsTwo)}, only: rollouts,
		},
		{
			name: "flip and a node that is put out", nodes: 2, giveUp: true,
			begin:  setting{nodes: 2, releases: 2, policy: needsTwo, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{crash(1), silence(1)}, only: []string{"Flip", "Out"},
		},
		{
			name: "flip of nodes that have to live", nodes: 1,
			begin:  setting{nodes: 1, releases: 2, policy: live, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{crash(0), silence(0), start(0)}, only: []string{"Flip"},
		},
		{
			name: "flip and a release that goes", nodes: 1, hand: true,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{forget(2)}, only: []string{"Flip", "End"},
		},
		{
			name: "trial", nodes: 1, giveUp: true,
			begin:  trial(cluster.Policy{}),
			wishes: []wish{confirm(operator0), confirm(operator1), judgeRelease(operator1, rel(1), cluster.Bad, ""), freeze(operator1, strict)},
			events: []event{election()}, only: []string{"Revert"},
		},
		{
			name: "trial and a publisher", nodes: 1, giveUp: true,
			begin:  trial(cluster.Policy{}),
			wishes: []wish{confirm(operator0), publish(operator0, "R1", 3), setPolicy(operator1, needsTwo)},
			events: []event{election()}, only: []string{"Revert", "Flip"},
		},
		{
			name: "bake and a publisher", nodes: 1, giveUp: true, copies: true,
			begin:  setting{nodes: 1, releases: 3, previous: true, claims: map[int]uint64{2: 3}, more: baking}.begin,
			wishes: []wish{publish(operator0, "R1", 3)},
			events: []event{election()}, only: []string{"Revert", "Flip", "EndBake"},
		},
		{
			name: "trial and a disk that is lost", nodes: 1,
			begin:  trial(cluster.Policy{}),
			events: []event{crash(0), loseDisk(0), start(0)}, only: trials,
		},
		{
			name: "trial and a node that is put out", nodes: 2, giveUp: true,
			begin:  trial(needsTwo),
			events: []event{crash(1), silence(1)}, only: []string{"Revert", "Out"},
		},
		{
			name: "trial of nodes that have to live", nodes: 1,
			begin:  trial(live),
			events: []event{crash(0), silence(0)}, only: trials,
		},
		{
			name: "trial and releases that go", nodes: 1, hand: true,
			begin:  trial(cluster.Policy{}),
			events: []event{forget(1), forget(2)}, only: trials,
		},
		{
			name: "trial through a freeze", nodes: 1,
			begin: setting{nodes: 1, releases: 3, previous: true, more: func(st *store, at int32, s *state) int32 {
				at = onTrial(st, at)
				return st.put(at, cluster.FreezeKey(www), cluster.Freeze{By: "ops", At: noon, AllowRollback: true})
			}}.begin,
			wishes: []wish{freeze(operator1, strict)}, only: trials,
		},
	}
}

// trial: release 2 is on trial, and 3 is held, too.
func trial(p cluster.Policy) func(*store) state {
	nodes := 1
	if p.Min == "2" {
		nodes = 2
	}
	return setting{policy: p, nodes: nodes, releases: 3, previous: true, claims: map[int]uint64{2: 3}, more: func(st *store, at int32, s *state) int32 {
		return onTrial(st, at)
	}}.begin
}

func onTrial(st *store, at int32) int32 {
	a := st.view(at).Active.Value
	a.ConfirmBy = noon
	at = st.put(at, cluster.ResultKey(www, a.Request), cluster.Result{State: cluster.StateActive, Release: a.Release, Epoch: a.Epoch, At: noon})
	return st.put(at, cluster.ActiveKey(www), a)
}

// baking: release 2 bakes.
func baking(st *store, at int32, _ *state) int32 {
	a := st.view(at).Active.Value
	a.Bake = &cluster.Bake{Seconds: 60, MostBadNodes: "0"}
	return st.put(at, cluster.ActiveKey(www), a)
}

// nodeWorlds are about nodes that die, lose what they have, and come back.
func nodeWorlds() []*world {
	return []*world{
		{
			name: "rollouts that follow each other", nodes: 1, copies: true,
			begin:  setting{nodes: 1, releases: 4, previous: true, claims: map[int]uint64{2: 3}}.begin,
			wishes: []wish{publish(operator0, "R1", 4), abort(operator0, "R2")}, only: rollouts,
		},
		{
			name: "a node dies in a rollout", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2)},
			events: []event{crash(0), loseDisk(0), start(0)}, only: with(nodes, []string{"StartRollout", "Flip"}),
		},
		{
			name: "a node gives up a buffer and dies", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 3}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)},
			events: []event{crash(0), start(0)}, only: with(nodes, []string{"StartRollout"}),
		},
		{
			name: "a tree is damaged in a rollout", nodes: 1, giveUp: true, copies: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2)},
			events: []event{damage(0, 1), damage(0, 0)}, only: with(nodes, []string{"StartRollout", "Flip"}),
		},
		{
			name: "a node takes a turn, and drains", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2)},
			events: []event{crash(0), start(0)}, only: []string{"StartRollout", "ClaimReady", "Drain"},
		},
		{
			name: "a node makes room for what is active", nodes: 1,
			begin:  setting{nodes: 1, releases: 3, previous: true, claims: map[int]uint64{2: 3}}.begin,
			wishes: []wish{publish(operator0, "R1", 3)},
			events: []event{damage(0, 1)}, only: []string{"Lower", "Flip"}, makesRoom: true,
		},
		{
			name: "a node makes room, and a rollout starts", nodes: 2,
			begin: setting{nodes: 2, releases: 3, previous: true, claims: map[int]uint64{2: 3}, more: func(st *store, at int32, s *state) int32 {
				s.nodes[1].disk[2] = 0
				return st.put(at, cluster.ClaimKey(www, 2, release.DefaultGroup, "n1"), cluster.NoClaim)
			}}.begin,
			wishes: []wish{publish(operator0, "R1", 3)},
			events: []event{damage(0, 1)}, only: []string{"Lower", "StartRollout"}, makesRoom: true,
		},
		{
			name: "a node drains while it repairs", nodes: 1,
			begin:  setting{nodes: 1, releases: 2, previous: true}.begin,
			events: []event{damage(0, 1)}, only: []string{"Lower", "Enter", "Drain", "Out", "Admit"},
		},
		{
			name: "a tree is damaged and restored, and a rollback", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2, previous: true}.begin,
			wishes: []wish{rollback(operator0, "R1", 1)},
			events: []event{damage(0, 0), crash(0), start(0)}, only: with(nodes, []string{"Flip"}),
		},
	}
}

// memberWorlds are about who counts.
func memberWorlds() []*world {
	approval := policy(func(p *cluster.Policy) { p.Admission = cluster.AdmitApproved })
	two := policy(func(p *cluster.Policy) { p.MostOutNodes = "2" })
	none := policy(func(p *cluster.Policy) { p.MostOutNodes = "0" })
	return []*world{
		{
			name: "out after the fence", nodes: 2, giveUp: true,
			begin:  setting{nodes: 2, releases: 1}.begin,
			events: []event{cut(1), fence(1), silence(1), heal(1), cut(1), silence(1), election()},
			only:   []string{"Out"},
		},
		{
			name: "drain, out, and back", nodes: 2, giveUp: true,
			begin:  setting{nodes: 2, releases: 1}.begin,
			events: []event{election()}, only: []string{"Drain", "Out", "Admit", "Enter"},
		},
		{
			name: "two nodes are silent", nodes: 2, giveUp: true,
			begin:  setting{nodes: 2, releases: 1}.begin,
			events: []event{cut(0), cut(1), fence(0), fence(1), silence(0), silence(1)}, only: []string{"Out"},
		},
		{
			name: "a node drains in a rollout", nodes: 1,
			begin:  setting{nodes: 1, releases: 3, claims: map[int]uint64{1: 3}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, only: []string{"StartRollout", "Retract", "ClaimReady", "Drain", "Out", "Admit", "Enter"},
		},
		{
			name: "a node is removed and comes back", nodes: 2, giveUp: true,
			begin: setting{nodes: 1, releases: 1, policy: two, more: func(st *store, at int32, s *state) int32 {
				at = newcomer(st, at, s)
				s.nodes[1].up = false
				at = st.drop(at, cluster.LiveKey("n1"))
				return st.put(at, cluster.MemberKey(www, "n1"), string(cluster.MemberOut))
			}}.begin,
			wishes: []wish{removeNode(operator1, "n1")},
			events: []event{start(1), crash(1), silence(1)}, only: []string{"Admit", "Drain"},
		},
		{
			name: "drain and policy", nodes: 2,
			begin:  setting{nodes: 2, releases: 1}.begin,
			wishes: []wish{setPolicy(operator0, none)},
			events: []event{cut(1), fence(1), silence(1)}, only: []string{"Drain", "Out"},
		},
		{
			name: "a node is admitted in a rollout", nodes: 2,
			begin:  setting{nodes: 1, releases: 2, more: newcomer}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{election()},
			only: with(rollouts, []string{"Admit", "Enter"}),
		},
		{
			name: "admission", nodes: 2, giveUp: true,
			begin: setting{nodes: 1, releases: 1, more: newcomer}.begin,
			wishes: []wish{
				setPolicy(operator0, approval), cordon(operator0, "n1", &cluster.Cordon{By: "ops", At: noon}),
				removeNode(operator1, "n1"), approve(operator0, "n1"),
			},
			events: []event{cut(1), silence(1), heal(1)}, only: []string{"Admit", "Enter"},
		},
		{
			name: "admission by approval", nodes: 2, giveUp: true,
			begin: setting{policy: approval, nodes: 1, releases: 1, more: func(st *store, at int32, s *state) int32 {
				at = newcomer(st, at, s)
				return st.put(at, cluster.MemberKey(www, "n1"), string(cluster.MemberOut))
			}}.begin,
			wishes: []wish{removeNode(operator1, "n1"), approve(operator0, "n1"), approve(operator1, "n1")},
			events: []event{cut(1), silence(1), heal(1)}, only: []string{"Admit", "Enter"},
		},
	}
}

// newcomer: n1 runs, lives, has asked to join, and is empty.
func newcomer(st *store, at int32, s *state) int32 {
	self := selfOf(1, 0)
	s.nodes[1] = node{up: true, learnt: true, free: 7}
	at = st.put(at, cluster.LiveKey(self.Node), self.Live)
	at = st.put(at, cluster.LastKey(self.Node), cluster.Last{Boot: self.Live.Boot})
	return st.put(at, cluster.JoinKey(self.Node), cluster.Join{Sites: nil, Group: self.Group})
}

// operatorWorlds are about operators who do not know of each other.
func operatorWorlds() []*world {
	more := policy(func(p *cluster.Policy) { p.Min = "2" })
	wait := policy(func(p *cluster.Policy) { p.Stragglers = cluster.StragglersWait })
	return []*world{
		{
			name: "two operators", begin: setting{releases: 1}.begin,
			wishes: []wish{
				freeze(operator0, strict), freeze(operator1, &cluster.Freeze{By: "dev", At: noon}),
				setPolicy(operator0, more), setPolicy(operator1, wait),
				cordon(operator0, "n0", &cluster.Cordon{By: "ops", At: noon}), cordon(operator1, "n0", &cluster.Cordon{By: "dev", At: noon}),
			},
		},
		{
			name: "two judges, and a release that goes", hand: true, begin: setting{releases: 2}.begin,
			wishes: []wish{
				judgeRelease(operator0, rel(2), cluster.Bad, ""), judgeRelease(operator1, rel(2), cluster.Yanked, ""), judgeRelease(operator1, rel(2), "", ""),
				pin(operator0, rel(2), "ours"), pin(operator1, rel(2), "theirs"), pin(operator1, rel(2), ""),
			},
			events: []event{forget(2)},
		},
		{
			name: "a freeze that ends", giveUp: true, begin: setting{releases: 1}.begin,
			wishes: []wish{freeze(operator0, &cluster.Freeze{By: "ops", At: noon, Until: noon}), freeze(operator1, strict)},
			events: []event{election()}, only: []string{"Thaw"},
		},
		{
			name: "hooks that are told", nodes: 1, giveUp: true,
			begin:  setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{election()}, only: []string{"NoteTold", "Flip"},
		},
		{
			name: "what is noted and trimmed", nodes: 1, lose: true,
			begin:  setting{nodes: 1, releases: 2, claims: map[int]uint64{1: 2}}.begin,
			wishes: []wish{publish(operator0, "R1", 2)}, events: []event{election()}, only: []string{"Flip", "TrimHistory", "NoteSkew", "Tick"},
		},
	}
}
