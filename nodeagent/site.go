package nodeagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

const (
	backoffMin = 200 * time.Millisecond
	backoffMax = 10 * time.Second
	// recheck is how often a node that has nothing to do compares its claims in
	// etcd with what it believes they are.
	recheck = time.Minute
)

var (
	errNewView    = errors.New("the rollout, the active release or the membership changed")
	errEpochReset = errors.New("etcd's epoch went back")
	errForeign    = errors.New("etcd is of another cluster")
)

// site is the work of a node for one site. Two goroutines share it: one hears
// what is active and swaps, at once; the worker does the rest, one thing after
// the other, so that a buffer has one writer at a time.
type site struct {
	name    release.Site
	front   *Front
	reg     Registry
	store   objectstore.Store
	cfg     *Config
	log     *slog.Logger
	metrics *metrics

	aside    *aside
	variants *variants
	baker    *baker

	sayMu sync.Mutex          // held while a status is handed over
	said  *cluster.Status     // guarded by sayMu: the last one, nil for none
	taste *cluster.BakeReport // guarded by sayMu: of a release that bakes, nil for none

	mu        sync.Mutex // held for moments: a swap waits for it
	view      cluster.NodeView
	seen      bool // view is of this boot
	stopWork  context.CancelCauseFunc
	applied   state
	swapped   time.Time
	joining   time.Time   // when the node swapped last and had not been showing what was active before
	waiting   bool        // what is active is scheduled, and shown later
	alarm     *time.Timer // looks whether it is time; nil until something was scheduled
	refusing  error       // why etcd is not obeyed; nil: it is
	entered   bool        // the node's claims are in etcd, and are what this boot found
	forgotten bool        // etcd has gone back: what is known of the claims is not so any more
	filling   *fill       // under way
	heard     *heard
	examining *buffer // nil for none
	wasIn     bool    // this boot has entered once
	drainedAt time.Time

	retained  []retained // the newest first
	wasActive map[release.ID]bool
	vetting   *cluster.Progress // of the operator's program, while it looks at a release
	wake      chan struct{}

	askMu sync.Mutex
	asked *asking // guarded by askMu; nil when nothing is asked

	unanswered time.Time // guarded by askMu: when a question was not answered last

	roundErr   error         // how the worker's last round ended
	roundEnded chan struct{} // closed when the one after that ends

	// Owned by the worker, but for the fields of the buffers that say otherwise.
	disk     *disk
	claims   []release.ID           // in etcd, as far as is known
	claiming bool                   // etcd has claims of this node at all
	known    bool                   // nothing went wrong since the two were learned
	member   int64                  // revision of the membership that they go with
	stored   state                  // in state.json
	links    map[string]*buffer     // current, active, previous, next
	named    map[release.ID]*buffer // of releases that have a name in releases/

	remembered served             // in serving.json
	trouble    *cluster.ErrorInfo // of the last attempt
	vetted     map[passed]bool    // what the operator's program let pass
	told       release.Epoch      // handed to tellFlips

	flips chan hook.About // from the worker to tellFlips, the newest only
}

func newSite(name release.Site, a *Agent) *site {
	s := &site{
		name: name, front: NewFront(name), reg: a.reg, store: a.store, cfg: &a.cfg, metrics: a.metrics,
		log:       a.cfg.Log.With("site", name),
		wasActive: map[release.ID]bool{},
		named:     map[release.ID]*buffer{},
		wake:      make(chan struct{}, 1), links: map[string]*buffer{},
		vetted: map[passed]bool{}, flips: make(chan hook.About, 1),
		roundEnded: make(chan struct{}),
	}
	s.front.poke, s.front.catchUp, s.front.gate = s.poke, s.catchUpTo, a.gate
	s.aside = a.aside
	s.variants = newVariants(s.log, s.cfg, s.aside, s.poke)
	s.baker = newBaker(s)
	return s
}

