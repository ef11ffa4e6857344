package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// fake is a small etcd in a map: revisions, guarded transactions, watches and
// an election. It runs inside synctest bubbles, and complains at once about a
// commit that breaks an invariant of the protocol.
type fake struct {
	t       testing.TB
	latency time.Duration // of every call of a manager

	mu       sync.Mutex
	revision int64
	pairs    map[string]cluster.Pair
	touched  []touch       // every change of a key, in order
	news     chan struct{} // closed and replaced at every change
	flips    map[string]bool
	leaders  map[string]*fakeLeadership // by key, also those that campaign
	observed int                        // calls of Observe

	faulty sync.Mutex // guards fault, and what it counts
	// fault, if set, sees each transaction of a manager before it is run. An
	// error is the answer instead; it may have committed the transaction.
	fault func(t cluster.Txn) error
	// outage, if set, is the answer to everything else.
	outage error
}

type touch struct {
	revision int64
	key      string
	at       time.Time
}

func newFake(t testing.TB) *fake {
	return &fake{
		t: t, revision: 1, pairs: map[string]cluster.Pair{}, news: make(chan struct{}),
		flips: map[string]bool{}, leaders: map[string]*fakeLeadership{},
	}
}

var _ Cluster = (*fake)(nil)

// Commit is a manager's: with latency and faults.
func (f *fake) Commit(ctx context.Context, t cluster.Txn) (int64, error) {
	if err := f.call(ctx); err != nil {
		return 0, err
	}
	if err := f.suffer(t); err != nil {
		return 0, err
	}
	return f.commit(t)
}

// suffer asks the fault about one transaction at a time.
func (f *fake) suffer(t cluster.Txn) error {
	f.faulty.Lock()
	defer f.faulty.Unlock()
	if f.fault == nil {
		return nil
	}
	return f.fault(t)
}

// commit is one transaction as etcd would run it, and as cluster.Client would
// see it: an earlier copy of it is recognised by its mark.
func (f *fake) commit(t cluster.Txn) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range t.Guards {
		if pairs := f.under(g.Key, g.Prefix); !g.Holds(pairs) {
			if m := t.Mark; m != nil && f.pairs[m.Key].Value == m.Value {
				return f.pairs[m.Key].Mod, nil
			}
			found := ""
			if len(pairs) > 0 {
				found = pairs[0].Value
			}
			return 0, &cluster.Refusal{Txn: t.Name, Guard: g, Found: found}
		}
	}
	before := maps.Clone(f.pairs)
	f.apply(t.Ops)
	f.police(t, before)
	return f.revision, nil
}

func (f *fake) apply(ops []cluster.Op) {
	f.revision++
	for _, o := range ops {
		f.touched = append(f.touched, touch{f.revision, o.Key, time.Now()})
		if o.Delete {
			delete(f.pairs, o.Key)
			continue
		}
		create := f.revision
		if old, ok := f.pairs[o.Key]; ok {
			create = old.Create
		}
		f.pairs[o.Key] = cluster.Pair{Key: o.Key, Value: o.Value, Mod: f.revision, Create: create}
	}
	close(f.news)
	f.news = make(chan struct{})
}

