package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"relman/release"
)

// SetPolicy is T16: other rules from now on. A flip that was decided by the old
// ones does not commit any more.
func SetPolicy(site release.Site, now Entry[Policy], p Policy) Txn {
	return Txn{
		Name:   "change the policy of " + string(site),
		Guards: []Guard{unchanged(ConfigKey(site), now.Mod, ClassPolicyChanged)},
		Ops:    []Op{put(ConfigKey(site), p)},
	}.markLast()
}

// Policy reads a site's policy.
func (c *Client) Policy(ctx context.Context, site release.Site) (Entry[Policy], error) {
	e, err := getEntry[Policy](ctx, c, ConfigKey(site))
	if err == nil && !e.Exists() {
		err = fmt.Errorf("site %s: %w", site, ErrNotFound)
	}
	return e, err
}

// SetPolicy changes a site's policy: change is given what is, and called again
// where somebody else changed it meanwhile.
func (c *Client) SetPolicy(ctx context.Context, site release.Site, change func(*Policy) error) (Policy, error) {
	for {
		e, err := c.Policy(ctx, site)
		if err != nil {
			return Policy{}, err
		}
		next := e.Value
		if err := change(&next); err != nil {
			return Policy{}, err
		}
		if err := next.Validate(); err != nil {
			return Policy{}, err
		}
		if next.Buffers < e.Value.Buffers {
			// What is active or previous may be in one of those that would go.
			return Policy{}, fmt.Errorf("policy: buffers is %d, it can only grow from %d", next.Buffers, e.Value.Buffers)
		}
		if encode(next) == encode(e.Value) {
			return next, nil
		}
		_, err = c.Commit(ctx, SetPolicy(site, e, next))
		if !errors.Is(err, ErrConflict) {
			return next, err
		}
	}
}

// SetCordon says that a node is to be out, or may count again when c is nil. It
// is refused when v's cordon is no longer the one that stands.
func SetCordon(v *View, n release.NodeID, c *Cordon) Txn {
	t := Txn{
		Name:   fmt.Sprintf("cordon %s of %s", n, v.Site),
		Guards: []Guard{unchanged(CordonKey(v.Site, n), v.Cordons[n].Mod, ClassConflict)},
	}
	if c == nil {
		t.Name = fmt.Sprintf("uncordon %s of %s", n, v.Site)
		t.Ops = []Op{remove(CordonKey(v.Site, n))}
		return t
	}
	t.Ops = []Op{put(CordonKey(v.Site, n), c)}
	return t.markLast()
}

// Approve lets a new node become a member of a site that wants that.
func Approve(site release.Site, n release.NodeID, a Approval) Txn {
	return Txn{
		Name:   fmt.Sprintf("approve of %s for %s", n, site),
		Guards: []Guard{absent(MemberKey(site, n), ClassExists)},
		Ops:    []Op{put(ApprovalKey(site, n), a)},
	}.markLast()
}

// removeAtOnce bounds the sites in which one transaction forgets a node: there are six
// keys in each.
const removeAtOnce = 20

// RemoveNode forgets a node that will not come back, in all of its sites, whose
// views these are, and then the node itself. It counts nowhere: it is out, and is not
// live. Of the transactions each is carried out after the one before; a node of a few
// sites needs one.
func RemoveNode(n release.NodeID, views []*View) []Txn {
	var all []Txn
	for part := range slices.Chunk(views, removeAtOnce) {
		t := Txn{Name: "remove node " + string(n), Guards: []Guard{absent(LiveKey(n), ClassConflict)}}
		for _, v := range part {
			t.Guards = append(t.Guards,
				unchanged(MemberKey(v.Site, n), v.Members[n].Mod, ClassConflict),
				unchanged(RosterKey(v.Site), v.Roster.Mod, ClassRosterChanged))
			t.Ops = append(t.Ops,
				remove(MemberKey(v.Site, n)), remove(CordonKey(v.Site, n)), remove(ApprovalKey(v.Site, n)),
				remove(TurnKey(n, v.Site)), remove(LoweredKey(n, v.Site)),
				nextRoster(v, "remove "+string(n))) // what a quorum is measured by has changed
		}
		all = append(all, t.markLast())
	}
	if len(all) > 0 {
		last := &all[len(all)-1]
		last.Ops = slices.Insert(last.Ops, 0, remove(JoinKey(n)), remove(LastKey(n)))
		*last = last.markLast()
	}
	return all
}

// Verdict judges a release.
type Verdict string

// What a release can be judged to be.
const (
	Bad    Verdict = "bad"    // it does not work
	Yanked Verdict = "yanked" // it must not be shown
)

// SetVerdict judges a release, as v shows it, so that no flip to it commits; ""
// takes the verdict back.
func SetVerdict(v *View, id release.ID, verdict Verdict, why string) Txn {
	key := VerdictKey(v.Site, id)
	t := Txn{
		Name: fmt.Sprintf("judge %s of %s", id, v.Site),
		Guards: []Guard{
			present(ReleaseKey(v.Site, id), ClassReleaseGone),
			unchanged(key, v.Verdicts[id].Mod, ClassConflict),
		},
		Ops: []Op{remove(key)},
	}
	if verdict != "" {
		t.Ops = []Op{putBare(key, strings.TrimSpace(string(verdict)+" "+why))}
		return t.markLast()
	}
	return t
}

// SetPin keeps a release from being swept, or lets it be when why is "".
func SetPin(v *View, id release.ID, why string) Txn {
	key := PinKey(v.Site, id)
	t := Txn{
		Name: fmt.Sprintf("pin %s of %s", id, v.Site),
		Guards: []Guard{
			present(ReleaseKey(v.Site, id), ClassReleaseGone),
			unchanged(key, v.Pins[id].Mod, ClassConflict),
		},
		Ops: []Op{remove(key)},
	}
	if why != "" {
		t.Ops = []Op{putBare(key, why)}
		return t.markLast()
	}
	return t
}

// VerdictText is what a verdict's key holds, for people: "bad: 404s".
func VerdictText(v string) string {
	verdict, why, _ := strings.Cut(v, " ")
	if why == "" {
		return verdict
	}
	return verdict + ": " + why
}
