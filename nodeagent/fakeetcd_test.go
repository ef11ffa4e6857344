package nodeagent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// fakeEtcd is what one node sees of a cluster with one site, with the guards
// of the node's transactions. At every commit it asks the disk whether the
// claims are true.
type fakeEtcd struct {
	mu      sync.Mutex
	rev     int64
	view    cluster.NodeView
	records map[release.ID]cluster.ReleaseRecord
	claims  map[int]release.ID // "" claims nothing
	sites   []release.Site
	status  cluster.Status
	bake    *cluster.Bake // how what is flipped to bakes
	changed chan struct{} // closed and replaced at every change
	down    bool          // nothing answers
	deaf    bool          // the watch of the site delivers nothing
	asked   int           // calls of Active
	contact time.Duration
	lived   time.Duration
	orphan  bool // the session is gone, though etcd answers

	clockError time.Duration
	activateAt time.Time     // of the next flip
	ahead      time.Duration // the leader's clock

	peers  []cluster.Peer
	lost   map[string]int // answers that get lost, by transaction: what was asked is done
	txns   []string
	audit  func(claims map[int]release.ID) error
	broken []error
}

func newFakeEtcd() *fakeEtcd {
	e := &fakeEtcd{
		records: map[release.ID]cluster.ReleaseRecord{}, claims: map[int]release.ID{},
		sites: []release.Site{www}, changed: make(chan struct{}), lost: map[string]int{},
	}
	e.view.Site = www
	return e
}

// change changes something, in one revision.
func (e *fakeEtcd) change(f func(rev int64)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commit(f)
}

func (e *fakeEtcd) commit(f func(rev int64)) {
	e.rev++
	f(e.rev)
	e.view.Revision = e.rev
	if e.audit != nil {
		if err := e.audit(maps.Clone(e.claims)); err != nil {
			e.broken = append(e.broken, err)
		}
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// The leader's part.

func (e *fakeEtcd) register(m *release.Manifest) release.ID {
	e.change(func(int64) { e.records[m.ID()] = cluster.ReleaseRecord{Manifest: m.Digest()} })
	return m.ID()
}

func (e *fakeEtcd) setMember(s cluster.Member) {
	e.change(func(rev int64) { e.view.Member = cluster.Entry[cluster.Member]{Value: s, Mod: rev, Create: rev} })
}

// startRollout is T3: a buffer that is neither active's nor previous's.
func (e *fakeEtcd) startRollout(id release.ID) {
	e.change(func(rev int64) {
		v := cluster.View{Active: e.view.Active}
		v.Policy.Value = cluster.DefaultPolicy()
		e.view.Rollout = cluster.Entry[cluster.Rollout]{
			Value: cluster.Rollout{Release: id, Buffer: v.BackBuffer()}, Mod: rev, Create: rev,
		}
	})
}

func (e *fakeEtcd) abort() {
	e.change(func(int64) { e.view.Rollout = cluster.Entry[cluster.Rollout]{} })
}

// flip is T6 as far as this node is concerned: without its claim it is refused.
func (e *fakeEtcd) flip(t testing.TB) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.view.Rollout.Value
	if !e.view.Rollout.Exists() || e.claims[r.Buffer] != r.Release {
		t.Fatalf("no flip to %q: buffer %d is claimed to hold %q", r.Release, r.Buffer, e.claims[r.Buffer])
	}
	e.setActive(cluster.Held{Release: r.Release, Buffer: r.Buffer})
}

// rollback is T7.
func (e *fakeEtcd) rollback(t testing.TB) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	p := *e.view.Active.Value.Previous
	if e.claims[p.Buffer] != p.Release {
		t.Fatalf("no rollback to %q: buffer %d is claimed to hold %q", p.Release, p.Buffer, e.claims[p.Buffer])
	}
	e.setActive(p)
}

// flipElsewhere makes a release active as if this node did not count.
func (e *fakeEtcd) flipElsewhere(id release.ID, buffer int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setActive(cluster.Held{Release: id, Buffer: buffer})
}

func (e *fakeEtcd) setActive(to cluster.Held) {
	e.commit(func(rev int64) {
		old := e.view.Active
		next := cluster.Active{
			Release: to.Release, Buffer: to.Buffer, Epoch: old.Value.Epoch + 1, Manifest: e.records[to.Release].Manifest, Bake: e.bake,
		}
		next.At = time.Now().Add(e.ahead)
		next = next.Schedule(old, e.activateAt)
		e.activateAt = time.Time{}
		e.view.Active = cluster.Entry[cluster.Active]{Value: next, Mod: rev, Create: max(old.Create, 1)}
		e.view.Rollout = cluster.Entry[cluster.Rollout]{}
	})
}

// The node's part: Registry.

var _ Registry = (*fakeEtcd)(nil)

