package manager

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

// Bounds of what a result says of nodes, so that it stays a short value.
const (
	maxNamed  = 20 // nodes
	maxReason = 90 // bytes of each node's reason, when so many are named
)

// unready says why the rollout in flight cannot be flipped to: who is late and
// why or, when nobody is, that too few are ready.
func unready(v *cluster.View) *cluster.ErrorInfo {
	r := v.Ready(v.Rollout.Value.Buffer, v.Rollout.Value.Release)
	class, behind := cluster.ClassNotReady, r.Late
	text := fmt.Sprintf("%d/%d ready", len(r.Ready), len(r.Ready)+len(r.Late))
	if len(r.Late) == 0 {
		class, behind = cluster.ClassQuorum, outside(v)
		b, _ := v.Bar(v.Desired.Value)
		text = fmt.Sprintf("%d ready, %d needed", len(r.Ready), b.Need)
		if len(behind) == 0 {
			text += ", and no other node has joined"
		}
	}
	return naming(v, class, text, behind)
}

// naming is an error about nodes, with the reason of each.
func naming(v *cluster.View, class cluster.Class, text string, nodes []release.NodeID) *cluster.ErrorInfo {
	all := slices.Compact(slices.Sorted(slices.Values(nodes)))
	named := all[:min(len(all), maxNamed)]
	return &cluster.ErrorInfo{Class: class, Text: text + reasons(v, named, len(all)), Nodes: named}
}

// outside are the nodes that want the site and have no claims.
func outside(v *cluster.View) []release.NodeID {
	entered := map[release.NodeID]bool{}
	for _, c := range v.Claims {
		entered[c.Node] = true
	}
	return slices.DeleteFunc(nodesOf(v), func(n release.NodeID) bool { return entered[n] })
}

// nodesOf are all nodes that have, or want, to do with the site.
func nodesOf(v *cluster.View) []release.NodeID {
	nodes := slices.Collect(maps.Keys(v.Joins))
	nodes = slices.AppendSeq(nodes, maps.Keys(v.Members))
	for _, c := range v.Claims {
		nodes = append(nodes, c.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// reasons is " (web-4: disk full; web-5: no live session; and 3 more)".
func reasons(v *cluster.View, named []release.NodeID, all int) string {
	return each(named, all, func(n release.NodeID) string { return reason(v, n) })
}

// each names nodes, of so many, with what there is to say of them.
func each(named []release.NodeID, all int, reason func(release.NodeID) string) string {
	if len(named) == 0 {
		return ""
	}
	var parts []string
	for _, n := range named { // the fewer they are, the more each can say
		parts = append(parts, fmt.Sprintf("%s: %s", n, shorten(reason(n), maxNamed*maxReason/len(named))))
	}
	if more := all - len(named); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// reason says why a node is not ready for the rollout in flight, as far as it
// has said itself.
func reason(v *cluster.View, n release.NodeID) string {
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
		return fmt.Sprintf("fetched %.1f of %.1f MiB", mib(p.Done), mib(p.Total))
	case p != nil:
		return "still fetching " + string(p.Release)
	case v.Members[n].Value == cluster.MemberDrain:
		return "draining"
	case v.Members[n].Value == cluster.MemberOut:
		return "put out"
	default:
		return string(s.State) + ", has not begun"
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// shorten cuts a node's own words to one short line.
func shorten(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