// run works for the site until ctx ends. Nothing else ends it: what fails is
// tried again.
func (s *site) run(ctx context.Context) {
	retry(ctx, func() error {
		err := s.boot(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("site not opened", "error", err)
		}
		return err
	})
	if ctx.Err() != nil {
		return
	}
	var wg sync.WaitGroup
	if !s.cfg.Plain {
		wg.Go(func() { s.variants.run(ctx, s.disk.root) })
	}
	s.holdVariants()
	wg.Go(func() { s.work(ctx) })
	wg.Go(func() { s.tellFlips(ctx) })
	wg.Go(func() { s.baker.run(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			err := s.reg.Follow(ctx, s.name, func(v cluster.NodeView) {
				if err := s.cfg.point("node.before-see"); err != nil {
					s.log.Error("what is new is seen late", "error", err)
				}
				s.see(v)
			})
			if ctx.Err() == nil {
				s.log.Warn("watch ended", "error", err)
				sleep(ctx, backoffMin)
			}
		}
	})
	wg.Wait()
}

// see takes what is new: it swaps first, and then has the worker look.
func (s *site) see(v cluster.NodeView) {
	s.mu.Lock()
	s.take(v)
	s.mu.Unlock()
	s.poke()
}

// take is see, with the lock.
func (s *site) take(v cluster.NodeView) {
	old := s.view
	v = s.newest(v)
	s.view, s.seen = v, true
	if old.Serving != v.Serving || !bytes.Equal(old.Secret, v.Secret) {
		s.serveAs(v)
	}
	s.swap()
	restored := v.Revision < old.Revision
	if restored { // the claims are those of then
		s.entered, s.forgotten = false, true
	}
	if old.Member.Mod != v.Member.Mod {
		s.entered = false // whoever changed it may have taken the claims too
	}
	s.drains(old)
	same := old.Active.Mod == v.Active.Mod && old.Rollout.Mod == v.Rollout.Mod && old.Member.Mod == v.Member.Mod
	if (!same || restored) && s.stopWork != nil {
		s.stopWork(errNewView)
	}
}

// serveAs takes how the site is served. What does not fit is not obeyed.
func (s *site) serveAs(v cluster.NodeView) {
	serving := cluster.DefaultServing()
	if v.Serving.Exists() {
		if err := v.Serving.Value.Validate(); err != nil {
			s.log.Error("the site is served as new sites are", "error", err)
		} else {
			serving = v.Serving.Value
		}
	}
	s.front.Serve(serving, v.Secret)
}

// hold tells the front what the node has. It is called with the lock.
func (s *site) hold() {
	var rs []*Release
	for _, b := range s.disk.bufs {
		if b.open != nil && !b.damaged {
			rs = append(rs, b.open)
		}
	}
	var olds []*Release
	for _, r := range s.retained {
		olds = append(olds, r.rel)
	}
	s.front.Hold(rs, olds)
}

// poke has the worker look.
func (s *site) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// swap shows the active release if the node holds it. It is called with the
// lock, and all that it does is in memory: the disk and etcd hear of it later.
// An epoch never goes back (N4): etcd that knows a lower one was restored from
// an old copy, or is another cluster, and is not obeyed.
func (s *site) swap() {
	a := s.view.Active.Value
	if !s.view.Active.Exists() {
		a = cluster.Active{}
	}
	s.refusing = s.refuse(a)
	s.waiting = false
	// Also of a node that showed it before it was started, or swapped twice at once.
	s.wasActive[a.Release] = true
	if p := a.Previous; p != nil {
		s.wasActive[p.Release] = true
	}
	if c := a.Canary; c != nil {
		s.wasActive[c.Release] = true // for some
	}
	for _, b := range s.disk.bufs {
		if b.open != nil && s.wasActive[b.id()] {
			b.open.public.Store(true)
		}
	}
	if s.refusing == nil && s.applied.Cluster == "" {
		s.applied.Cluster = s.view.Cluster
	}
	if s.refusing != nil || a.Epoch == 0 {
		s.front.SetConfirmed(s.refusing == nil)
		return
	}
	to := s.due(a)
	id, epoch := s.front.Shown()
	if id != to.shown || epoch != to.epoch {
		r := s.holding(to.shown, to.manifest)
		if r == nil || s.cfg.point("node.before-swap") != nil {
			s.front.SetConfirmed(false)
			return
		}
		// The release that was shown stays open: it is the previous one now.
		s.front.show(r, to.epoch, to.split)
		s.swapped = s.cfg.now()
		if p := a.Previous; !s.entered || p != nil && p.Release != id {
			s.joining = time.Now()
		}
		s.applied = state{Release: to.release, Epoch: to.epoch, Seq: max(s.applied.Seq, to.release.Seq()), Cluster: s.applied.Cluster}
	}
	if to.epoch == a.Epoch {
		s.baker.shows(a)
	}
	s.front.SetConfirmed(true)
}

