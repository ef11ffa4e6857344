package audit

import (
	"fmt"
	"strconv"

	"relman/release"
)

// site is the state of one site, and what is remembered of what led to it.
type site struct {
	name   release.Site
	report *Report

	active   *active
	rollout  *rollout
	asked    *asked
	freeze   *freeze
	policy   *policy
	claims   map[claimKey]string
	members  map[release.NodeID]member
	verdicts map[release.ID]verdict
	releases map[release.ID]record

	confirmed, baked release.Epoch // the last ones, 0 for none

	results map[string]result
	history map[release.Epoch]active

	flips   map[string]int64  // flip ids, and the revisions at which they flipped
	carried map[string]int64  // requests with their kinds that were carried out
	ended   map[string]ending // requests that must not become active any more
	dead    map[string]ending // flip ids of rollouts that must not
}

// member is a node that counts, or did.
type member struct {
	state string
	again bool // it was something else before
}

// ending is how and when something ended.
type ending struct {
	revision int64
	how      string
}

func (e ending) String() string { return fmt.Sprintf("%s at revision %d", e.how, e.revision) }

func newSite(name release.Site, report *Report) *site {
	return &site{
		name: name, report: report,
		claims: map[claimKey]string{}, members: map[release.NodeID]member{},
		verdicts: map[release.ID]verdict{}, releases: map[release.ID]record{}, results: map[string]result{}, history: map[release.Epoch]active{},
		flips: map[string]int64{}, carried: map[string]int64{}, ended: map[string]ending{}, dead: map[string]ending{},
	}
}

// broken notes a violation.
func (s *site) broken(i Invariant, st *step, key, format string, args ...any) {
	s.report.add(Violation{i, s.name, st.revision, key, fmt.Sprintf(format, args...)})
}

// judge compares a step with the state that it was made on.
func (s *site) judge(st *step) {
	s.judgeLeader(st)
	s.judgeClaims(st)
	s.judgeRoster(st)
	s.judgeOut(st)
	s.judgeResults(st)
	s.judgeHistory(st)
	if st.active != nil {
		s.judgeFlip(st)
	}
	s.judgeRollout(st)
}

// look looks at the state that a step has led to.
func (s *site) look(st *step) {
	s.lookBuffers(st)
	s.lookHistory(st)
	s.lookReleases(st)
}

// apply makes the step's values the state.
func (s *site) apply(st *step) {
	if st.active != nil {
		s.active = st.active.now
	}
	if st.rollout != nil {
		s.rollout = st.rollout.now
	}
	if st.asked != nil {
		s.asked = st.asked.now
	}
	if st.freeze != nil {
		s.freeze = st.freeze.now
	}
	if st.policy != nil {
		s.policy = st.policy.now
	}
	if st.confirmed != nil {
		s.confirmed = valueOf(st.confirmed.now)
	}
	if st.baked != nil {
		s.baked = valueOf(st.baked.now)
	}
	for _, c := range st.claims {
		if c.says == "" {
			delete(s.claims, c.at)
		} else {
			s.claims[c.at] = c.says
		}
	}
	for _, m := range st.members {
		set(s.members, release.NodeID(m.name), m.now)
	}
	for _, v := range st.verdicts {
		set(s.verdicts, release.ID(v.name), v.now)
	}
	for _, r := range st.releases {
		set(s.releases, release.ID(r.name), r.now)
	}
	for _, r := range st.results {
		set(s.results, r.name, r.now)
		if r.now != nil && r.now.lost() {
			s.ended[r.name] = ending{st.revision, r.now.State}
		}
	}
	for _, h := range st.history {
		set(s.history, epochOf(h.name), h.now)
	}
}

func set[K comparable, V any](m map[K]V, k K, v *V) {
	if v == nil {
		delete(m, k)
		return
	}
	m[k] = *v
}

// valueOf is what v points to, nothing for nil.
func valueOf[T any](v *T) (value T) {
	if v != nil {
		value = *v
	}
	return value
}

// epochOf reads the name of a history key, 0 for none.
func epochOf(name string) release.Epoch {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		return 0
	}
	return release.Epoch(n)
}

// remember takes from a state what can be known of the past: which flips there
// were, as far as history is kept.
func (s *site) remember() {
	for _, a := range s.history {
		s.flips[a.Flip] = 0
		if carriedOnce(a.Kind) {
			s.carried[a.Kind+" "+a.Request] = 0
		}
	}
}
