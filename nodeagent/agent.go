package nodeagent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"relman/cluster"
	"relman/failpoint"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

const (
	mostWorkers     = 8 // more only wait for each other, and each takes memory
	defaultBootHash = 1 // percent
	sitesFile       = "sites.json"
	leastFence      = time.Second
	mostFence       = time.Hour
)

// Config says what an agent works with. Only Dir has to be set.
type Config struct {
	Dir      string         // where releases and state are kept; one agent's alone
	Node     release.NodeID // for the log
	Group    release.Group  // which canaries of groups it shows; "": release.DefaultGroup
	Sites    []release.Site // empty: every site of the cluster
	Buffers  int            // releases held per site; 0: cluster.DefaultBuffers. It grows to what a site's policy wants
	Workers  int            // files and packs worked on at once, per site; 0: twice the processors, at most 8
	BootHash int            // percent of the files that a start reads in full, 100: all; 0: 1
	Fence    time.Duration  // how long the node vouches for itself without an answer of etcd; 0: DefaultFence
	Log      *slog.Logger   // nil discards

	Self string // URL at which the node reaches its own server, to look at what bakes; "": it cannot

	Plain       bool          // no compressed variants of files are made or sent
	DrainDelay  time.Duration // how long balancers take to notice that it is not ready
	OnPartition OnPartition   // "": Drain
	OnStart     OnStart       // "": ServeLast

	Verify   *hook.Hook // has to let a release pass before it is claimed; nil: none
	PostFlip *hook.Hook // is told of every swap; nil: none

	point func(name string) error // failpoint.Point, but for tests
	now   func() time.Time        // failpoint.Now, but for tests
	sync  func(*os.File) error    // syncAll, but for tests
	idle  time.Duration           // glanceEvery, but for tests
	probe time.Duration           // probeEvery, but for tests
}

// Agent is a node at work.
type Agent struct {
	cfg     Config
	reg     Registry
	store   objectstore.Store
	server  *Server
	metrics *metrics
	gate    *gate
	aside   *aside

	mu       sync.Mutex // guards sites and followed
	sites    []*site
	followed bool // the cluster's sites are known

	verifying sync.Mutex         // held while a verification is under way
	wanted    chan *verification // taken by Run
	ended     chan struct{}      // closed when Run has ended
}

