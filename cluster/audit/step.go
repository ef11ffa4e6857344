package audit

import (
	"fmt"
	"strconv"
	"strings"

	"relman/cluster"
	"relman/release"
)

// change is what a revision did to one value; now is nil when it is gone.
type change[T any] struct {
	key string
	now *T
}

// claimKey is a place for a claim.
type claimKey struct {
	buffer int
	group  string
	node   release.NodeID
}

// claimChange is a claim as a revision left it, "" when it was deleted.
type claimChange struct {
	key  string
	at   claimKey
	says string
}

// named is one of several values, as a revision left it.
type named[T any] struct {
	key, name string
	now       *T
}

// step is what one revision did to one site.
type step struct {
	revision int64
	leader   int64 // create revision of the key that led before it, 0 for none

	live map[release.NodeID]bool // nodes with a session before it

	active  *change[active]
	astray  bool // its epoch is not the next one
	rollout *change[rollout]
	asked   *change[asked]
	freeze  *change[freeze]
	policy  *change[policy]
	roster  bool // it was written

	confirmed, baked *change[release.Epoch]

	claims   []claimChange
	members  []named[member]
	verdicts []named[verdict]
	releases []named[record]
	results  []named[result]
	history  []named[active]

	lowered map[release.NodeID][]int // buffers that nodes say their disks cannot back
	ruled   []string                 // keys that only a leader writes
}

// take takes one change of the site's subtree. Keys that are not known are those
// of newer programs.
func (st *step) take(rest string, ch cluster.Change, report *Report, site release.Site) {
	kind, name, _ := strings.Cut(rest, "/")
	var err error
	switch kind {
	case "active":
		st.active, err = changeOf[active](ch)
		st.rule(ch)
	case "rollout":
		st.rollout, err = changeOf[rollout](ch)
		st.rule(ch)
	case "desired":
		st.asked, err = changeOf[asked](ch)
	case "freeze":
		if st.freeze, err = changeOf[freeze](ch); err == nil && !ch.Deleted {
			st.freeze.now.mod = ch.Mod
		}
	case "config":
		st.policy, err = changeOf[policy](ch)
	case "confirmed":
		st.confirmed, err = changeOf[release.Epoch](ch)
	case "baked":
		st.baked, err = changeOf[release.Epoch](ch)
		st.rule(ch)
	case "roster":
		st.roster = !ch.Deleted
		st.rule(ch)
	case "ready":
		err = st.takeClaim(name, ch)
	case "members":
		m := named[member]{key: ch.Key, name: name}
		if !ch.Deleted {
			m.now = &member{ch.Value, ch.Mod != ch.Create}
		}
		st.members = append(st.members, m)
		st.rule(ch)
	case "verdicts":
		v := named[verdict]{key: ch.Key, name: name}
		if !ch.Deleted {
			v.now = &verdict{ch.Value, ch.Mod}
		}
		st.verdicts = append(st.verdicts, v)
	case "releases":
		err = appendNamed(&st.releases, name, ch)
	case "results":
		err = appendNamed(&st.results, name, ch)
		st.rule(ch)
	case "skew":
		st.rule(ch)
	case "history":
		err = appendNamed(&st.history, name, ch)
		st.rule(ch)
	}
	if err != nil {
		report.add(Violation{Unreadable, site, st.revision, ch.Key, fmt.Sprintf("%v: %.200s", err, ch.Value)})
	}
}

// rule notes a key that only a leader writes.
func (st *step) rule(ch cluster.Change) { st.ruled = append(st.ruled, ch.Key) }

func (st *step) takeClaim(rest string, ch cluster.Change) error {
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return fmt.Errorf("no key of a claim")
	}
	k, err := strconv.Atoi(parts[0])
	if err != nil {
		return fmt.Errorf("no key of a claim: %w", err)
	}
	at := claimKey{k, parts[1], release.NodeID(parts[2])}
	if ch.Deleted {
		st.rule(ch)
		st.claims = append(st.claims, claimChange{ch.Key, at, ""})
		return nil
	}
	st.claims = append(st.claims, claimChange{ch.Key, at, ch.Value})
	return nil
}

func (st *step) takeLowered(n release.NodeID, ch cluster.Change) {
	l, err := read[lowered](ch.Value)
	if err != nil {
		return // it explains nothing, then
	}
	if st.lowered == nil {
		st.lowered = map[release.NodeID][]int{}
	}
	st.lowered[n] = l.Buffers
}

// changeOf reads the value of a change. One that cannot be read is no change.
func changeOf[T any](ch cluster.Change) (*change[T], error) {
	if ch.Deleted {
		return &change[T]{key: ch.Key}, nil
	}
	v, err := read[T](ch.Value)
	if err != nil {
		return nil, err
	}
	return &change[T]{ch.Key, v}, nil
}

func appendNamed[T any](to *[]named[T], name string, ch cluster.Change) error {
	c, err := changeOf[T](ch)
	if err == nil {
		*to = append(*to, named[T]{ch.Key, name, c.now})
	}
	return err
}