func (e *fakeEtcd) follow(ctx context.Context, each func()) error {
	for {
		e.mu.Lock()
		down, changed := e.down, e.changed
		e.mu.Unlock()
		if !down {
			each()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (e *fakeEtcd) FollowSites(ctx context.Context, each func([]release.Site)) error {
	return e.follow(ctx, func() { each(slices.Clone(e.sites)) })
}

func (e *fakeEtcd) Follow(ctx context.Context, _ release.Site, each func(cluster.NodeView)) error {
	return e.follow(ctx, func() {
		e.mu.Lock()
		v, deaf := e.view, e.deaf
		e.mu.Unlock()
		if !deaf {
			each(v)
		}
	})
}

func (e *fakeEtcd) Active(ctx context.Context, _ release.Site) (cluster.Entry[cluster.Active], int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	return e.view.Active, e.rev, e.answers(ctx)
}

func (e *fakeEtcd) Release(ctx context.Context, _ release.Site, id release.ID) (cluster.ReleaseRecord, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.answers(ctx); err != nil {
		return cluster.ReleaseRecord{}, err
	}
	r, ok := e.records[id]
	if !ok {
		return r, fmt.Errorf("release %s: %w", id, cluster.ErrNotFound)
	}
	return r, nil
}

func (e *fakeEtcd) answers(ctx context.Context) error {
	if e.down {
		return cluster.ErrUnavailable
	}
	return ctx.Err()
}

func (e *fakeEtcd) Claims(ctx context.Context, _ release.Site) (held []release.ID, entered bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k := range cluster.MaxBuffers {
		if id, ok := e.claims[k]; ok {
			for len(held) <= k {
				held = append(held, "")
			}
			held[k] = id
		}
	}
	return held, len(held) > 0, e.answers(ctx)
}

// txn commits what a node asks for if its guards hold.
func (e *fakeEtcd) txn(ctx context.Context, name string, ok bool, f func()) error {
	if err := e.answers(ctx); err != nil {
		return err
	}
	e.txns = append(e.txns, name)
	if !ok || e.view.Member.Value != cluster.MemberIn {
		return fmt.Errorf("%s: %w", name, cluster.ErrConflict)
	}
	e.commit(func(int64) { f() })
	if e.lost[name] > 0 {
		e.lost[name]--
		return cluster.ErrUnknown
	}
	return nil
}

func (e *fakeEtcd) Enter(ctx context.Context, v cluster.NodeView, held []release.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := v.Active.Mod == e.view.Active.Mod && v.Rollout.Mod == e.view.Rollout.Mod
	counted := len(e.claims) > 0 // it holds up what it has not claimed yet anyway
	return e.txn(ctx, "enter", same, func() {
		for k, id := range held {
			e.claims[k] = id
		}
		if a := e.view.Active; a.Exists() && e.claims[a.Value.Buffer] != a.Value.Release {
			e.broken = append(e.broken, fmt.Errorf("entered with %v while %s is active", e.claims, a.Value.Release))
		}
		if r := e.view.Rollout; r.Exists() && !counted && e.claims[r.Value.Buffer] != r.Value.Release {
			e.broken = append(e.broken, fmt.Errorf("entered with %v and held up %s", e.claims, r.Value.Release))
		}
	})
}

func (e *fakeEtcd) Retract(ctx context.Context, v cluster.NodeView) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := v.Active.Mod == e.view.Active.Mod && v.Rollout.Mod == e.view.Rollout.Mod && v.Rollout.Exists()
	return e.txn(ctx, "retract", same, func() { e.claims[v.Rollout.Value.Buffer] = "" })
}

func (e *fakeEtcd) Claim(ctx context.Context, v cluster.NodeView) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := v.Rollout.Value
	return e.txn(ctx, "claim", v.Rollout.Mod == e.view.Rollout.Mod && v.Rollout.Exists(), func() { e.claims[r.Buffer] = r.Release })
}

func (e *fakeEtcd) Lower(ctx context.Context, v cluster.NodeView, buffers []int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := v.Active.Mod == e.view.Active.Mod && v.Rollout.Mod == e.view.Rollout.Mod
	return e.txn(ctx, "lower", same, func() {
		for _, k := range buffers {
			e.claims[k] = ""
		}
	})
}

func (e *fakeEtcd) Report(_ context.Context, _ release.Site, s cluster.Status) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = s
	return nil
}

func (e *fakeEtcd) Lived() (since time.Duration, still bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.down && !e.orphan {
		e.lived = cluster.Boottime()
	}
	return e.lived, !e.orphan
}

func (e *fakeEtcd) Contact() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.down {
		e.contact = cluster.Boottime()
	}
	return e.contact
}

func (e *fakeEtcd) Peers(context.Context, int) ([]cluster.Peer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.peers), nil
}

func (e *fakeEtcd) ClockError() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clockError
}

func (e *fakeEtcd) MissedEvents() uint64 { return 0 }