// New makes an agent that obeys reg and fetches from store. Nothing is read or
// written before Run; the caller runs what keeps the node's session.
func New(cfg Config, reg Registry, store objectstore.Store) (*Agent, error) {
	if cfg.Dir == "" {
		return nil, errors.New("agent: no directory")
	}
	cfg.Group = cmp.Or(cfg.Group, release.DefaultGroup)
	if cfg.Buffers == 0 {
		cfg.Buffers = cluster.DefaultBuffers
	}
	if cfg.Buffers < cluster.DefaultBuffers || cfg.Buffers > cluster.MaxBuffers {
		return nil, fmt.Errorf("agent: %d buffers, %d to %d are possible", cfg.Buffers, cluster.DefaultBuffers, cluster.MaxBuffers)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = min(2*runtime.GOMAXPROCS(0), mostWorkers)
	}
	if cfg.BootHash <= 0 {
		cfg.BootHash = defaultBootHash
	}
	if cfg.Fence == 0 {
		cfg.Fence = DefaultFence
	}
	if cfg.Fence < leastFence || cfg.Fence > mostFence {
		return nil, fmt.Errorf("agent: a fence of %s, it can be %s to %s", cfg.Fence, leastFence, mostFence)
	}
	if cfg.OnPartition = cmp.Or(cfg.OnPartition, Drain); cfg.OnPartition != Drain && cfg.OnPartition != Stop && cfg.OnPartition != Serve {
		return nil, fmt.Errorf("agent: on partition %q, it can be %s, %s or %s", cfg.OnPartition, Drain, Stop, Serve)
	}
	if cfg.OnStart = cmp.Or(cfg.OnStart, ServeLast); cfg.OnStart != ServeLast && cfg.OnStart != Wait {
		return nil, fmt.Errorf("agent: on start %q, it can be %s or %s", cfg.OnStart, ServeLast, Wait)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.point == nil {
		cfg.point = failpoint.Point
	}
	if cfg.now == nil {
		cfg.now = failpoint.Now
	}
	if cfg.idle == 0 {
		cfg.idle = glanceEvery
	}
	if cfg.sync == nil {
		cfg.sync = syncAll
	}
	a := &Agent{cfg: cfg, reg: reg, store: store, server: NewServer(cfg.Log), aside: newAside(),
		wanted: make(chan *verification), ended: make(chan struct{})}
	a.metrics, a.gate = newMetrics(a), newGate(&a.cfg, reg)
	return a, nil
}

// Run works until ctx ends. It serves what the disk holds at once, and needs
// neither etcd nor the store for that. When it returns nothing writes any
// more; what is shown can be served on until Close.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.ended)
	if err := makeDirs(a.cfg.Dir); err != nil {
		return err
	}
	lock, err := lockDir(a.cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close() // only a lock
	root, err := os.OpenRoot(a.cfg.Dir)
	if err != nil {
		return err
	}
	defer root.Close() // only a handle
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.verifications(ctx) })
	wg.Go(func() { a.gate.watch(ctx) })
	wg.Go(func() { a.watchClock(ctx) })
	known, err := readSites(root)
	if err != nil {
		a.cfg.Log.Error("sites not read", "error", err)
	}
	a.start(ctx, &wg, known)
	for ctx.Err() == nil {
		err := a.reg.FollowSites(ctx, func(sites []release.Site) {
			a.start(ctx, &wg, sites)
			a.mu.Lock()
			a.followed = true
			a.mu.Unlock()
			if slices.Equal(sites, known) {
				return
			}
			if err := writeSites(root, sites); err != nil {
				a.cfg.Log.Error("sites not written", "error", err)
				return
			}
			known = slices.Clone(sites)
		})
		if ctx.Err() == nil {
			a.cfg.Log.Warn("watch of the sites ended", "error", err)
			sleep(ctx, backoffMin)
		}
	}
	return nil
}

// start starts the work for the sites that have none yet.
func (a *Agent) start(ctx context.Context, wg *sync.WaitGroup, sites []release.Site) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range sites {
		wanted := len(a.cfg.Sites) == 0 || slices.Contains(a.cfg.Sites, name)
		if !wanted || slices.ContainsFunc(a.sites, func(s *site) bool { return s.name == name }) {
			continue
		}
		s := newSite(name, a)
		a.sites = append(a.sites, s)
		a.server.Add(s.front)
		wg.Go(func() { s.run(ctx) })
	}
}

// Close closes the releases. It comes after Run has returned and the last
// request has been answered.
func (a *Agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, s := range a.sites {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// Handler serves the sites.
func (a *Agent) Handler() http.Handler { return a.server }

// Server is Handler with its settings.
func (a *Agent) Server() *Server { return a.server }

// Ready reports whether the node may take traffic: it is not cut off, its
// session lives, and it shows what is active on every site. If not, it says why.
func (a *Agent) Ready() (bool, string) {
	if why := a.gate.ready(); why != "" {
		return false, why
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.followed {
		return false, "the sites are not known yet"
	}
	for _, s := range a.sites {
		if why := s.ready(); why != "" {
			return false, fmt.Sprintf("site %s: %s", s.name, why)
		}
	}
	return true, ""
}

// readSites is the list of sites as etcd said it last. Their order matters:
// the first one answers for hosts that nobody claims.
func readSites(root *os.Root) (sites []release.Site, err error) {
	raw, err := root.ReadFile(sitesFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &sites)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(root.Name(), sitesFile), err)
	}
	return slices.DeleteFunc(sites, func(s release.Site) bool {
		_, err := release.ParseSite(string(s))
		return err != nil
	}), nil
}

func writeSites(root *os.Root, sites []release.Site) error {
	raw, err := json.Marshal(sites)
	if err != nil {
		return err
	}
	return writeDurably(root, sitesFile, append(raw, '\n'))
}
