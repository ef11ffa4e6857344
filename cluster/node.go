package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Node is what a node can read and write. It has no method that flips.
type Node struct {
	c    *Client
	self Self
	live Live
	join Join
	log  *slog.Logger

	cluster atomic.Pointer[string] // that the node belongs to; nil: not known yet
	before  string                 // a boot that is known to have ended; see Succeed
	fence   time.Duration          // see Vouch
	now     func() time.Time       // see Clock
	clock   clockError

	alive   atomic.Bool
	trouble atomic.Pointer[error] // why it is not
	seen    sightings

	mu      sync.Mutex // guards reports and claims, never while something is written
	reports map[release.Site]*report
	claims  map[release.Site][]int64 // revisions of the own claims, as far as they are known
	turns   map[release.Site]int64   // revisions of the own turns; none: a new one is to be taken
	wake    chan struct{}            // holds one when there may be something to write
}

// Node is this client as one node. live.Boot names this start of its agent.
func (c *Client) Node(self Self, live Live, join Join) *Node {
	if self.Group == "" {
		self.Group = release.DefaultGroup
	}
	self.Live, join.Group = live, self.Group
	if join.Sites == nil {
		join.Sites = []release.Site{}
	}
	return &Node{
		seen: sightings{live: kv{LiveKey(self.Node), encode(live)}},
		c:    c, self: self, live: live, join: join, log: c.log.With("node", self.Node), now: time.Now,
		reports: map[release.Site]*report{}, claims: map[release.Site][]int64{}, turns: map[release.Site]int64{}, wake: make(chan struct{}, 1),
	}
}

// Succeed names a boot of this node that has certainly ended: its session is
// taken over at once instead of after it has run out. It is called before Run.
func (n *Node) Succeed(boot string) { n.before = boot }

// Belong says which cluster this node is of: it registers in no other. Without it,
// the first one counts that it registers in. It is called before Run.
func (n *Node) Belong(cluster string) {
	if cluster != "" {
		n.cluster.Store(&cluster)
	}
}

// errOtherCluster: etcd is that of another cluster.
var errOtherCluster = errors.New("etcd is of another cluster")

// belongs is an error when etcd is that of another cluster. A cluster that has no
// name yet is anybody's.
func (n *Node) belongs(info *mvccpb.KeyValue) error {
	id, err := clusterID(info)
	own := n.cluster.Load()
	if err != nil || id == "" || own == nil || *own == id {
		return err
	}
	return fmt.Errorf("%w: node %s belongs to cluster %s, the one at %s is %s", errOtherCluster, n.self.Node, *own, n.c.endpoints(), id)
}

// clusterID is the name of a cluster, "" while it has none.
func clusterID(info *mvccpb.KeyValue) (string, error) {
	var i Info
	if info == nil {
		return "", nil
	}
	err := decode(InfoKey, info.Value, &i)
	return i.ID, err
}

// Alive reports whether the node's session lives as far as is known.
func (n *Node) Alive() bool { return n.alive.Load() }

// Unregistered is why the node's session does not live; nil while it does, or
// before it was tried.
func (n *Node) Unregistered() error {
	if err := n.trouble.Load(); err != nil && !n.Alive() {
		return *err
	}
	return nil
}

// MissedEvents counts the changes that a read found and the watch had not
// delivered. It should stay 0.
func (n *Node) MissedEvents() uint64 { return n.seen.missed.Load() }

// FollowSites calls each with the sites that are for this node, now and after
// every change, until ctx ends. What the node asked for when it first joined is
// what counts.
func (n *Node) FollowSites(ctx context.Context, each func([]release.Site)) error {
	var last []release.Site
	first := true
	n.c.follow(ctx, n.log, &n.seen, []string{CatalogKey, JoinKey(n.self.Node), InfoKey, ClockKey}, func(_ int64, kvs []*mvccpb.KeyValue) {
		if err := n.clock.hear(kvs[3], n.now()); err != nil {
			n.log.Error("the own clock cannot be compared", "error", err)
		}
		if err := n.belongs(kvs[2]); err != nil {
			n.log.Error("the sites are not followed", "error", err)
			return
		}
		sites, err := n.sites(kvs[0], kvs[1])
		if err != nil {
			n.log.Error("cannot read which sites there are", "error", err)
			return
		}
		if first || !slices.Equal(sites, last) {
			first, last = false, sites
			each(slices.Clone(sites))
		}
	})
	return nil
}

func (n *Node) sites(catalog, joined *mvccpb.KeyValue) ([]release.Site, error) {
	var all Entry[Catalog]
	join := Entry[Join]{Value: n.join}
	if catalog != nil {
		if err := entry(catalog, &all); err != nil {
			return nil, err
		}
	}
	if joined != nil {
		join.Value = Join{}
		if err := entry(joined, &join); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all.Value.Sites, func(s release.Site) bool {
		_, err := release.ParseSite(string(s)) // a node makes directories of these names
		return err != nil || !join.Value.For(s)
	}), nil
}

// Follow calls each with what the node has to obey for a site, now and after
// every change, until ctx ends. Calls come one after the other, always with the
// newest state. The keys are watched one by one: for an instant a view may
// have one of them newer than another, which a transaction made from it
// finds out by its guards.
func (n *Node) Follow(ctx context.Context, site release.Site, each func(NodeView)) error {
	keys := []string{ActiveKey(site), RolloutKey(site), MemberKey(site, n.self.Node), ServingKey(site), SecretKey(site), InfoKey}
	n.c.follow(ctx, n.log.With("site", site), &n.seen, keys, func(rev int64, kvs []*mvccpb.KeyValue) {
		v, err := nodeView(site, rev, kvs)
		if err != nil {
			n.log.Error("cannot read what is to be shown", "site", site, "error", err)
			return
		}
		each(v)
	})
	return nil
}

