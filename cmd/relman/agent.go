package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	"relman/failpoint"
	"relman/nodeagent"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// agentOptions say how `relman agent` runs.
type agentOptions struct {
	cluster cluster.Config
	store   string // "": the one that the cluster names
	rate    int64  // bytes a second from the store at most; 0: no limit
	node    nodeOptions

	gate gateOptions

	addr      string // of the sites
	adminAddr string // of health and metrics
	pprof     bool   // profiles are there, too
}

// gateOptions say when a node takes traffic, and what it answers with.
type gateOptions struct {
	fence       time.Duration
	drainDelay  time.Duration // how long balancers take to notice that it is not ready
	onPartition string
	onStart     string
	plain       bool
}

// nodeOptions say what a node is.
type nodeOptions struct {
	id    release.NodeID
	group release.Group
	sites []release.Site // empty: every site
	dir   string

	cluster string // the id of the cluster that it belongs to; "": the one that it remembers
	url     string // where others reach its sites; "" says it from the listener
	admin   string // where operators reach it; "" says it from the listener

	verify   *hook.Hook // nil: none
	postFlip *hook.Hook // nil: none
}

// runAgent runs a node until ctx ends. It needs neither etcd nor the store to
// start: what is on its disk it serves at once.
//
// Stop order: it says that it is not ready, goes on for the drain delay, accepts
// nothing more, finishes the requests in flight, ends its work, says goodbye to the cluster, and stops
// answering for its health at last.
func runAgent(ctx context.Context, o agentOptions, log *slog.Logger) (err error) {
	log = log.With("node", o.node.id)
	parts := newStack()
	defer func() { err = errors.Join(err, parts.close()) }()
	o.cluster.Log = log
	client, err := cluster.Open(ctx, o.cluster)
	if err != nil {
		return err
	}
	parts.onStop(client.Close)
	sites, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	admin, err := listen(ctx, o.adminAddr)
	if err != nil {
		return errors.Join(err, sites.Close())
	}
	if o.node.admin == "" {
		o.node.admin = advertised(admin.Addr())
	}
	reg := newRegistry()
	store := &clusterStore{info: client.Info, url: o.store, log: log}
	n, err := newNode(client, objectstore.Limit(store, o.rate), o.node, o.gate, sites, reg, log)
	if err != nil {
		return errors.Join(err, sites.Close(), admin.Close())
	}
	health := withMetrics(notReadyAfter(ctx.Done(), n.agent.AdminHandler()), reg)
	if o.pprof {
		health = withProfiles(health)
	}
	ctx, cancel := after(ctx, o.gate.drainDelay)
	defer cancel()
	parts.start(ctx, "health", func(ctx context.Context) error { return serveHTTP(ctx, admin, health, log) })
	n.start(ctx, parts, log)
	log.Info("agent runs", "sites", httpURL(sites.Addr()), "admin", httpURL(admin.Addr()), "dir", o.node.dir)
	return parts.wait(ctx)
}

// node is an agent and the listener of its sites.
type node struct {
	agent   *nodeagent.Agent
	session *cluster.Node
	sites   net.Listener
	boot    *boot
	id      release.NodeID
}

// newNode makes a node's agent; nothing runs yet.
func newNode(client *cluster.Client, store objectstore.Store, o nodeOptions, gate gateOptions, sites net.Listener, reg prometheus.Registerer, log *slog.Logger) (*node, error) {
	if o.url == "" {
		o.url = advertised(sites.Addr())
	}
	b, err := takeBoot(o.dir)
	if err != nil {
		return nil, err
	}
	n := &node{sites: sites, boot: b, id: o.id}
	n.session = client.Node(
		cluster.Self{Node: o.id, Group: o.group},
		cluster.Live{Boot: b.id, Addr: o.url, Admin: o.admin, Version: version},
		cluster.Join{Sites: o.sites, Group: o.group},
	)
	belongs, err := belongsTo(o)
	if err != nil {
		return nil, errors.Join(err, b.end())
	}
	n.session.Belong(belongs)
	n.session.Clock(failpoint.Now)
	n.session.Succeed(b.before)
	n.session.Vouch(cmp.Or(gate.fence, nodeagent.DefaultFence))
	checkHooks(log, o.verify, o.postFlip)
	n.agent, err = nodeagent.New(nodeagent.Config{
		Dir: o.dir, Node: o.id, Group: o.group, Sites: o.sites, Log: log, Verify: o.verify, PostFlip: o.postFlip,
		Fence: gate.fence, OnPartition: nodeagent.OnPartition(gate.onPartition), OnStart: nodeagent.OnStart(gate.onStart),
		Plain: gate.plain, DrainDelay: gate.drainDelay, Self: httpURL(sites.Addr()),
	}, n.session, store)
	if err == nil {
		err = register(reg, n.agent.Collectors())
	}
	if err != nil {
		return nil, errors.Join(err, b.end())
	}
	return n, nil
}

// belongsTo is the cluster that a node belongs to: the one that is configured or
// that its directory remembers, "" for neither.
func belongsTo(o nodeOptions) (string, error) {
	remembered, err := nodeagent.ClusterOf(o.dir)
	if err != nil {
		return "", fmt.Errorf("agent: %w", err)
	}
	if o.cluster != "" && remembered != "" && o.cluster != remembered {
		return "", usagef("the node in %s belongs to cluster %s, not to %s", o.dir, remembered, o.cluster).
			withHint("leave --cluster-id out or, to give it to another cluster, remove sites/*/state.json there")
	}
	return cmp.Or(o.cluster, remembered), nil
}

// start lets it work, and serve. What it shows is closed after the last
// request has been answered.
func (n *node) start(ctx context.Context, parts *stack, log *slog.Logger) {
	parts.onStop(n.boot.end)
	parts.onStop(n.agent.Close)
	parts.start(ctx, "session of "+string(n.id), n.session.Run)
	parts.start(ctx, "agent "+string(n.id), n.agent.Run)
	parts.start(ctx, "sites of "+string(n.id), func(ctx context.Context) error {
		return serveSites(ctx, n.sites, n.agent.Server(), log)
	})
}

// after is a context that ends some time after another one.
func after(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(delay):
		case <-late.Done():
		}
		cancel()
	})
	return late, func() { stop(); cancel() }
}

// notReadyAfter answers that the node is not ready once it stops: load
// balancers hear it while the requests in flight are finished.
func notReadyAfter(stops <-chan struct{}, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stops:
			if r.URL.Path == "/readyz" {
				http.Error(w, "stopping", http.StatusServiceUnavailable)
				return
			}
		default:
		}
		h.ServeHTTP(w, r)
	})
}

// advertised is how other hosts reach a listener: one that listens on every
// address is reached by the host's name.
func advertised(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	ip := net.ParseIP(host)
	if name, nameErr := os.Hostname(); err == nil && nameErr == nil && ip != nil && ip.IsUnspecified() {
		return fmt.Sprintf("http://%s", net.JoinHostPort(name, port))
	}
	return httpURL(a)
}
