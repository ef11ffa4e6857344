package audit

import (
	"fmt"
	"strings"

	"relman/cluster"
	"relman/release"
)

// node is what one start of a node's agent has said.
type node struct {
	boot    string
	shown   map[release.Site]release.Epoch
	refused map[release.Site]bool // what etcd said, since its epoch had gone back
}

// nodeChange is a change of a key below a node's own.
type nodeChange struct {
	node   release.NodeID
	what   string // "live", "status/www", …
	change cluster.Change
	base   bool
}

// takeNode follows what a node says that it shows: never an older epoch than
// before (I3), but after a start, when its disk may be an older one, and when it
// was told to, after it had refused.
func (c *Checker) takeNode(revision int64, n nodeChange) {
	if n.what == "live" {
		c.live[n.node] = !n.change.Deleted
	}
	if n.change.Deleted {
		return // its session has ended, what it showed it has shown
	}
	of := c.nodes[n.node]
	if of == nil {
		of = &node{shown: map[release.Site]release.Epoch{}, refused: map[release.Site]bool{}}
		c.nodes[n.node] = of
	}
	name, isStatus := strings.CutPrefix(n.what, "status/")
	site := release.Site(name)
	switch {
	case n.what == "live":
		l, err := read[live](n.change.Value)
		if err != nil || l.Boot == of.boot {
			return // what a node says of itself it may say wrongly
		}
		of.boot = l.Boot
		if !n.base { // a base has no order
			of.shown = map[release.Site]release.Epoch{}
		}
	case isStatus && c.checked(site):
		st, err := read[status](n.change.Value)
		if err != nil || st.Epoch == 0 { // it shows nothing yet
			return
		}
		if st.State == "refusing" {
			of.refused[site] = true
		}
		if before := of.shown[site]; st.Epoch < before && of.refused[site] {
			of.refused[site] = false // an operator has told it to obey
		} else if st.Epoch < before {
			c.report.add(Violation{I3, site, revision, n.change.Key, fmt.Sprintf("%s shows epoch %d, after epoch %d", n.node, st.Epoch, before)})
		}
		of.shown[site] = st.Epoch
	}
}
