package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"relman/release"
)

// made is a release that a flip makes active, or that it has some visitors or
// nodes shown.
type made struct {
	held
	what  string // for messages
	group string // whose claims count, "" for all
	main  bool
}

// judgeFlip: what has to be so at a change of the active key.
func (s *site) judgeFlip(st *step) {
	s.report.Flips++
	key, old, a := st.active.key, s.active, st.active.now
	if a == nil {
		s.broken(I3, st, key, "it was deleted, at epoch %d", old.epoch())
		return
	}
	s.judgeEpoch(st, old, a)
	s.judgeSchedule(st, a)
	s.judgeLeads(st, a)
	s.judgeRevert(st, old, a)
	s.judgeFrozen(st, old, a)
	s.judgeOnce(st, a)
	s.judgeEnded(st, a)
	for _, m := range s.makes(old, a) {
		s.judgeReady(st, a, m)
		if v, is := s.verdicts[m.Release]; is && !s.forced(a, "verdict", v.mod) {
			s.broken(I11, st, key, "%s is %s", m.Release, v.text)
		}
	}
}

func (a *active) epoch() release.Epoch {
	if a == nil {
		return 0
	}
	return a.Epoch
}

// judgeEpoch: I3, and that history goes on from what was active.
func (s *site) judgeEpoch(st *step, old, a *active) {
	if st.astray = a.Epoch != old.epoch()+1; st.astray {
		s.broken(I3, st, st.active.key, "epoch %d follows epoch %d", a.Epoch, old.epoch())
	}
	if old == nil {
		return
	}
	if a.held == old.held { // a canary comes or goes
		if valueOf(a.Previous) != valueOf(old.Previous) {
			s.broken(I10, st, st.active.key, "the previous release is %s, not %s: nothing else became active", a.Previous, old.Previous)
		}
		return
	}
	kept := a.Previous != nil && (*a.Previous == old.held || old.pending(a.At) && old.Previous != nil && *a.Previous == *old.Previous)
	if !kept {
		s.broken(I10, st, st.active.key, "the previous release is %s, not %s: the buffer of what was active is not kept", a.Previous, &old.held)
	}
}

// mostAhead is how far ahead a flip may be scheduled.
const mostAhead = time.Hour

// judgeSchedule: I16.
func (s *site) judgeSchedule(st *step, a *active) {
	if a.ActivateAt == nil {
		return
	}
	if ahead := a.ActivateAt.Sub(a.At); ahead <= 0 || ahead > mostAhead {
		s.broken(I16, st, st.active.key, "it was made at %s and is scheduled for %s: that is not within %v after it",
			a.At.Format(time.RFC3339Nano), a.ActivateAt.Format(time.RFC3339Nano), mostAhead)
	}
}

func (h *held) String() string {
	if h == nil {
		return "none"
	}
	return fmt.Sprintf("%s in buffer %d", h.Release, h.Buffer)
}

// judgeLeads: I4, where the value says by whose leave it was written.
func (s *site) judgeLeads(st *step, a *active) {
	if a.Leader != 0 && st.leader != 0 && a.Leader != st.leader {
		s.broken(I4, st, st.active.key, "it was written by the leader elected at revision %d, when the one elected at %d led", a.Leader, st.leader)
	}
}

// judgeLeader: I4, as far as it can be seen of every write.
func (s *site) judgeLeader(st *step) {
	founding := s.policy == nil && st.policy != nil // T0 is an operator's
	if st.leader == 0 && len(st.ruled) > 0 && !founding && !s.forgets(st) {
		s.broken(I4, st, st.ruled[0], "no manager led")
	}
}

// forgets reports whether all that a step does of what only a leader may is to forget
// members that are out: that is an operator's.
func (s *site) forgets(st *step) bool {
	for _, m := range st.members {
		if m.now != nil || s.members[release.NodeID(m.name)].state != "out" {
			return false
		}
	}
	return st.roster && len(st.ruled) == len(st.members)+1
}

// judgeFrozen: I6.
func (s *site) judgeFrozen(st *step, old, a *active) {
	z := s.freeze
	if z == nil || z.AllowRollback && goesBack(old, a) || s.forced(a, "freeze", z.mod) {
		return
	}
	s.broken(I6, st, st.active.key, "a %s to %s while the site is frozen by %s: %s", a.Kind, a.Release, z.By, z.Reason)
}

// goesBack reports whether a flip takes something back: all of a release, or one
// that was tried out.
func goesBack(old, a *active) bool {
	return a.Kind == "rollback" || a.Kind == "revert" || old != nil && a.held == old.held && a.Canary == nil
}

// forced reports whether an operator has put a rule aside, and counts it. Of a freeze
// and a verdict it was the one of a revision, and not another one that came since.
func (s *site) forced(a *active, rule string, mod int64) bool {
	is := slices.Contains(a.Override, rule)
	switch q := valueOf(s.asked); rule {
	case "freeze":
		is = is && q.OverFreeze == mod
	case "verdict":
		is = is && q.OverVerdict == mod
	}
	if is {
		s.report.Forced++
	}
	return is
}