func nodeView(site release.Site, rev int64, kvs []*mvccpb.KeyValue) (NodeView, error) {
	v := NodeView{Site: site, Revision: rev}
	if kv := kvs[0]; kv != nil {
		if err := entry(kv, &v.Active); err != nil {
			return v, err
		}
	}
	if kv := kvs[1]; kv != nil {
		if err := entry(kv, &v.Rollout); err != nil {
			return v, err
		}
	}
	if kv := kvs[2]; kv != nil {
		m, err := memberEntry(kv)
		if err != nil {
			return v, err
		}
		v.Member = m
	}
	if kv := kvs[3]; kv != nil {
		if err := entry(kv, &v.Serving); err != nil {
			return v, err
		}
	}
	if kv := kvs[4]; kv != nil {
		var err error
		if v.Secret, err = parseSecret(string(kv.Key), kv.Value); err != nil {
			return v, err
		}
	}
	var err error
	v.Cluster, err = clusterID(kvs[5])
	return v, err
}

// Active reads what is active now: the newest that any member of etcd knows,
// as it stood at a revision.
func (n *Node) Active(ctx context.Context, site release.Site) (a Entry[Active], revision int64, err error) {
	r, err := n.c.read(ctx, "read what is active on "+string(site), clientv3.OpGet(ActiveKey(site)))
	if err != nil {
		return a, 0, err
	}
	a, err = entryAt[Active](r, 0)
	return a, r.Header.Revision, err
}

// Release reads the record of a release. ErrNotFound: it was never registered,
// or is gone.
func (n *Node) Release(ctx context.Context, site release.Site, id release.ID) (ReleaseRecord, error) {
	e, err := getEntry[ReleaseRecord](ctx, n.c, ReleaseKey(site, id))
	if err == nil && !e.Exists() {
		err = fmt.Errorf("release %s of %s: %w", id, site, ErrNotFound)
	}
	return e.Value, err
}

// Claims reads the node's own claims as they stand: one release per buffer, ""
// for none. A node that has not entered the site has none. What it has sent before
// and does not know the outcome of is carried out by then, or never. What Enter, Retract,
// Claim and Lower write after it is refused when a claim is another one than
// was read or written last: after an error of theirs, the claims are to be read
// again.
func (n *Node) Claims(ctx context.Context, site release.Site) (held []release.ID, entered bool, err error) {
	if err := n.ownTurn(ctx, site); err != nil {
		return nil, false, err
	}
	var gets []clientv3.Op
	for k := range MaxBuffers {
		gets = append(gets, clientv3.OpGet(ClaimKey(site, k, n.self.Group, n.self.Node)))
	}
	r, err := n.c.read(ctx, "read the own claims of "+string(site), gets...)
	if err != nil {
		return nil, false, err
	}
	mods := make([]int64, MaxBuffers)
	for k := range gets {
		kv := only(ranged(r, k))
		if kv == nil {
			continue
		}
		for len(held) < k {
			held = append(held, "")
		}
		held = append(held, claimed(kv))
		mods[k] = kv.ModRevision
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.claims[site] = mods
	return held, len(held) > 0, nil
}

// Enter writes all claims of the node, as its disk has them (T11).
func (n *Node) Enter(ctx context.Context, v NodeView, held []release.ID) error {
	var buffers []int
	for k := range MaxBuffers {
		buffers = append(buffers, k)
	}
	return n.claim(ctx, v, buffers, func(v *NodeView) Txn { return Enter(n.self, v, held) })
}

// Retract gives up the claim of the rollout's buffer (T4).
func (n *Node) Retract(ctx context.Context, v NodeView) error {
	return n.claim(ctx, v, []int{v.Rollout.Value.Buffer}, func(v *NodeView) Txn { return Retract(n.self, v) })
}

// Claim says that the rollout's buffer holds its release (T5).
func (n *Node) Claim(ctx context.Context, v NodeView) error {
	return n.claim(ctx, v, []int{v.Rollout.Value.Buffer}, func(v *NodeView) Txn { return ClaimReady(n.self, v) })
}

// Lower retracts claims that the disk cannot back, or that are in the way of
// the active release (T11a).
func (n *Node) Lower(ctx context.Context, v NodeView, buffers []int) error {
	if len(buffers) == 0 {
		return nil
	}
	return n.claim(ctx, v, buffers, func(v *NodeView) Txn { return Lower(n.self, v, buffers) })
}

// claim commits what writes the claims of some buffers, as they are known, and
// notes their new revision. When the outcome is not known, neither are they.
func (n *Node) claim(ctx context.Context, v NodeView, buffers []int, txn func(*NodeView) Txn) error {
	n.mu.Lock()
	v.ClaimMods, v.Turn = n.claims[v.Site], n.turns[v.Site]
	delete(n.claims, v.Site)
	n.mu.Unlock()
	rev, err := n.c.Commit(ctx, txn(&v))
	class := RefusedBy(err)
	if err != nil && (class == "" || class == ClassConflict || errors.Is(err, ErrUnknown)) {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.turns, v.Site)
		return err // a claim is not, or may not be, as it was known
	}
	mods := make([]int64, MaxBuffers)
	copy(mods, v.ClaimMods)
	if err == nil {
		for _, k := range buffers {
			mods[k] = rev
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.claims[v.Site] = mods
	return err
}
