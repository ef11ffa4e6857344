package audit

import (
	"slices"

	"relman/release"
)

// noClaim is what a claim says that claims nothing.
const noClaim = "-"

// leastBuffers is how many claims a node has at least.
const leastBuffers = 3

// judgeClaims: I12. A claim that what is active, or was before, rests on stays.
// It may go with its node (T9), or because the node's disk cannot back it: the
// node says so beside it (T11a), or writes all its claims anew (T11).
func (s *site) judgeClaims(st *step) {
	for _, c := range st.claims {
		was, is := s.claims[c.at]
		if !is || was == c.says || !s.needs(c.at.buffer, was) {
			continue
		}
		switch {
		case c.says == "":
			if s.stays(st, c.at.node) {
				s.broken(I12, st, c.key, "the claim of %s, which is needed, was deleted, and %s is still a member", was, c.at.node)
			}
		case c.says == noClaim && (slices.Contains(st.lowered[c.at.node], c.at.buffer) || s.enters(st, c.at.node)):
			s.report.Lowered++
		default:
			s.broken(I12, st, c.key, "%s took back its claim of %s, which is needed, for %q", c.at.node, was, c.says)
		}
	}
}

// needs reports whether a claim is one that what is shown rests on.
func (s *site) needs(buffer int, says string) bool {
	return slices.Contains(s.active.needed(), held{release.ID(says), buffer})
}

// stays reports whether a node is a member after a step as it was before.
func (s *site) stays(st *step, n release.NodeID) bool {
	state := s.members[n].state
	for _, m := range st.members {
		if release.NodeID(m.name) == n {
			if m.now == nil {
				return false
			}
			state = m.now.state
		}
	}
	return state == "in" || state == "drain"
}

// enters reports whether a node writes all its claims at once.
func (s *site) enters(st *step, n release.NodeID) bool {
	writes, has := 0, map[claimKey]bool{}
	for at := range s.claims {
		if at.node == n {
			has[at] = true
		}
	}
	for _, c := range st.claims {
		if c.at.node == n && c.says != "" {
			writes++
			delete(has, c.at)
		}
	}
	return len(has) == 0 && writes >= leastBuffers
}

// judgeOut: I8. A member that takes traffic is not put out, but drained before.
func (s *site) judgeOut(st *step) {
	for _, m := range st.members {
		n := release.NodeID(m.name)
		if s.members[n].state == "in" && (m.now == nil || m.now.state == "out") && st.live[n] {
			s.broken(I8, st, m.key, "%s was put out, and it was live and had not been drained", n)
		}
	}
}

// judgeRoster: I13. Who counts a quorum compares the roster: no claim goes
// without its node, and no member, unless that changes too.
func (s *site) judgeRoster(st *step) {
	if st.roster {
		return
	}
	for _, c := range st.claims {
		if _, was := s.claims[c.at]; was && c.says == "" {
			s.broken(I13, st, c.key, "a claim was deleted, and the roster does not say so")
			return
		}
	}
	for _, m := range st.members {
		was := s.members[release.NodeID(m.name)].state
		if (was == "in" || was == "drain") && (m.now == nil || m.now.state == "out") {
			s.broken(I13, st, m.key, "a member was removed, and the roster does not say so")
			return
		}
	}
}