// carriedOnce reports whether a request of a kind leads to one flip at most.
// Others lead to several: a canary is promoted, or taken back.
func carriedOnce(kind string) bool {
	return slices.Contains([]string{"publish", "flip", "rollback"}, kind)
}

// judgeOnce: I7.
func (s *site) judgeOnce(st *step, a *active) {
	if a.Flip == "" {
		s.broken(I7, st, st.active.key, "it has no flip id")
	} else if before, is := s.flips[a.Flip]; is {
		s.broken(I7, st, st.active.key, "the flip %s has been %s", a.Flip, atRevision(before))
	}
	s.flips[a.Flip] = st.revision
	if !carriedOnce(a.Kind) {
		return
	}
	id := a.Kind + " " + a.Request
	if before, is := s.carried[id]; is {
		s.broken(I7, st, st.active.key, "the %s of request %s was carried out %s", a.Kind, a.Request, atRevision(before))
	}
	s.carried[id] = st.revision
}

func atRevision(n int64) string {
	if n == 0 {
		return "before the first revision that is known"
	}
	return fmt.Sprintf("at revision %d", n)
}

// judgeEnded: I11, of requests and rollouts. But for what the leader does by itself
// it carries out what was asked for last.
func (s *site) judgeEnded(st *step, a *active) {
	if q := valueOf(s.asked); a.Kind != "revert" && a.Request != q.Request {
		s.broken(I11, st, st.active.key, "it carries out request %s, and what was asked for is request %s", a.Request, q.Request)
	}
	if e, is := s.ended[a.Request]; is {
		s.broken(I11, st, st.active.key, "request %s was %s", a.Request, e)
	}
	if e, is := s.dead[a.Flip]; is {
		s.broken(I11, st, st.active.key, "the rollout with the flip %s was %s", a.Flip, e)
	}
}

// makes lists what a flip makes active. To take a canary back makes nothing
// active, and needs no claims.
func (s *site) makes(old, a *active) []made {
	var all []made
	ended := old != nil && old.Canary != nil && a.Canary == nil
	if c := a.Canary; c != nil {
		m := made{held: c.held, what: "canary"}
		if s.policy != nil && s.policy.Canary.Prepare == "group" {
			m.group = c.Group
		}
		all = append(all, m)
	}
	if old == nil || a.held != old.held || !ended && a.Canary == nil {
		all = append(all, made{held: a.held, what: "release", main: true})
	}
	return all
}

// judgeReady: I2 and I13. Claims are those before the flip.
func (s *site) judgeReady(st *step, a *active, m made) {
	claims, other := s.claimed(m)
	if len(other) > 0 {
		s.broken(I2, st, st.active.key, "the %s %s is not claimed by every member (%s)", m.what, &m.held, some(other))
	} else if claims == 0 {
		s.broken(I2, st, st.active.key, "nobody claims the %s %s", m.what, &m.held)
	}
	if claims == 0 || m.group != "" {
		return // a group is as large as it is
	}
	// A node may enter, with the release in hand, between the leader's count and
	// the flip: there can be more, and never fewer.
	if m.main && a.Quorum.Claims > claims {
		s.broken(I13, st, st.active.key, "it says that there were %d claims, there were %d", a.Quorum.Claims, claims)
	}
	s.judgeEnough(st, a, claims)
}

// claimed counts the claims of what is made active, and lists what else nodes that
// have entered say of its buffer.
func (s *site) claimed(m made) (claims int, other []string) {
	says := map[release.NodeID]int{}
	for at, what := range s.claims {
		if m.group != "" && at.group != m.group {
			continue
		}
		says[at.node] += 0 // it has entered, whatever it says of this buffer
		if at.buffer != m.Buffer {
			continue
		}
		says[at.node]++
		if what == string(m.Release) {
			claims++
		} else {
			other = append(other, fmt.Sprintf("%s: %s", at.node, what))
		}
	}
	for n, times := range says {
		if times == 0 {
			other = append(other, string(n)+" has none for the buffer")
		}
	}
	slices.Sort(other)
	return claims, other
}

// judgeEnough: I13, by the policy of that revision.
func (s *site) judgeEnough(st *step, a *active, claims int) {
	if s.policy == nil {
		s.broken(I13, st, st.active.key, "the site has no policy")
		return
	}
	registered := s.registered()
	need, err := s.policy.need(registered)
	switch {
	case err != nil:
		s.broken(I13, st, st.active.key, "%v", err)
	case claims < need && !s.forced(a, "require", 0):
		s.broken(I13, st, st.active.key, "%d of %d nodes claimed the release, the policy wants %d", claims, registered, need)
	}
}

// registered counts the nodes that a policy's percentage is about: the members
// that have entered, and those that were, also if they are out: to put nodes out
// must not lower the bar. A new one counts when it has entered.
func (s *site) registered() int {
	nodes := map[release.NodeID]bool{}
	for at := range s.claims {
		nodes[at.node] = true
	}
	for n, m := range s.members {
		if m.state != "in" || m.again {
			nodes[n] = true
		}
	}
	return len(nodes)
}

// some is the first few of a list.
func some(all []string) string {
	const most = 5
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, ", ")
}