// under lists what a guard looks at, by key.
func (f *fake) under(key string, prefix bool) []cluster.Pair {
	if !prefix {
		if p, ok := f.pairs[key]; ok {
			return []cluster.Pair{p}
		}
		return nil
	}
	var list []cluster.Pair
	for k, p := range f.pairs {
		if strings.HasPrefix(k, key) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b cluster.Pair) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// put and drop are the hand of the test, with no guard.
func (f *fake) put(key string, v any) {
	raw, bare := v.(string)
	if !bare {
		b, err := json.Marshal(v)
		if err != nil {
			f.t.Errorf("put %s: %v", key, err)
		}
		raw = string(b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply([]cluster.Op{{Key: key, Value: raw}})
}

func (f *fake) drop(keys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ops []cluster.Op
	for _, k := range keys {
		ops = append(ops, cluster.Op{Key: k, Delete: true})
	}
	f.apply(ops)
}

// call is what every call of a manager costs and suffers.
func (f *fake) call(ctx context.Context) error {
	if f.latency > 0 {
		select {
		case <-time.After(f.latency):
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return cmp.Or(ctx.Err(), f.outage)
}

func (f *fake) Sites(ctx context.Context) ([]release.Site, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return read[cluster.Catalog](f, cluster.CatalogKey).Value.Sites, nil
}

// Changes tells of every change since it was called; of nodes, for each site.
func (f *fake) Changes(ctx context.Context, changed func(release.Site)) error {
	sites, err := f.Sites(ctx)
	if err != nil {
		return err
	}
	for _, s := range sites {
		changed(s)
	}
	f.mu.Lock()
	seen := len(f.touched)
	f.mu.Unlock()
	for {
		f.mu.Lock()
		fresh, news, outage := f.touched[seen:], f.news, f.outage
		seen = len(f.touched)
		sites = read[cluster.Catalog](f, cluster.CatalogKey).Value.Sites
		f.mu.Unlock()
		for _, s := range sites {
			if slices.ContainsFunc(fresh, func(c touch) bool {
				return strings.HasPrefix(c.key, cluster.SitePrefix(s)) || strings.HasPrefix(c.key, cluster.Prefix+"nodes/")
			}) {
				changed(s)
			}
		}
		if outage != nil {
			return outage
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// GC reads the state of the sweep.
func (f *fake) GC(ctx context.Context) (cluster.Entry[cluster.GC], error) {
	if err := f.call(ctx); err != nil {
		return cluster.Entry[cluster.GC]{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return read[cluster.GC](f, cluster.GCKey), nil
}

// Uploads lists the publishers at work.
func (f *fake) Uploads(ctx context.Context) ([]cluster.Uploading, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []cluster.Uploading
	for rest := range f.names(cluster.Prefix + "uploads/") {
		site, req, _ := strings.Cut(rest, "/")
		all = append(all, cluster.Uploading{Site: release.Site(site), Request: cluster.RequestID(req), Host: "ci-1"})
	}
	return all, nil
}

// History is the reader's.
func (f *fake) History(ctx context.Context, site release.Site, limit int) ([]cluster.Active, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []cluster.Active
	for _, p := range slices.Backward(f.under(cluster.HistoryPrefix(site), true)) {
		if len(list) < limit {
			list = append(list, read[cluster.Active](f, p.Key).Value)
		}
	}
	return list, nil
}

// Observe reads a site at one revision.
func (f *fake) Observe(ctx context.Context, site release.Site) (*cluster.View, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.observed++
	return f.view(site)
}

func (f *fake) view(site release.Site) (*cluster.View, error) {
	v := &cluster.View{
		Site:     site,
		Revision: f.revision,
		Active:   read[cluster.Active](f, cluster.ActiveKey(site)),
		Rollout:  read[cluster.Rollout](f, cluster.RolloutKey(site)),
		Desired:  read[cluster.Desired](f, cluster.DesiredKey(site)),
		Policy:   read[cluster.Policy](f, cluster.ConfigKey(site)),
		Freeze:   read[cluster.Freeze](f, cluster.FreezeKey(site)),
		Roster:   read[cluster.Roster](f, cluster.RosterKey(site)),
		Told:     read[uint64](f, cluster.ToldKey(site)),
		Releases: map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
		Verdicts: map[release.ID]cluster.Entry[string]{},
		Results:  map[cluster.RequestID]cluster.Result{},
		Pins:     map[release.ID]cluster.Entry[string]{},
		Members:  map[release.NodeID]cluster.Entry[cluster.Member]{},
		Cordons:  map[release.NodeID]cluster.Entry[cluster.Cordon]{},
		Approved: map[release.NodeID]bool{},
		Joins:    map[release.NodeID]cluster.Join{},
		Live:     map[release.NodeID]cluster.Live{},
		Last:     map[release.NodeID]cluster.Entry[cluster.Last]{},
		Status:   map[release.NodeID]cluster.Status{},
	}
	if !v.Policy.Exists() {
		return nil, fmt.Errorf("site %s: %w", site, cluster.ErrNotFound)
	}
	for id, key := range f.names(cluster.ReleasesPrefix(site)) {
		v.Releases[release.ID(id)] = read[cluster.ReleaseRecord](f, key)
	}
	for id, key := range f.names(cluster.VerdictsPrefix(site)) {
		v.Verdicts[release.ID(id)] = bareEntry(f.pairs[key])
	}
	for id, key := range f.names(cluster.PinsPrefix(site)) {
		v.Pins[release.ID(id)] = bareEntry(f.pairs[key])
	}
	for n, key := range f.names(cluster.CordonsPrefix(site)) {
		v.Cordons[release.NodeID(n)] = read[cluster.Cordon](f, key)
	}
	for n := range f.names(cluster.ApprovalsPrefix(site)) {
		v.Approved[release.NodeID(n)] = true
	}
	for id, key := range f.names(cluster.ResultsPrefix(site)) {
		v.Results[cluster.RequestID(id)] = read[cluster.Result](f, key).Value
	}
	for id, key := range f.names(cluster.MembersPrefix(site)) {
		p := f.pairs[key]
		v.Members[release.NodeID(id)] = cluster.Entry[cluster.Member]{Value: cluster.Member(p.Value), Mod: p.Mod, Create: p.Create}
	}
	for _, p := range f.under(cluster.ReadyPrefix(site), true) {
		v.Claims = append(v.Claims, readClaim(p, site))
	}
	f.viewNodes(v)
	return v, nil
}

func (f *fake) viewNodes(v *cluster.View) {
	for rest, key := range f.names(cluster.Prefix + "nodes/") {
		id, what, _ := strings.Cut(rest, "/")
		n := release.NodeID(id)
		join := read[cluster.Join](f, cluster.JoinKey(n)).Value
		if len(join.Sites) > 0 && !slices.Contains(join.Sites, v.Site) {
			continue
		}
		switch what {
		case "join":
			v.Joins[n] = join
		case "last":
			v.Last[n] = read[cluster.Last](f, key)
		case "live":
			v.Live[n] = read[cluster.Live](f, key).Value
		case "status/" + string(v.Site):
			v.Status[n] = read[cluster.Status](f, key).Value
		}
	}
}

// names are the keys under a prefix, by what follows it.
func (f *fake) names(prefix string) map[string]string {
	all := map[string]string{}
	for _, p := range f.under(prefix, true) {
		all[strings.TrimPrefix(p.Key, prefix)] = p.Key
	}
	return all
}

func readClaim(p cluster.Pair, site release.Site) cluster.Claim {
	parts := strings.Split(strings.TrimPrefix(p.Key, cluster.ReadyPrefix(site)), "/")
	buffer, _ := strconv.Atoi(parts[0])
	c := cluster.Claim{Buffer: buffer, Group: release.Group(parts[1]), Node: release.NodeID(parts[2])}
	if p.Value != cluster.NoClaim {
		c.Release = release.ID(p.Value)
	}
	return c
}

// bareEntry is one that is no JSON.
func bareEntry(p cluster.Pair) cluster.Entry[string] {
	return cluster.Entry[string]{Value: p.Value, Mod: p.Mod, Create: p.Create}
}

func read[T any](f *fake, key string) cluster.Entry[T] {
	p, ok := f.pairs[key]
	if !ok {
		return cluster.Entry[T]{}
	}
	e := cluster.Entry[T]{Mod: p.Mod, Create: p.Create}
	if err := json.Unmarshal([]byte(p.Value), &e.Value); err != nil {
		f.t.Errorf("read %s: %v", key, err)
	}
	return e
}