// refuse is why what etcd says is not obeyed, nil when it is. It is called with
// the lock.
func (s *site) refuse(a cluster.Active) error { return refusal(s.applied, s.view.Cluster, a) }

// refusal is why a node that has applied own does not obey a cluster.
func refusal(own state, name string, a cluster.Active) error {
	switch {
	case own.Cluster != "" && name != "" && own.Cluster != name:
		return fmt.Errorf("%w: this node belongs to %s, it is %s", errForeign, own.Cluster, name)
	case a.Epoch < own.Epoch, a.Epoch == own.Epoch && a.Release != own.Release:
		return fmt.Errorf("%w: it says epoch %d with %q, this node has shown %d with %q", errEpochReset, a.Epoch, a.Release, own.Epoch, own.Release)
	}
	return nil
}

// holding is a held release, opened; nil when no buffer has it. It is called
// with the lock. A zero digest asks for the id alone. What is damaged is not
// held.
func (s *site) holding(id release.ID, manifest release.Digest) *Release {
	if s.disk == nil {
		return nil
	}
	for _, b := range s.disk.bufs {
		if b.open != nil && !b.damaged && b.id() == id && (manifest.IsZero() || b.manifest.Digest() == manifest) {
			return b.open
		}
	}
	return nil
}

// holds reports whether a verified tree has the release.
func (s *site) holds(id release.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holding(id, release.Digest{}) != nil
}

// ready says why the site is not ready, "" when it is.
func (s *site) ready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, epoch := s.front.Shown()
	switch {
	case !s.seen:
		return "etcd has not been reached"
	case s.refusing != nil:
		return s.refusing.Error()
	case s.view.Member.Value == cluster.MemberDrain:
		return "draining"
	case s.view.Member.Value == cluster.MemberOut:
		return "put out"
	case s.view.Member.Value != cluster.MemberIn:
		return "not a member"
	case s.view.Active.Exists() && epoch != s.wants():
		return "does not serve the active release yet"
	case s.lacksSide() != "":
		return s.lacksSide()
	case !s.entered:
		return "has not entered yet"
	case s.lacksPrevious():
		return "does not hold the release before, which pages that are being loaded may be of"
	}
	return ""
}

// PageTime is what a page may take to load.
const PageTime = 10 * time.Second

// lacksPrevious reports whether visitors who come here may have begun their page
// before the flip and this node, which did not take traffic then, does not hold that
// release. A node that is behind may have sent them as late as a fence after the flip.
// It is called with the lock.
func (s *site) lacksPrevious() bool {
	a := s.view.Active
	p := a.Value.Previous
	return a.Exists() && p != nil && time.Since(s.joining) < s.cfg.Fence+PageTime && s.holding(p.Release, release.Digest{}) == nil
}

// retry calls f until it succeeds or ctx ends, with full jitter.
func retry(ctx context.Context, f func() error) {
	for limit := backoffMin; f() != nil && ctx.Err() == nil; limit = min(2*limit, backoffMax) {
		sleep(ctx, rand.N(limit))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
