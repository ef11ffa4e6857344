package main

import "fmt"

// goal is one thing that relman is to reach: of something, no more than a part
// of what other tools need.
type goal struct {
	cell   cell
	of     quantity
	factor float64
	than   []string // the least of these; none is every peer
	most   float64  // without than's: an absolute limit
}

// quantity is what a goal is about.
type quantity struct {
	name string
	of   func(sample) float64
	text func(float64) string
}

var (
	inTime     = quantity{"time", sample.durable, func(v float64) string { return fmt.Sprintf("%.3g s", v) }}
	inBytes    = quantity{"bytes", func(s sample) float64 { return float64(s.bytes()) }, megabytes}
	inRequests = quantity{"requests to the store", func(s sample) float64 { return float64(s.Requests) }, func(v float64) string { return fmt.Sprintf("%.0f", v) }}
	inMemory   = quantity{"memory", func(s sample) float64 { return float64(s.RSS - s.Idle) }, mebibytes}
)

func megabytes(v float64) string { return fmt.Sprintf("%.2f MB", v/1e6) }
func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }

// kind says for which sites and wires a goal is.
type kind int

const (
	always  kind = iota
	sites        // of many files, on an unlimited wire
	bigOnes      // single big files, on an unlimited wire
	shaped       // any, on a line of limited rate
)

type rule struct {
	kind kind
	goal
}

// goals are those of docs/performance.md.
var goals = []rule{
	{sites, goal{cell: firstPublish, of: inTime, factor: 1.3, than: []string{"tar.zst"}}},
	{sites, goal{cell: firstPublish, of: inBytes, factor: 1, than: []string{"tar.zst"}}},
	{sites, goal{cell: updatePublish, of: inTime, factor: 1, than: []string{"tar.zst"}}},
	{sites, goal{cell: updatePublish, of: inBytes, factor: 1, than: []string{"restic"}}},
	{sites, goal{cell: noopPublish, of: inTime, factor: 0.3, than: []string{"rclone"}}},
	{sites, goal{cell: coldPublish, of: inTime, factor: 1, than: []string{"rclone"}}},
	{sites, goal{cell: firstPrefetch, of: inTime, factor: 1.3, than: []string{"tar.zst"}}},
	{sites, goal{cell: updatePrefetch, of: inTime, factor: 1, than: []string{"rsync", "rsync -c", "tar.zst"}}},
	{sites, goal{cell: updatePrefetch, of: inBytes, factor: 0.7, than: []string{"rsync", "rsync -c"}}},
	{sites, goal{cell: freshPrefetch, of: inTime, factor: 0.5, than: []string{"rclone", "restic"}}},

	{bigOnes, goal{cell: firstPublish, of: inTime, factor: 1.3}},
	{bigOnes, goal{cell: firstPrefetch, of: inTime, factor: 1.3}},
	{bigOnes, goal{cell: updatePublish, of: inBytes, factor: 0.9, than: []string{"restic"}}},
	{bigOnes, goal{cell: updatePrefetch, of: inBytes, factor: 0.9, than: []string{"restic"}}},

	{shaped, goal{cell: firstPublish, of: inTime, factor: 1}},
	{shaped, goal{cell: firstPrefetch, of: inTime, factor: 1}},
	{shaped, goal{cell: updatePublish, of: inTime, factor: 1}},
	{shaped, goal{cell: updatePrefetch, of: inTime, factor: 1}},
	{shaped, goal{cell: noopPublish, of: inTime, factor: 1}},
	{shaped, goal{cell: freshPrefetch, of: inTime, factor: 1}},

	{always, goal{cell: noopPrefetch, of: inRequests, most: 0}},
	{always, goal{cell: firstPublish, of: inMemory, most: 256 << 20}},
	{always, goal{cell: updatePublish, of: inMemory, most: 256 << 20}},
	{always, goal{cell: firstPrefetch, of: inMemory, most: 128 << 20}},
	{always, goal{cell: updatePrefetch, of: inMemory, most: 128 << 20}},
}

func (k kind) holds(big, limited bool) bool {
	switch k {
	case sites:
		return !big && !limited
	case bigOnes:
		return big && !limited
	case shaped:
		return limited
	default:
		return true
	}
}

// verdict is whether a goal was reached.
type verdict struct {
	Cell  cell    `json:"cell"`
	Of    string  `json:"of"`
	Goal  string  `json:"goal"`
	Is    float64 `json:"is"`
	Limit float64 `json:"limit"`
	// State is PASS or MISS, or "-" when there is nothing to compare with.
	State string `json:"state"`
	text  func(float64) string
}

// judge compares a site's results with the goals.
func judge(r results, site string, big, limited bool, peers []string) []verdict {
	var out []verdict
	for _, g := range goals {
		if !g.kind.holds(big, limited) {
			continue
		}
		v := verdict{Cell: g.cell, Of: g.of.name, Limit: g.most, State: "-", text: g.of.text}
		known := true
		if g.factor == 0 {
			v.Goal = "at most " + g.of.text(g.most)
		} else {
			from := g.than
			if from == nil {
				from = peers
			}
			tool, least := r.best(site, g.cell, sending(from, g.cell), g.of.of)
			v.Goal, v.Limit, known = fmt.Sprintf("%.2g × %s", g.factor, orDash(tool)), g.factor*least, tool != ""
		}
		if s, ok := r.at(site, relmanName, g.cell); ok {
			v.Is = g.of.of(s)
			switch {
			case !s.good():
				v.State = "MISS"
			case !known:
			case v.Is <= v.Limit:
				v.State = "PASS"
			default:
				v.State = "MISS"
			}
		}
		out = append(out, v)
	}
	return out
}

// sending leaves out the tools that publish to their own disk, where publishes
// are compared.
func sending(tools []string, c cell) []string {
	if c.prefetches() {
		return tools
	}
	var list []string
	for _, t := range tools {
		if t != "casync" && t != "ostree" {
			list = append(list, t)
		}
	}
	return list
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
