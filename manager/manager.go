package manager

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// Cluster is what a manager does with etcd. All methods are safe for
// concurrent use and return when ctx ends.
type Cluster interface {
	SweepCluster
	// Changes calls changed for each site that something happened to, soon
	// after it happened, until ctx ends. It may call it too often.
	Changes(ctx context.Context, changed func(release.Site)) error
	// History lists what was active, the newest first, at most limit epochs.
	History(ctx context.Context, site release.Site, limit int) ([]cluster.Active, error)
	// Campaign waits to be elected. Its error says that it was not.
	Campaign(ctx context.Context, id string, ttl time.Duration) (Leadership, error)
}

// Leadership is a won election.
type Leadership interface {
	// Fence goes into every transaction of the leader: it does not hold any
	// more once another one can lead.
	Fence() cluster.Fence
	// Done is closed when the leadership is known to have ended. That can be
	// late; only the fence is exact.
	Done() <-chan struct{}
	// Resign lets another manager lead at once.
	Resign(ctx context.Context) error
}

// Config says how a manager works.
type Config struct {
	ID       string        // of this manager, the value of its election key
	LeaseTTL time.Duration // after which a dead leader is replaced; default 10 s
	Resync   time.Duration // between looks at every site without a change; default 5 s
	Log      *slog.Logger  // nil: silent

	// Store opens the object store, for sweeps; nil: this manager sweeps nothing.
	Store      func(context.Context) (objectstore.Store, error)
	SweepEvery time.Duration // between sweeps; 0: none
	SweepGrace time.Duration // nothing younger goes
	SweepKeep  int           // of each site, so many of the newest releases

	// PostConverge is told of each epoch once all live nodes show it, or
	// ConvergeWithin after the leader saw it; nil: none. It gets the changed
	// paths when there is a Store.
	PostConverge   *hook.Hook
	ConvergeWithin time.Duration // default 60 s
}

// Defaults of Config.
const (
	DefaultLeaseTTL = 10 * time.Second
	DefaultResync   = 5 * time.Second
)

// resignWithin bounds how long a clean stop waits for its resignation; the
// lease ends by itself otherwise.
const resignWithin = 2 * time.Second

// Manager leads, or waits to.
type Manager struct {
	cluster Cluster
	config  Config
	log     *slog.Logger
	metrics *metrics
	leading atomic.Bool
	sweeper sync.WaitGroup // the sweeps of this leadership and of those before
}

// New makes a manager; Run does its work.
func New(c Cluster, cfg Config) *Manager {
	cfg.LeaseTTL = cmp.Or(cfg.LeaseTTL, DefaultLeaseTTL)
	cfg.Resync = cmp.Or(cfg.Resync, DefaultResync)
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cluster: c, config: cfg, log: log, metrics: newMetrics()}
	if h := cfg.PostConverge; h != nil {
		m.metrics.hasHook(h)
	}
	return m
}

// Leading reports whether this manager believes to lead.
func (m *Manager) Leading() bool { return m.leading.Load() }

// Collectors are the metrics of this manager.
func (m *Manager) Collectors() []prometheus.Collector { return m.metrics.collectors() }

// Run campaigns, leads while it is elected, and campaigns again, until ctx
// ends; then it resigns and returns nil. No error of etcd ends it.
func (m *Manager) Run(ctx context.Context) error {
	defer m.sweeper.Wait()
	var pause backoff
	for ctx.Err() == nil {
		l, err := m.cluster.Campaign(ctx, m.config.ID, m.config.LeaseTTL)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Warn("campaign ended", "error", err)
				pause.sleep(ctx)
			}
			continue
		}
		began := time.Now()
		m.lead(ctx, l)
		if time.Since(began) > m.config.LeaseTTL {
			pause.reset()
		} else {
			pause.sleep(ctx) // ctx ended, or a leadership that never was
		}
	}
	return nil
}

// lead is one leadership, from the election to its end. Stop order: the
// workers end, this manager no longer says that it leads, then it resigns.
func (m *Manager) lead(ctx context.Context, l Leadership) {
	defer m.resign(ctx, l)
	m.leading.Store(true)
	m.metrics.leader.Set(1)
	defer func() {
		m.leading.Store(false)
		m.metrics.forget()
	}()
	m.log.Info("leading", "manager", m.config.ID)
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	m.sweeper.Go(func() { m.sweeps(sctx) })
	err := m.reign(ctx, l)
	m.log.Info("leadership ended", "manager", m.config.ID, "why", err)
}

func (m *Manager) resign(ctx context.Context, l Leadership) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignWithin)
	defer cancel()
	if err := l.Resign(ctx); err != nil {
		m.log.Debug("resign", "error", err)
	}
}
