package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

const (
	// showWithin is how long after a flip a node may take to show it before
	// something is wrong.
	showWithin = 30 * time.Second
	// longFrozen is how long a freeze may stand before it may be forgotten.
	longFrozen = 24 * time.Hour
)

// diagnoseSite says how one site is.
func diagnoseSite(s siteCheckup, now time.Time) (all []finding) {
	name := string(s.site)
	if s.view == nil {
		return append(all, bad(name, "it cannot be read: %v", s.err).todo("nothing is decided on a part: repair the key that is named").blinded())
	}
	v := s.view
	all = append(all, diagnoseActive(v, now)...)
	all = append(all, diagnoseRequest(v, now)...)
	all = append(all, diagnoseMembers(v, now)...)
	if z := v.Freeze; z.Exists() {
		f := fine(name, "frozen by %s %s: %s", z.Value.By, agoText(z.Value.At, now), z.Value.Reason)
		if now.Sub(z.Value.At) > longFrozen {
			f.Level, f.Do = levelWarn, fmt.Sprintf("is it still wanted? `relman unfreeze -s %s` ends it", name)
		}
		all = append(all, f)
	}
	return all
}

// diagnoseActive says what is active, and whether one could go back.
func diagnoseActive(v *cluster.View, now time.Time) (all []finding) {
	name, a := string(v.Site), v.Active
	if !a.Exists() {
		return append(all, fine(name, "nothing was published yet"))
	}
	all = append(all, fine(name, "%s is active, epoch %d, since %s", a.Value.Release, a.Value.Epoch, a.Value.At.UTC().Format(time.RFC3339)))
	if verdict, is := v.Verdicts[a.Value.Release]; is {
		all = append(all, bad(name, "what is active is judged %s", cluster.VerdictText(verdict.Value)).todo("`relman rollback -s %s`", name))
	}
	if _, is := v.Releases[a.Value.Release]; !is {
		all = append(all, bad(name, "the active release has no record: no node that lacks it can fetch it").todo("publish the build again"))
	}
	if c := a.Value.Canary; c != nil {
		all = append(all, fine(name, "%s is a canary beside it, for %s; `relman promote` or `relman abort` ends it", c.Release, c.Audience))
	}
	if at := a.Value.ActivateAt; at.After(now) {
		all = append(all, fine(name, "visitors see it from %s on, by each node's clock; until then what was active before", at.UTC().Format(time.RFC3339)))
	}
	if v.OnTrial() {
		all = append(all, fine(name, "it goes back at %s, unless `relman confirm` comes before", a.Value.ConfirmBy.UTC().Format(time.RFC3339)))
	}
	if v.Baking() {
		f := fine(name, "it bakes until %s, %s", a.Value.BakeEnd().UTC().Format(time.RFC3339), bakingText(v))
		if v.Tasted().Over {
			f = bad(name, "what is active bakes, and goes back as soon as it can: %s", bakingText(v)).
				todo("does a manager lead, does a freeze forbid to go back? `relman confirm -s %s` keeps it", name)
		}
		all = append(all, f)
	}
	if r := v.Ready(a.Value.Buffer, a.Value.Release); len(r.Late) > 0 {
		all = append(all, bad(name, "%s not hold what is active: %s", doOrDoes(r.Late), listed(r.Late)).
			todo("`relman status -s %s --why` says what they do about it", name))
	}
	if p := a.Value.Previous; p != nil {
		if r := v.Ready(p.Buffer, p.Release); len(r.Late) > 0 {
			all = append(all, warn(name, "a rollback has to wait: %s not hold the previous release: %s", doOrDoes(r.Late), listed(r.Late)).
				todo("they fetch it by themselves; `relman status -s %s --why` says more", name))
		}
	}
	return all
}

func doOrDoes(nodes []release.NodeID) string {
	if len(nodes) == 1 {
		return "a node does"
	}
	return fmt.Sprintf("%d nodes do", len(nodes))
}

// diagnoseRequest says whether what was asked for goes on.
func diagnoseRequest(v *cluster.View, now time.Time) (all []finding) {
	if v.Done() {
		return nil
	}
	name, d := string(v.Site), v.Desired.Value
	late := v.Rollout.Exists() && now.After(v.Rollout.Value.Deadline.Add(time.Minute)) || !v.Rollout.Exists() && now.Sub(d.At) > 5*time.Minute
	if late {
		return append(all, bad(name, "%s was asked for %s and should have ended", asked(d), agoText(d.At, now)).
			todo("does a manager lead, and what does its log say? `relman abort -s %s` ends the request", name))
	}
	return append(all, fine(name, "%s is under way", asked(d)))
}

