package main

import (
	"fmt"

	"relman/cluster"
	"relman/release"
)

// laggardReason says why a node is not ready, or does not show what is active,
// as far as it has said itself.
func laggardReason(v *cluster.View, n release.NodeID) string {
	if c := v.Cordons[n]; c.Exists() {
		return fmt.Sprintf("cordoned by %s: %s", c.Value.By, c.Value.Reason)
	}
	if _, live := v.Live[n]; !live {
		return "no live session"
	}
	s, known := v.Status[n]
	switch p := s.Preparing; {
	case !known:
		return "no status yet"
	case s.Error != nil:
		return s.Error.Text
	case p != nil && p.Hook != "":
		return p.Hook + " hook is running"
	case p != nil && p.Release == v.Rollout.Value.Release:
		return fmt.Sprintf("fetched %s of %s", bytesText(p.Done), bytesText(p.Total))
	case p != nil:
		return "still fetching " + string(p.Release)
	case v.Members[n].Value == cluster.MemberDrain:
		return "draining"
	case v.Members[n].Value == cluster.MemberOut && v.Active.Exists() && s.Epoch != v.Active.Value.Epoch:
		return fmt.Sprintf("put out, at epoch %d", s.Epoch)
	case v.Members[n].Value == cluster.MemberOut:
		return "put out, and about to count again"
	case !v.Members[n].Exists():
		return "not admitted yet"
	case s.State == cluster.NodeWaiting:
		return "waits until " + clockText(v.Active.Value.ActivateAt)
	case v.Active.Exists() && s.Epoch != v.Active.Value.Epoch:
		return fmt.Sprintf("%s, at epoch %d", s.State, s.Epoch)
	}
	return string(s.State)
}
