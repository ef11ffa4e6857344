package manager

import (
	"encoding/json"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

// police checks, after each transaction, what no transaction may break. The
// numbers are those of the protocol's invariants.
func (f *fake) police(t cluster.Txn, before map[string]cluster.Pair) {
	var catalog cluster.Catalog
	f.decode(f.pairs[cluster.CatalogKey].Value, &catalog)
	for _, site := range catalog.Sites {
		f.policeActive(t, site, before)
		f.policeRollout(t, site)
		f.policeResults(t, site, before)
		f.policeRoster(t, site, before)
	}
}

func (f *fake) decode(raw string, v any) {
	if raw == "" {
		return
	}
	if err := json.Unmarshal([]byte(raw), v); err != nil {
		f.t.Errorf("decode %s: %v", raw, err)
	}
}

// policeActive: I2, I3, I4, I6, I7, I11, I15.
func (f *fake) policeActive(t cluster.Txn, site release.Site, before map[string]cluster.Pair) {
	key := cluster.ActiveKey(site)
	if before[key] == f.pairs[key] {
		return
	}
	var old, a cluster.Active
	f.decode(before[key].Value, &old)
	f.decode(f.pairs[key].Value, &a)
	bad := func(rule, text string) {
		f.t.Errorf("%s is broken by %s: %s: %s", rule, t.Name, text, f.pairs[key].Value)
	}
	claims := f.under(cluster.ClaimsPrefix(site, a.Buffer), true)
	if len(claims) == 0 || slices.ContainsFunc(claims, func(p cluster.Pair) bool { return p.Value != string(a.Release) }) {
		bad("I2", "not every member holds the release")
	}
	if a.Quorum.Claims != len(claims) {
		bad("I13", "the evidence is not what is there")
	}
	if a.Epoch != old.Epoch+1 {
		bad("I3", "the epoch does not grow by one")
	}
	if len(f.under(cluster.ElectionPrefix, true)) == 0 {
		bad("I4", "nobody leads")
	}
	if z := before[cluster.FreezeKey(site)]; z.Create != 0 && a.Kind != cluster.Rollback && !slices.Contains(a.Override, cluster.OverrideFreeze) {
		bad("I6", "the site is frozen")
	}
	if a.Flip == "" || f.flips[a.Flip] {
		bad("I7", "the flip id is not new")
	}
	f.flips[a.Flip] = true
	if _, ended := before[cluster.ResultKey(site, a.Request)]; ended {
		bad("I11", "the request had ended")
	}
	if f.pairs[cluster.HistoryKey(site, a.Epoch)].Value != f.pairs[key].Value {
		bad("I15", "history has another value")
	}
}

// policeRollout: I10.
func (f *fake) policeRollout(t cluster.Txn, site release.Site) {
	raw, exists := f.pairs[cluster.RolloutKey(site)]
	if !exists {
		return
	}
	var r cluster.Rollout
	var a cluster.Active
	f.decode(raw.Value, &r)
	f.decode(f.pairs[cluster.ActiveKey(site)].Value, &a)
	if a.Epoch > 0 && (r.Buffer == a.Buffer || a.Previous != nil && r.Buffer == a.Previous.Buffer) {
		f.t.Errorf("I10 is broken by %s: the rollout fills buffer %d", t.Name, r.Buffer)
	}
	if r.Flip == "" {
		f.t.Errorf("%s: the rollout has no flip id", t.Name)
	}
}

// policeResults: how a request ended never changes.
func (f *fake) policeResults(t cluster.Txn, site release.Site, before map[string]cluster.Pair) {
	for k, p := range before {
		if now, still := f.pairs[k]; still && strings.HasPrefix(k, cluster.ResultsPrefix(site)) && now.Value != p.Value {
			f.t.Errorf("%s changes a result: %s was %s", t.Name, now.Value, p.Value)
		}
	}
}

// policeRoster: whoever takes a claim away, or a node out of the count, changes
// the roster, and only nodes that drain or are dead go out.
func (f *fake) policeRoster(t cluster.Txn, site release.Site, before map[string]cluster.Pair) {
	less := false
	for k, p := range before {
		now, still := f.pairs[k]
		switch {
		case strings.HasPrefix(k, cluster.ReadyPrefix(site)) && !still:
			less = true
		case strings.HasPrefix(k, cluster.MembersPrefix(site)) && p.Value == string(cluster.MemberIn) && now.Value != p.Value:
			less = true
			n := release.NodeID(strings.TrimPrefix(k, cluster.MembersPrefix(site)))
			if _, live := f.pairs[cluster.LiveKey(n)]; live && now.Value == string(cluster.MemberOut) {
				f.t.Errorf("I8: %s puts %s out while it lives", t.Name, n)
			}
		}
	}
	if k := cluster.RosterKey(site); less && before[k].Mod == f.pairs[k].Mod {
		f.t.Errorf("I13: %s does not change the roster", t.Name)
	}
}
