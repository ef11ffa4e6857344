package manager

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// Fate says whether a sweep keeps a release, and all the reasons why it does.
type Fate struct {
	Release release.ID `json:"release"`
	Keep    bool       `json:"keep"`
	Reasons []string   `json:"reasons"`
}

// fate says what a sweep does with each release of a site, the newest first. A
// release is kept that is or was just active, that is asked for or rolled out,
// that is pinned, that a node holds, that is one of the newest `keep`, or that is younger than
// grace. Whether it was judged bad does not matter: it may be what somebody
// wants to look at.
func fate(v *cluster.View, keep int, grace time.Duration, now time.Time) []Fate {
	why := roots(v)
	ids := slices.SortedFunc(maps.Keys(v.Releases), func(a, b release.ID) int {
		return cmp.Or(cmp.Compare(b.Seq(), a.Seq()), cmp.Compare(b, a))
	})
	all := []Fate{}
	for i, id := range ids {
		reasons := why[id]
		if i < keep {
			reasons = append(reasons, fmt.Sprintf("one of the newest %d", keep))
		}
		if now.Sub(v.Releases[id].Value.Created) < grace {
			reasons = append(reasons, "younger than "+span(grace))
		}
		all = append(all, Fate{Release: id, Keep: len(reasons) > 0, Reasons: append([]string{}, reasons...)})
	}
	return all
}

// roots are the releases that something refers to, and what does.
func roots(v *cluster.View) map[release.ID][]string {
	why := map[release.ID][]string{}
	root := func(id release.ID, reason string) { why[id] = append(why[id], reason) }
	root(v.Active.Value.Release, "active")
	if p := v.Active.Value.Previous; p != nil {
		root(p.Release, "previous")
	}
	if c := v.Active.Value.Canary; c != nil {
		root(c.Release, "canary")
	}
	root(v.Desired.Value.Release, "asked for last")
	root(v.Rollout.Value.Release, "being rolled out")
	for id, why := range v.Pins {
		root(id, "pinned: "+why.Value)
	}
	held := map[release.ID][]string{}
	for _, c := range v.Claims { // of one node, a release can be in two buffers
		if n := string(c.Node); !slices.Contains(held[c.Release], n) {
			held[c.Release] = append(held[c.Release], n)
		}
	}
	for id, nodes := range held {
		slices.Sort(nodes)
		root(id, "held by "+fewOf(nodes))
	}
	delete(why, "") // nothing is no release
	return why
}

// fewOf lists the first names.
func fewOf(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// span is a duration in the largest unit in which it is whole: 7d, 36h, 90s.
func span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.of && d%u.of == 0 {
			return fmt.Sprintf("%d%s", d/u.of, u.name)
		}
	}
	return d.String()
}