// diagnoseMembers says which nodes hold the site up, or are not what they should
// be.
func diagnoseMembers(v *cluster.View, now time.Time) (all []finding) {
	name := string(v.Site)
	entered := v.EnteredNodes()
	well := 0
	for _, n := range nodesOf(v) {
		f, is := diagnoseMembership(v, n, slices.Contains(entered, n), now)
		if is {
			all = append(all, f)
		} else {
			well++
		}
	}
	if len(entered) == 0 && v.Active.Exists() {
		all = append(all, bad(name, "no node serves it").todo("start `relman agent` on the nodes"))
	}
	if well > 0 {
		all = append(all, fine(name, "%s as %s should be", plural(well, "node"), map[bool]string{true: "it", false: "they"}[well == 1]))
	}
	return all
}

// nodesOf are all nodes that have to do with a site.
func nodesOf(v *cluster.View) []release.NodeID {
	nodes := v.EnteredNodes()
	nodes = slices.AppendSeq(nodes, maps.Keys(v.Joins))
	nodes = slices.AppendSeq(nodes, maps.Keys(v.Members))
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// diagnoseMembership says what is wrong with a node of a site, if something is.
func diagnoseMembership(v *cluster.View, n release.NodeID, entered bool, now time.Time) (finding, bool) {
	_, live := v.Live[n]
	m, st, name := v.Members[n], v.Status[n], string(v.Site)
	behind := v.Active.Exists() && st.Epoch < v.Active.Value.Epoch
	class := cluster.Class("")
	if st.Error != nil {
		class = st.Error.Class
	}
	switch {
	case !live && entered:
		return bad(name, "%s has no live session, and is a member: rollouts wait for it", n).
			todo("start its agent, or look why it does not reach etcd; if it is lost for good, docs/operations.md says how to take it out"), true
	case !live && m.Value != cluster.MemberOut:
		return warn(name, "%s is not live; it has not entered, so nothing waits for it", n).todo("start its agent, or forget it: `etcdctl del --prefix /relman/v1/nodes/%s/`", n), true
	case !live:
		return warn(name, "%s is out, and not live", n).todo("start its agent, or leave it: nothing waits for it"), true
	case class == cluster.ClassDuplicateNode:
		return bad(name, "%s: %s", n, st.Error.Text).todo("two machines have this node id: give one of them another --node-id"), true
	case st.State == cluster.NodeRefusing:
		return bad(name, "%s refuses what etcd says: it has shown epoch %d, and etcd says %d", n, st.Epoch, v.Active.Value.Epoch).
			todo("was etcd restored from a backup? docs/operations.md says what to do"), true
	case behind && st.Error != nil:
		return bad(name, "%s shows epoch %d instead of %d: %s", n, st.Epoch, v.Active.Value.Epoch, st.Error.Text).todo("it tries again by itself; remove what hinders it"), true
	case behind && now.Sub(v.Active.Value.Since()) > showWithin:
		return bad(name, "%s shows epoch %d instead of %d, %s after the flip: %s", n, st.Epoch, v.Active.Value.Epoch, tookText(now.Sub(v.Active.Value.Since())), laggardReason(v, n)).
			todo("look at its log, and whether it reaches etcd and the store"), true
	case st.Error != nil:
		return warn(name, "%s: %s", n, st.Error.Text).todo("it tries again by itself; remove what hinders it"), true
	case m.Value == cluster.MemberOut && v.Cordons[n].Exists():
		c := v.Cordons[n].Value
		return warn(name, "%s is out: cordoned by %s: %s", n, c.By, c.Reason).todo("`relman nodes uncordon %s` lets it come back", n), true
	case m.Value == cluster.MemberOut:
		return warn(name, "%s was put out and does not count", n).todo("it comes back by itself; `relman nodes show %s` says more", n), true
	case !m.Exists():
		return warn(name, "%s asks to join and is not a member", n).todo("a leading manager admits it; if one leads, look at its log"), true
	case st.State == cluster.NodeWaiting:
		return finding{}, false
	case behind:
		return fine(name, "%s is about to show epoch %d", n, v.Active.Value.Epoch), true
	}
	return finding{}, false
}
