package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// statusReport is `relman status -o json`: all of it at one revision.
type statusReport struct {
	Site     release.Site     `json:"site"`
	Revision int64            `json:"revision"`
	Active   *cluster.Active  `json:"active"`  // null: nothing was ever active
	Trial    bool             `json:"trial"`   // it goes back at confirm_by, unless somebody confirms it
	Baking   *bakingReport    `json:"baking"`  // null: it does not bake
	Freeze   *cluster.Freeze  `json:"freeze"`  // null: flips are allowed
	Request  *requestReport   `json:"request"` // null: nothing is under way
	Rollout  *cluster.Rollout `json:"rollout"` // null: none in flight
	Ready    *count           `json:"ready"`   // nodes that hold the rollout's release
	Shown    count            `json:"shown"`   // live nodes that show what is active
	Nodes    []nodeReport     `json:"nodes"`
}

// requestReport is a request that is under way.
type requestReport struct {
	Request cluster.RequestID `json:"request"`
	Mode    cluster.Kind      `json:"mode"`
	Release release.ID        `json:"release,omitempty"`
	By      string            `json:"by"`
	At      time.Time         `json:"at"`
	Message string            `json:"message,omitempty"`
}

// nodeReport is one node in `relman nodes list -o json`, for one site.
type nodeReport struct {
	Node    release.NodeID    `json:"node"`
	Group   release.Group     `json:"group"`
	Live    bool              `json:"live"`
	Member  cluster.Member    `json:"member"` // "": not admitted
	State   cluster.NodeState `json:"state"`  // by its own words; "" when it is not live
	Release release.ID        `json:"release,omitempty"`
	Epoch   release.Epoch     `json:"epoch"`
	Swapped *time.Time        `json:"swapped,omitempty"`
	// ClockErrorMS is how far its clock is ahead of the leader's, if that is too far.
	ClockErrorMS int64              `json:"clock_error_ms,omitempty"`
	Claims       []string           `json:"claims"` // what each buffer holds, "-" for nothing; null: not entered
	Preparing    *cluster.Progress  `json:"preparing,omitempty"`
	Error        *cluster.ErrorInfo `json:"error,omitempty"`
	// Bake is what it says of the release that bakes.
	Bake    *cluster.BakeReport `json:"bake,omitempty"`
	Addr    string              `json:"addr,omitempty"`
	Admin   string              `json:"admin,omitempty"` // where it answers for itself
	Version string              `json:"version,omitempty"`
	Late    bool                `json:"late"` // it is waited for
	Why     string              `json:"why,omitempty"`
}

// reportSite says what v shows.
func reportSite(v *cluster.View) statusReport {
	r := statusReport{
		Site: v.Site, Revision: v.Revision,
		Active: existing(v.Active), Freeze: existing(v.Freeze), Rollout: existing(v.Rollout),
		Nodes: reportNodes(v), Trial: v.OnTrial(), Baking: reportBaking(v),
	}
	if d := v.Desired.Value; !v.Done() {
		r.Request = &requestReport{Request: d.Request, Mode: d.Mode, Release: d.Release, By: d.By, At: d.At, Message: d.Message}
	}
	if v.Rollout.Exists() {
		ready := v.Ready(v.Rollout.Value.Buffer, v.Rollout.Value.Release)
		r.Ready = &count{len(ready.Ready), len(ready.Ready) + len(ready.Late)}
	}
	s := shown(v, v.Active.Value.Epoch)
	r.Shown = count{len(s.Done), s.of()}
	return r
}

// existing is an entry's value, nil for a key that does not exist.
func existing[T any](e cluster.Entry[T]) *T {
	if !e.Exists() {
		return nil
	}
	return &e.Value
}

// reportNodes lists all nodes that have to do with a site, by their ids.
func reportNodes(v *cluster.View) []nodeReport {
	claims, groups := map[release.NodeID][]string{}, map[release.NodeID]release.Group{}
	nodes := v.EnteredNodes()
	for n, j := range v.Joins {
		nodes, groups[n] = append(nodes, n), j.Group
	}
	for n := range v.Members {
		nodes = append(nodes, n)
	}
	for _, c := range v.Claims {
		groups[c.Node] = c.Group
		held := string(c.Release)
		if held == "" {
			held = cluster.NoClaim
		}
		for len(claims[c.Node]) < c.Buffer {
			claims[c.Node] = append(claims[c.Node], cluster.NoClaim)
		}
		claims[c.Node] = append(claims[c.Node], held)
	}
	slices.Sort(nodes)
	all := []nodeReport{}
	for _, n := range slices.Compact(nodes) {
		r := reportNode(v, n)
		r.Group, r.Claims = groups[n], claims[n]
		all = append(all, r)
	}
	return all
}

func reportNode(v *cluster.View, n release.NodeID) nodeReport {
	live, alive := v.Live[n]
	st := v.Status[n]
	r := nodeReport{
		Node: n, Live: alive, Member: v.Members[n].Value, Addr: live.Addr, Admin: live.Admin, Version: live.Version,
		State: st.State, Release: st.Release, Epoch: st.Epoch, Preparing: st.Preparing, Error: st.Error, ClockErrorMS: st.ClockErrorMS, Bake: st.Bake,
	}
	if !st.Swapped.IsZero() {
		r.Swapped = &st.Swapped
	}
	if r.Late = isLate(v, n); r.Late || st.State == cluster.NodeWaiting || st.Error != nil || r.Member == cluster.MemberOut || v.Cordons[n].Exists() {
		r.Why = laggardReason(v, n)
	}
	if st.ClockErrorMS != 0 {
		r.Why = strings.TrimPrefix(r.Why+"; its clock is "+clockErrorText(st), "; ")
	}
	return r
}

// isLate reports whether a node is waited for: it does not hold the rollout's
// release, or does not show what is active. For one that is out nobody waits.
func isLate(v *cluster.View, n release.NodeID) bool {
	if v.Members[n].Value == cluster.MemberOut {
		return false
	}
	st := v.Status[n]
	if _, live := v.Live[n]; !live || v.Active.Exists() && st.Epoch < v.Active.Value.Epoch && st.State != cluster.NodeWaiting {
		return true
	}
	r := v.Rollout
	return r.Exists() && slices.Contains(v.Ready(r.Value.Buffer, r.Value.Release).Late, n)
}

// stateText is a node's state in a table.
func (r nodeReport) stateText() string {
	switch {
	case !r.Live:
		return "not live"
	case r.State == "":
		return "no status"
	}
	return string(r.State)
}

func epochText(e release.Epoch) string {
	if e == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(e), 10)
}
