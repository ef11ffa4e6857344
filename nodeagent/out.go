package nodeagent

import (
	"time"

	"relman/cluster"
)

// A node that drains is not ready any more, answers whoever still comes, and
// tells the leader once balancers have had the time to notice. Then it is out: it
// has no claims, nobody waits for it, and it goes on to follow what is active. What it
// needs to count again it does by itself; the leader lets it in.

// drains notes that the node is to drain. It is called with the lock, with the
// newest view.
func (s *site) drains(old cluster.NodeView) {
	m := s.view.Member
	if m.Value != cluster.MemberDrain || m.Mod == old.Member.Mod {
		return
	}
	s.log.Info("draining")
	s.drainedAt = time.Now()
	if s.wasIn { // before that, no balancer has sent anybody
		s.drainedAt = s.drainedAt.Add(s.cfg.DrainDelay)
		time.AfterFunc(s.cfg.DrainDelay, s.poke)
	}
}

// drained is the member entry that a drained node acknowledges, 0 for none. It
// is called with the lock.
func (s *site) drained(v cluster.NodeView) int64 {
	if v.Member.Value != cluster.MemberDrain || time.Now().Before(s.drainedAt) {
		return 0
	}
	return v.Member.Mod
}

// unclaim forgets the claims of a node that is out: whoever put it out has taken
// them, and so nothing that the node holds is spoken for.
func (s *site) unclaim(v cluster.NodeView) {
	if v.Member.Value == cluster.MemberOut {
		clear(s.claims)
		s.claiming, s.known = false, false
	}
}
