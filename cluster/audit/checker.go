package audit

import (
	"maps"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

// Checker replays revisions. It is fed in their order; the first one is a base,
// so is one after a gap.
type Checker struct {
	only   []release.Site
	report Report
	begun  bool

	sites    map[release.Site]*site
	nodes    map[release.NodeID]*node
	live     map[release.NodeID]bool
	managers map[string]int64 // election keys that stand, with their create revisions
}

// New makes a checker of these sites, or of all.
func New(only ...release.Site) *Checker {
	return &Checker{only: only, report: Report{Violations: []Violation{}}}
}

// Report says what has been found so far.
func (c *Checker) Report() *Report {
	r := c.report
	r.Violations = slices.Clone(r.Violations)
	return &r
}

// Take takes the next revision.
func (c *Checker) Take(r cluster.Revision) {
	if r.Base {
		c.begin(r)
		return
	}
	c.report.Revisions++
	c.report.To = r.Number
	steps, nodes := c.sort(r)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		s, st := c.site(name), steps[name]
		s.judge(st)
		s.apply(st)
		s.look(st)
	}
	for _, n := range nodes {
		c.takeNode(r.Number, n)
	}
	c.takeManagers(r)
}

// begin takes over a state as a whole. Nothing is judged by how it came to be;
// what is known from before is not believed any more.
func (c *Checker) begin(r cluster.Revision) {
	if c.begun {
		c.report.Gaps = append(c.report.Gaps, Gap{From: c.report.To + 1, To: r.Number})
	} else {
		c.report.Base, c.report.From = r.Number, r.Number+1
	}
	c.begun = true
	c.report.To = r.Number
	c.sites, c.nodes, c.managers = map[release.Site]*site{}, map[release.NodeID]*node{}, map[string]int64{}
	c.live = map[release.NodeID]bool{}
	steps, nodes := c.sort(r)
	for name, st := range steps {
		s := c.site(name)
		s.apply(st)
		s.remember()
	}
	for _, n := range nodes {
		n.base = true
		c.takeNode(r.Number, n)
	}
	c.takeManagers(r)
}

func (c *Checker) site(name release.Site) *site {
	s := c.sites[name]
	if s == nil {
		s = newSite(name, &c.report)
		c.sites[name] = s
	}
	return s
}

// checked reports whether a site is one of those that are to be checked.
func (c *Checker) checked(s release.Site) bool { return len(c.only) == 0 || slices.Contains(c.only, s) }

// sort sorts a revision's changes by the sites and nodes that they are about.
func (c *Checker) sort(r cluster.Revision) (map[release.Site]*step, []nodeChange) {
	steps := map[release.Site]*step{}
	var nodes []nodeChange
	at := func(name release.Site) *step {
		if steps[name] == nil {
			steps[name] = &step{revision: r.Number, leader: c.leader(), live: c.live}
		}
		return steps[name]
	}
	for _, ch := range r.Changes {
		rest, ok := strings.CutPrefix(ch.Key, cluster.Prefix)
		kind, rest, _ := strings.Cut(rest, "/")
		name, rest, more := strings.Cut(rest, "/")
		switch {
		case !ok || !more:
		case kind == "sites" && c.checked(release.Site(name)):
			at(release.Site(name)).take(rest, ch, &c.report, release.Site(name))
		case kind == "nodes":
			n := nodeChange{node: release.NodeID(name), what: rest, change: ch}
			nodes = append(nodes, n)
			if s, ok := strings.CutPrefix(rest, "lowered/"); ok && !ch.Deleted && c.checked(release.Site(s)) {
				at(release.Site(s)).takeLowered(n.node, ch)
			}
		}
	}
	return steps, nodes
}

// leader is the create revision of the election key that leads, 0 when there is
// none: the oldest one leads.
func (c *Checker) leader() int64 {
	if len(c.managers) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Values(c.managers)))
}

func (c *Checker) takeManagers(r cluster.Revision) {
	for _, ch := range r.Changes {
		switch {
		case !strings.HasPrefix(ch.Key, cluster.ElectionPrefix+"/"):
		case ch.Deleted:
			delete(c.managers, ch.Key)
		default:
			c.managers[ch.Key] = ch.Create
		}
	}
}
