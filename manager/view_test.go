package manager

import (
	"fmt"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// now is when the tests of decisions take place.
var now = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// rel is the n-th release of the tests.
func rel(n int) release.ID { return release.NewID(uint64(n), digest(n)) }

// digest is that of its manifest.
func digest(n int) release.Digest { return release.Sum([]byte{byte(n)}) }

func entry[T any](v T, rev int64) cluster.Entry[T] {
	return cluster.Entry[T]{Value: v, Mod: rev, Create: rev}
}

// change is one difference between the site of the tests and a case.
type change func(v *cluster.View)

// siteView is www with releases 1 to 5, of which 2 is active in buffer 1 and 1
// is previous in buffer 0, and three live members that hold these two. A
// publish of release 3 has been asked for.
func siteView(changes ...change) *cluster.View {
	v := &cluster.View{
		Site:     "www",
		Revision: 100,
		Active: entry(cluster.Active{
			Release: rel(2), Epoch: 7, Buffer: 1, Kind: cluster.Publish,
			Previous: &cluster.Held{Release: rel(1), Buffer: 0},
		}, 50),
		Desired: entry(cluster.Desired{
			Request: "req-3", Mode: cluster.Publish, Release: rel(3), By: "ci@example", Message: "PR 412", At: now,
		}, 60),
		Policy:   entry(cluster.DefaultPolicy(), 2),
		Roster:   entry(cluster.Roster{V: 1}, 3),
		Releases: map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
		Verdicts: map[release.ID]cluster.Entry[string]{},
		Results:  map[cluster.RequestID]cluster.Result{},
		Members:  map[release.NodeID]cluster.Entry[cluster.Member]{},
		Cordons:  map[release.NodeID]cluster.Entry[cluster.Cordon]{},
		Approved: map[release.NodeID]bool{},
		Joins:    map[release.NodeID]cluster.Join{},
		Live:     map[release.NodeID]cluster.Live{},
		Last:     map[release.NodeID]cluster.Entry[cluster.Last]{},
		Status:   map[release.NodeID]cluster.Status{},
	}
	for n := 1; n <= 5; n++ {
		v.Releases[rel(n)] = entry(cluster.ReleaseRecord{Manifest: digest(n)}, int64(10+n))
	}
	node("web-1", rel(1), rel(2), "")(v)
	node("web-2", rel(1), rel(2), "")(v)
	node("web-3", rel(1), rel(2), "")(v)
	for _, c := range changes {
		c(v)
	}
	return v
}

// node is a live member, entered when held has its buffers.
func node(id release.NodeID, held ...release.ID) change {
	return func(v *cluster.View) {
		applicant(id)(v)
		v.Members[id] = entry(cluster.MemberIn, 30)
		v.Claims = append(v.Claims, claims(id, held...)...)
	}
}

func claims(id release.NodeID, held ...release.ID) []cluster.Claim {
	var list []cluster.Claim
	for k, r := range held {
		list = append(list, cluster.Claim{Node: id, Group: release.DefaultGroup, Buffer: k, Release: r})
	}
	return list
}

// holds makes nodes claim a release in a buffer.
func holds(buffer int, id release.ID, nodes ...release.NodeID) change {
	return func(v *cluster.View) {
		for i, c := range v.Claims {
			for _, n := range nodes {
				if c.Node == n && c.Buffer == buffer {
					v.Claims[i].Release = id
				}
			}
		}
	}
}

// applicant is live and asks to join.
func applicant(id release.NodeID) change {
	return func(v *cluster.View) {
		v.Joins[id] = cluster.Join{Group: release.DefaultGroup}
		v.Live[id] = cluster.Live{Boot: "b-" + string(id)}
	}
}

func dead(id release.NodeID) change {
	return func(v *cluster.View) { delete(v.Live, id); delete(v.Status, id) }
}

func says(id release.NodeID, s cluster.Status) change {
	return func(v *cluster.View) { v.Status[id] = s }
}

func noNodes(v *cluster.View) {
	clear(v.Members)
	clear(v.Joins)
	clear(v.Live)
	v.Claims = nil
}

// asked changes the request.
func asked(f func(d *cluster.Desired)) change {
	return func(v *cluster.View) { f(&v.Desired.Value) }
}

// rollout is in flight for a request, into buffer 2, since a minute ago.
func rollout(id release.ID, r cluster.RequestID) change {
	return func(v *cluster.View) {
		v.Rollout = entry(cluster.Rollout{
			Release: id, Buffer: 2, Flip: "flip-of-" + string(r), Request: r,
			Started: now.Add(-time.Minute), Deadline: now.Add(9 * time.Minute),
		}, 70)
	}
}

// late moves the rollout's deadline to now, to the nanosecond, of a site that
// waits for every node until then.
func late(v *cluster.View) {
	v.Rollout.Value.Deadline, v.Policy.Value.Stragglers = now, cluster.StragglersWait
}

func policy(f func(p *cluster.Policy)) change {
	return func(v *cluster.View) { f(&v.Policy.Value) }
}

func frozen(allowRollback bool) change {
	return func(v *cluster.View) {
		v.Freeze = entry(cluster.Freeze{By: "ops@example", Reason: "sale", AllowRollback: allowRollback}, 80)
	}
}

func verdict(id release.ID, why string) change {
	return func(v *cluster.View) { v.Verdicts[id] = cluster.Entry[string]{Value: why, Mod: 70, Create: 70} }
}

// all runs several changes as one.
func all(changes ...change) change {
	return func(v *cluster.View) {
		for _, c := range changes {
			c(v)
		}
	}
}

// firstEver makes it the first publish of the site.
func firstEver(v *cluster.View) {
	v.Active = cluster.Entry[cluster.Active]{}
	for i := range v.Claims {
		v.Claims[i].Release = ""
	}
}

// decide is what a leader decides that has just come to see the site.
func decide(v *cluster.View, now time.Time) action {
	seen := newAttendance()
	seen.note(v, now)
	return decideSeeing(v, seen, now)
}

// text is an action in one line, as the tables expect it.
func text(a action) string {
	switch a := a.(type) {
	case wait:
		if a.until.IsZero() {
			return "wait"
		}
		return "wait " + a.until.Sub(now).String()
	case admit:
		return "admit " + strings.Trim(fmt.Sprint(a.nodes), "[]")
	case drain:
		return fmt.Sprintf("drain %s: %s", strings.Trim(fmt.Sprint(a.nodes), "[]"), a.why)
	case out:
		return fmt.Sprintf("out %s: %s", strings.Trim(fmt.Sprint(a.nodes), "[]"), a.why)
	case revert:
		n := a.active
		return fmt.Sprintf("revert to %d in %d at %d by %d/%d: %s", n.Release.Seq(), n.Buffer, n.Epoch, n.Quorum.Claims, n.Quorum.Members, a.why)
	case endBake:
		return fmt.Sprintf("end bake of %d at %d", a.release.Seq(), a.epoch)
	case thaw:
		return "thaw"
	case start:
		r := a.rollout
		return fmt.Sprintf("start %d in %d for %s within %s", r.Release.Seq(), r.Buffer, r.Request, r.Deadline.Sub(r.Started))
	case flip:
		n := a.active
		s := fmt.Sprintf("flip to %d in %d at %d by %d/%d as %s", n.Release.Seq(), n.Buffer, n.Epoch, n.Quorum.Claims, n.Quorum.Members, n.Kind)
		if n.Flip != "" {
			s += " with " + n.Flip
		}
		if n.Previous != nil {
			s += fmt.Sprintf(" after %d in %d", n.Previous.Release.Seq(), n.Previous.Buffer)
		}
		if len(n.Override) > 0 {
			s += " overriding " + strings.Trim(fmt.Sprint(n.Override), "[]")
		}
		if len(n.Quorum.Without) > 0 {
			s += " without " + strings.Trim(fmt.Sprint(n.Quorum.Without), "[]")
		}
		return s
	case end:
		s := "end " + string(a.result.State)
		if a.result.Release != "" {
			s += fmt.Sprintf(" %d", a.result.Release.Seq())
		}
		if a.result.Epoch != 0 {
			s += fmt.Sprintf(" at %d", a.result.Epoch)
		}
		if a.result.Changed {
			s += " changed"
		}
		if e := a.result.Error; e != nil {
			s += fmt.Sprintf(" %s: %s", e.Class, e.Text)
		}
		return s
	default:
		return fmt.Sprintf("%T", a)
	}
}
