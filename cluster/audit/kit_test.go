package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// past makes a history, transaction by transaction, as etcd would tell it. It
// has the site www and the nodes n1 and n2.
type past struct {
	t    *testing.T
	rev  int64
	keys map[string]cluster.Change
	all  []cluster.Revision

	unasked bool // flips come without what has to come before
}

const (
	www     = release.Site("www")
	manager = cluster.ElectionPrefix + "/7587"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func manifest(seq uint64) release.Digest { return release.Sum([]byte(fmt.Sprint("manifest ", seq))) }

func id(seq uint64) release.ID { return release.NewID(seq, manifest(seq)) }

// puts is what a transaction writes; a nil value deletes.
type puts map[string]any

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case release.ID:
		return string(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// asks does what comes before a flip: what it shows is registered, and somebody has
// asked for it.
func (p *past) asks(flip any) {
	a, err := read[active](text(flip))
	if err != nil {
		return // what cannot be read nobody asked for
	}
	ops := puts{}
	for id, manifest := range a.manifests() {
		if key := cluster.ReleaseKey(www, id); !p.has(key) {
			ops[key] = record{Manifest: manifest}
		}
	}
	if q := (asked{Request: a.Request}); a.Kind != "revert" && !strings.Contains(p.keys[cluster.DesiredKey(www)].Value, `"`+a.Request+`"`) {
		if slices.Contains(a.Override, "freeze") {
			q.OverFreeze = p.keys[cluster.FreezeKey(www)].Mod
		}
		if slices.Contains(a.Override, "verdict") {
			q.OverVerdict = p.keys[cluster.VerdictKey(www, a.Release)].Mod
		}
		ops[cluster.DesiredKey(www)] = q
	}
	if len(ops) > 0 {
		p.do(ops)
	}
}

func (p *past) has(key string) bool {
	_, is := p.keys[key]
	return is
}

// do is one transaction. Before a flip comes what has to.
func (p *past) do(ops puts) int64 {
	if a := ops[cluster.ActiveKey(www)]; a != nil && !p.unasked {
		p.asks(a)
	}
	p.rev++
	r := cluster.Revision{Number: p.rev}
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		before, was := p.keys[key]
		if ops[key] == nil {
			if was {
				delete(p.keys, key)
				r.Changes = append(r.Changes, cluster.Change{Key: key, Deleted: true})
			}
			continue
		}
		ch := cluster.Change{Key: key, Value: text(ops[key]), Mod: p.rev, Create: p.rev}
		if was {
			ch.Create = before.Create
		}
		p.keys[key] = ch
		r.Changes = append(r.Changes, ch)
	}
	p.all = append(p.all, r)
	return p.rev
}

// founded is a site with a leader and two members that hold nothing.
func founded(t *testing.T) *past {
	p := &past{t: t, keys: map[string]cluster.Change{}}
	p.all = append(p.all, cluster.Revision{Base: true})
	p.do(puts{cluster.CatalogKey: cluster.Catalog{Sites: []release.Site{www}}, cluster.RosterKey(www): cluster.Roster{V: 1}, cluster.ConfigKey(www): `{"min":"100%","buffers":3}`})
	p.do(puts{manager: "m1"})
	for _, n := range []release.NodeID{"n1", "n2"} {
		p.joins(n)
	}
	return p
}

// joins makes a node a member that holds nothing.
func (p *past) joins(n release.NodeID) {
	p.do(puts{cluster.LiveKey(n): cluster.Live{Boot: "01BOOT"}, cluster.JoinKey(n): cluster.Join{Group: "main"}})
	p.do(puts{cluster.MemberKey(www, n): "in"})
	claims := puts{}
	for k := range 3 {
		claims[claim(k, n)] = "-"
	}
	p.do(claims)
}

func claim(k int, n release.NodeID) string { return cluster.ClaimKey(www, k, "main", n) }

func (p *past) active() *cluster.Active {
	ch, is := p.keys[cluster.ActiveKey(www)]
	if !is {
		return nil
	}
	a := new(cluster.Active)
	if err := json.Unmarshal([]byte(ch.Value), a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

func request(seq uint64) cluster.RequestID { return cluster.RequestID(fmt.Sprint("01REQ", seq)) }
func flipID(seq uint64) string             { return fmt.Sprint("01FLIP", seq) }

// starts starts the rollout of a release into a buffer.
func (p *past) starts(seq uint64, k int) {
	p.do(puts{cluster.RolloutKey(www): cluster.Rollout{Release: id(seq), Buffer: k, Flip: flipID(seq), Request: request(seq)}})
}

// prepares has nodes claim a release, in a buffer that they retract before.
func (p *past) prepares(seq uint64, k int, nodes ...release.NodeID) {
	for _, n := range nodes {
		p.do(puts{claim(k, n): "-"})
		p.do(puts{claim(k, n): id(seq)})
	}
}

// next is the active value by which a release becomes active.
func (p *past) next(seq uint64, k, claims int) cluster.Active {
	a := cluster.Active{
		Release: id(seq), Epoch: 1, Buffer: k, Manifest: manifest(seq), Kind: cluster.Publish, Flip: flipID(seq), Request: request(seq), At: noon,
		Quorum: cluster.Quorum{Members: claims, Claims: claims},
	}
	if old := p.active(); old != nil {
		a.Epoch, a.Previous = old.Epoch+1, &cluster.Held{Release: old.Release, Buffer: old.Buffer}
	}
	return a
}

// flip is what the transaction of a flip writes.
func flip(a cluster.Active) puts {
	return puts{
		cluster.RolloutKey(www): nil, cluster.ActiveKey(www): a, cluster.HistoryKey(www, a.Epoch): a,
		cluster.ResultKey(www, a.Request): cluster.Result{State: cluster.StateActive, Release: a.Release, Epoch: a.Epoch, Changed: true},
	}
}

// publishes makes a release active as it should be.
func (p *past) publishes(seq uint64, k int) {
	p.starts(seq, k)
	p.prepares(seq, k, "n1", "n2")
	p.do(flip(p.next(seq, k, 2)))
}

// published is a site with two releases: the second one is active in buffer 1.
func published(t *testing.T) *past {
	p := founded(t)
	p.publishes(1, 0)
	p.publishes(2, 1)
	return p
}

// judged has a checker take it all.
func (p *past) judged(only ...release.Site) *Report {
	c := New(only...)
	for _, r := range p.all {
		c.Take(r)
	}
	return c.Report()
}

// base is the state as a whole as of now, as what there is of it is read when the
// rest is forgotten.
func (p *past) base() cluster.Revision {
	r := cluster.Revision{Number: p.rev, Base: true}
	for _, key := range slices.Sorted(maps.Keys(p.keys)) {
		r.Changes = append(r.Changes, p.keys[key])
	}
	return r
}
