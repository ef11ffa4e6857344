package manager

import (
	"cmp"
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// SiteSummary is one site in GET /v1/sites.
type SiteSummary struct {
	Site    release.Site     `json:"site"`
	Active  *cluster.Active  `json:"active"`  // null: nothing was ever active
	Rollout *cluster.Rollout `json:"rollout"` // null: none in flight
	Frozen  bool             `json:"frozen"`
	Nodes   NodeCounts       `json:"nodes"`
}

// NodeCounts counts the nodes of a site.
type NodeCounts struct {
	Members   int `json:"members"`   // that the leader admitted
	Entered   int `json:"entered"`   // of these, that have claims and so count for a flip
	Live      int `json:"live"`      // with a live session
	Converged int `json:"converged"` // of these, that show the active epoch
}

// SiteDetail is GET /v1/sites/{site}: all of it at one revision.
type SiteDetail struct {
	SiteSummary
	Revision int64             `json:"revision"`
	Desired  *cluster.Desired  `json:"desired"` // what was asked for last; null: nothing yet
	Result   *cluster.Result   `json:"result"`  // how that ended; null: it is under way
	Freeze   *cluster.Freeze   `json:"freeze"`
	Policy   cluster.Policy    `json:"policy"`
	States   []SiteNode        `json:"states"`   // of the nodes, by node id
	Verdicts map[string]string `json:"verdicts"` // by release: bad or yanked, and why
}

// SiteNode is what one node does for one site.
type SiteNode struct {
	Node   release.NodeID `json:"node"`
	Group  release.Group  `json:"group"`
	Member cluster.Member `json:"member"` // "" while the leader has not admitted it
	Live   bool           `json:"live"`
	// Claims has the release that each buffer holds, "-" for none; null while
	// the node has not entered.
	Claims  []string          `json:"claims"`
	State   cluster.NodeState `json:"state"`   // by its own words; "" when it is not live
	Release release.ID        `json:"release"` // shown
	Epoch   release.Epoch     `json:"epoch"`   // applied
	Swapped *time.Time        `json:"swapped"` // when, by its own clock
	// ClockErrorMS is how far that is ahead of the leader's, 0 while it is good enough.
	ClockErrorMS int64              `json:"clock_error_ms"`
	Preparing    *cluster.Progress  `json:"preparing"`
	Error        *cluster.ErrorInfo `json:"error"`
}

// RolloutDetail is GET /v1/sites/{site}/rollout: the request that was made
// last and how far it is.
type RolloutDetail struct {
	Desired *cluster.Desired `json:"desired"`
	Result  *cluster.Result  `json:"result"`
	Rollout *cluster.Rollout `json:"rollout"` // null: none in flight
	Ready   []release.NodeID `json:"ready"`   // hold its release
	Late    []Laggard        `json:"late"`    // do not
	Need    int              `json:"need"`    // ready nodes that the policy wants
}

// Laggard is a node that a rollout waits for, and why.
type Laggard struct {
	Node   release.NodeID `json:"node"`
	Reason string         `json:"reason"`
}

// ReleaseDetail is one release in GET /v1/sites/{site}/releases, newest first.
type ReleaseDetail struct {
	Release release.ID `json:"release"`
	cluster.ReleaseRecord
	Verdict string `json:"verdict,omitempty"`
	Active  bool   `json:"active"`
	Held    int    `json:"held"` // nodes that hold it
}

// Node is one node in GET /v1/nodes.
type Node struct {
	Node    release.NodeID            `json:"node"`
	Group   release.Group             `json:"group"`
	Live    bool                      `json:"live"`
	Addr    string                    `json:"addr"`    // URL of its own server; "" when it is not live
	Version string                    `json:"version"` // of its program
	Boot    string                    `json:"boot"`
	Sites   map[release.Site]SiteNode `json:"sites"`
}

// value is an entry's value, nil for a key that does not exist.
func value[T any](e cluster.Entry[T]) *T {
	if !e.Exists() {
		return nil
	}
	return &e.Value
}

func summary(v *cluster.View) SiteSummary {
	s := SiteSummary{
		Site:    v.Site,
		Active:  value(v.Active),
		Rollout: value(v.Rollout),
		Frozen:  v.Freeze.Exists(),
		Nodes:   NodeCounts{Entered: v.Entered(), Live: len(v.Live)},
	}
	for _, m := range v.Members {
		if m.Value == cluster.MemberIn {
			s.Nodes.Members++
		}
	}
	for n, st := range v.Status {
		if _, live := v.Live[n]; live && v.Active.Exists() && st.Epoch == v.Active.Value.Epoch {
			s.Nodes.Converged++
		}
	}
	return s
}

func detail(v *cluster.View) SiteDetail {
	d := SiteDetail{
		SiteSummary: summary(v),
		Revision:    v.Revision,
		Desired:     value(v.Desired),
		Result:      result(v),
		Freeze:      value(v.Freeze),
		Policy:      v.Policy.Value,
		States:      []SiteNode{},
		Verdicts:    map[string]string{},
	}
	for id, why := range v.Verdicts {
		d.Verdicts[string(id)] = why.Value
	}
	held := claimsByNode(v)
	for _, n := range nodesOf(v) {
		d.States = append(d.States, siteNode(v, n, held[n]))
	}
	return d
}

// result is how the last request ended, nil while it is under way.
func result(v *cluster.View) *cluster.Result {
	if r, ok := v.Results[v.Desired.Value.Request]; ok && v.Desired.Exists() {
		return &r
	}
	return nil
}

func claimsByNode(v *cluster.View) map[release.NodeID][]cluster.Claim {
	all := map[release.NodeID][]cluster.Claim{}
	for _, c := range v.Claims {
		all[c.Node] = append(all[c.Node], c)
	}
	return all
}

func siteNode(v *cluster.View, n release.NodeID, claims []cluster.Claim) SiteNode {
	_, live := v.Live[n]
	st := v.Status[n]
	s := SiteNode{
		Node:         n,
		Group:        v.Joins[n].Group,
		Member:       v.Members[n].Value,
		Live:         live,
		State:        st.State,
		Release:      st.Release,
		Epoch:        st.Epoch,
		Preparing:    st.Preparing,
		ClockErrorMS: st.ClockErrorMS,
		Error:        st.Error,
	}
	if !st.Swapped.IsZero() {
		s.Swapped = &st.Swapped
	}
	for _, c := range claims {
		if c.Buffer >= v.Policy.Value.Buffers && c.Release == "" {
			continue // it says nothing of a buffer that there is not
		}
		for len(s.Claims) <= c.Buffer {
			s.Claims = append(s.Claims, cluster.NoClaim)
		}
		if c.Release != "" {
			s.Claims[c.Buffer] = string(c.Release)
		}
		if s.Group == "" {
			s.Group = c.Group
		}
	}
	return s
}

func rolloutDetail(v *cluster.View) RolloutDetail {
	d := RolloutDetail{
		Desired: value(v.Desired),
		Result:  result(v),
		Rollout: value(v.Rollout),
		Ready:   []release.NodeID{},
		Late:    []Laggard{},
	}
	bar, _ := v.Bar(v.Desired.Value)
	d.Need = bar.Need
	if d.Rollout == nil {
		return d
	}
	r := v.Ready(d.Rollout.Buffer, d.Rollout.Release)
	d.Ready = append(d.Ready, r.Ready...)
	slices.Sort(d.Ready)
	for _, n := range slices.Sorted(slices.Values(r.Late)) {
		d.Late = append(d.Late, Laggard{n, reason(v, n)})
	}
	return d
}

func releaseDetails(v *cluster.View) []ReleaseDetail {
	holders := map[release.ID]map[release.NodeID]bool{}
	for _, c := range v.Claims {
		if holders[c.Release] == nil {
			holders[c.Release] = map[release.NodeID]bool{}
		}
		holders[c.Release][c.Node] = true
	}
	list := []ReleaseDetail{}
	for id, rec := range v.Releases {
		list = append(list, ReleaseDetail{
			Release:       id,
			ReleaseRecord: rec.Value,
			Verdict:       v.Verdicts[id].Value,
			Active:        v.Active.Exists() && v.Active.Value.Release == id,
			Held:          len(holders[id]),
		})
	}
	slices.SortFunc(list, func(a, b ReleaseDetail) int { return compareNewest(a.Release, b.Release) })
	return list
}

// compareNewest sorts releases by their sequence number, the newest first.
func compareNewest(a, b release.ID) int {
	return cmp.Or(cmp.Compare(b.Seq(), a.Seq()), cmp.Compare(a, b))
}
