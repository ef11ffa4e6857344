package manager

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"relman/cluster"
	"relman/release"
)

// fakeNode does what an agent does, with a pause instead of the work.
type fakeNode struct {
	fake *fake
	self cluster.Self
	site release.Site
	fill time.Duration

	deaf   bool // it does not say that it has drained
	status cluster.Status
}

// run lives until ctx ends: the node registers, enters, fills and claims. What
// it claims stands when it dies.
func (n *fakeNode) run(ctx context.Context) {
	f, id := n.fake, n.self.Node
	f.put(cluster.JoinKey(id), cluster.Join{Group: n.self.Group})
	f.put(cluster.LastKey(id), cluster.Last{Boot: n.self.Live.Boot, FenceMS: 10_000})
	f.put(cluster.LiveKey(id), n.self.Live)
	defer f.drop(cluster.LiveKey(id), cluster.StatusKey(id, n.site))
	for {
		f.mu.Lock()
		v, err := f.view(n.site)
		news := f.news
		f.mu.Unlock()
		worked := false
		if err == nil {
			switch m := v.Members[id]; m.Value {
			case cluster.MemberIn:
				worked = n.step(ctx, v)
			case cluster.MemberDrain:
				if !n.deaf {
					n.report(cluster.Status{State: cluster.NodeDraining, Epoch: n.status.Epoch, Drained: m.Mod})
				}
			case cluster.MemberOut:
				n.catchUp(ctx, v)
			}
		}
		if worked {
			continue
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// catchUp is what a node does that is out: it follows what is active.
func (n *fakeNode) catchUp(ctx context.Context, v *cluster.View) {
	epoch := v.Active.Value.Epoch
	if n.status.Epoch == epoch || pass(ctx, n.fill) {
		n.report(cluster.Status{State: cluster.NodeOut, Epoch: epoch})
	}
}

// report says how the node is doing, if that has changed.
func (n *fakeNode) report(s cluster.Status) {
	if !reflect.DeepEqual(s, n.status) {
		n.status = s
		n.fake.put(cluster.StatusKey(n.self.Node, n.site), s)
	}
}

// step is one transaction, if there is something to do.
func (n *fakeNode) step(ctx context.Context, v *cluster.View) bool {
	nv := &cluster.NodeView{Site: v.Site, Revision: v.Revision, Active: v.Active, Rollout: v.Rollout, Member: v.Members[n.self.Node]}
	held, entered := n.held(v)
	nv.ClaimMods = n.claimMods(v.Site)
	if !entered {
		if v.Active.Exists() {
			if !pass(ctx, n.fill) {
				return false
			}
			held[v.Active.Value.Buffer] = v.Active.Value.Release
		}
		return n.commit(cluster.Enter(n.self, nv, held))
	}
	r := v.Rollout.Value
	if !v.Rollout.Exists() || held[r.Buffer] == r.Release {
		return false
	}
	if held[r.Buffer] != "" {
		return n.commit(cluster.Retract(n.self, nv))
	}
	if !pass(ctx, n.fill) {
		return false
	}
	return n.commit(cluster.ClaimReady(n.self, nv))
}

func (n *fakeNode) held(v *cluster.View) (held []release.ID, entered bool) {
	held = make([]release.ID, cluster.MaxBuffers)
	for _, c := range v.Claims {
		if c.Node == n.self.Node {
			held[c.Buffer], entered = c.Release, true
		}
	}
	return held, entered
}

func (n *fakeNode) claimMods(site release.Site) (mods []int64) {
	n.fake.mu.Lock()
	defer n.fake.mu.Unlock()
	for k := range cluster.MaxBuffers {
		mods = append(mods, n.fake.pairs[cluster.ClaimKey(site, k, n.self.Group, n.self.Node)].Mod)
	}
	return mods
}

// commit reports that it is worth to look again: done or refused, the site has
// moved.
func (n *fakeNode) commit(t cluster.Txn) bool {
	if _, err := n.fake.commit(t); err != nil && !errors.Is(err, cluster.ErrConflict) {
		n.fake.t.Errorf("%s: %v", t.Name, err)
	}
	return true
}

func pass(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// publisher asks for releases, as the command line does.
type publisher struct {
	fake *fake
	site release.Site
	next int
}

// register makes the n-th release known.
func (p *publisher) register(n int) {
	p.fake.put(cluster.ReleaseKey(p.site, rel(n)), cluster.ReleaseRecord{Manifest: digest(n), By: "ci@example"})
}

// ask requests something and returns the request's id.
func (p *publisher) ask(d cluster.Desired) cluster.RequestID {
	p.next++
	d.Request, d.By, d.At = cluster.RequestID(fmt.Sprintf("req-%02d", p.next)), "ci@example", time.Now().UTC()
	for {
		p.fake.mu.Lock()
		v, err := p.fake.view(p.site)
		p.fake.mu.Unlock()
		if err != nil {
			p.fake.t.Fatal(err)
		}
		_, err = p.fake.commit(cluster.Request(v, d))
		if err == nil {
			return d.Request
		}
		if !errors.Is(err, cluster.ErrConflict) || cluster.RefusedBy(err) == cluster.ClassFrozen {
			p.fake.t.Fatal(err)
		}
	}
}

func (p *publisher) publish(n int) cluster.RequestID {
	p.register(n)
	return p.ask(cluster.Desired{Mode: cluster.Publish, Release: rel(n)})
}

// selfOf is a node as its own transactions know it.
func selfOf(id release.NodeID) cluster.Self {
	return cluster.Self{Node: id, Group: release.DefaultGroup, Live: cluster.Live{Boot: "boot-" + string(id)}}
}
