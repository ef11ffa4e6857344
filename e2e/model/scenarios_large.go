package main

// largeWorlds put together what the others have one by one.
func largeWorlds() []*world {
	return []*world{
		{
			name: "large: two nodes that die, two leaders", nodes: 2, lose: true, copies: true, giveUp: true, mostGivenUp: 3, large: true,
			begin:  setting{nodes: 2, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2), abort(operator1, "R2")},
			events: []event{election(), crash(0), start(0)}, only: with(nodes, rollouts),
		},
		{
			name: "large: a freeze, a rollback, a disk that is lost", nodes: 1, lose: true, copies: true, giveUp: true, mostGivenUp: 3, large: true,
			begin:  setting{nodes: 1, releases: 3, previous: true}.begin,
			wishes: []wish{publish(operator0, "R1", 3), rollback(operator1, "R2", 1), freeze(operator1, strict), freeze(operator1, nil)},
			events: []event{crash(0), loseDisk(0), start(0)}, only: with(nodes, rollouts),
		},
		{
			name: "large: nodes are put out in a rollout", nodes: 2, copies: true, giveUp: true, mostGivenUp: 3, large: true,
			begin:  setting{nodes: 2, releases: 2}.begin,
			wishes: []wish{publish(operator0, "R1", 2)},
			events: []event{election(), cut(1), fence(1), silence(1), heal(1)}, only: with(rollouts, members),
		},
		{
			name: "large: a canary, publishers, a damaged tree", nodes: 1, lose: true, copies: true, giveUp: true, mostGivenUp: 3, large: true,
			begin:  setting{nodes: 1, releases: 3}.begin,
			wishes: []wish{tryOut(operator0, "R1", 2), publish(operator1, "R2", 3), endCanary(operator0, "R3", 2), promote(operator1, "R4", 2)},
			events: []event{crash(0), loseDisk(0), start(0)}, only: with(nodes, rollouts),
		},
	}
}
