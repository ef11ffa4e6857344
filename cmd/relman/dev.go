package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	etcdserver "relman/cluster/embedded"
	"relman/cmd/front"
	"relman/manager"
	"relman/objectstore"
	storeserver "relman/objectstore/embedded"
	"relman/release"
)

// devOptions say how `relman dev` runs.
type devOptions struct {
	state     string // "": a temporary directory
	nodes     int
	sites     []release.Site
	readyFile string
	freePorts bool // not the usual ones, even where these are free

	// publish publishes a directory to a cluster, as `relman publish` does;
	// nil publishes nothing.
	publish func(ctx context.Context, client *cluster.Client, site release.Site) error
	// fast is for tests: etcd syncs nothing.
	fast bool
}

// The ports that `relman dev` likes best.
const (
	devEtcdURL   = "http://127.0.0.1:2379"
	devStoreAddr = "127.0.0.1:9000"
	devAPIAddr   = "127.0.0.1:7070"
	devFrontPort = 8080 // the nodes' follow
	devAdminPort = 9180 // the nodes' follow
	devBucket    = "relman"

	// Leases in dev are short: after a kill the old ones are in the way.
	devLease = 3 * time.Second
)

// dev is a whole cluster in one process, but for the store.
type dev struct {
	options devOptions
	log     *slog.Logger
	out     io.Writer
	state   *devState
	parts   *stack
	metrics *prometheus.Registry // of everything in this process

	store  objectstore.Store
	client *cluster.Client
	nodes  []*node
	up     devReady
}

// runDev runs a whole cluster until ctx ends: etcd, a store, a manager, nodes
// and a front before them. out hears where everything is.
//
// Stop order: the front, the nodes (each finishes its requests and says
// goodbye), the API, the manager (which resigns), the connection to etcd, the
// store, etcd; then the files that it leaves only while it runs.
func runDev(ctx context.Context, o devOptions, out io.Writer, log *slog.Logger) (err error) {
	state, err := openDevState(o.state)
	if err != nil {
		return err
	}
	d := &dev{options: o, log: log, out: out, state: state, parts: newStack(), metrics: newRegistry()}
	d.parts.onStop(state.close)
	defer func() { err = errors.Join(err, d.parts.close()) }()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was stopped while it started
		}
		return err
	}
	d.banner()
	return d.parts.wait(ctx)
}

// start starts everything and returns when all of it is up.
func (d *dev) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startEtcd, d.startStore, d.connect, d.startManager, d.startNodes, d.startFront, d.awaitUp, d.publish, d.announce,
	} {
		if err := d.while(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// while runs a step, and ends it when a part ends that should not.
func (d *dev) while(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-d.parts.failed:
			cancel(d.parts.why)
		case <-done:
		}
	}()
	err := step(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// addr is where something is to listen that likes one address best.
func (d *dev) addr(best string) string {
	if d.options.freePorts {
		return "127.0.0.1:0"
	}
	return best
}

func (d *dev) startEtcd(ctx context.Context) error {
	c := etcdserver.Config{Dir: d.state.path("etcd"), ClientURL: "http://" + d.addr(strings.TrimPrefix(devEtcdURL, "http://")), Fast: d.options.fast}
	m, err := startEtcd(ctx, d.parts, c, d.log)
	if errors.Is(err, syscall.EADDRINUSE) {
		d.log.Warn("port is taken, using a free one", "addr", c.ClientURL)
		c.ClientURL = "http://127.0.0.1:0"
		m, err = startEtcd(ctx, d.parts, c, d.log)
	}
	if err != nil {
		return err
	}
	d.up.Etcd = m.ClientURL()
	return nil
}

func (d *dev) startStore(ctx context.Context) error {
	creds, err := d.state.credentials()
	if err != nil {
		return err
	}
	s, err := startStoreChild(ctx, d.parts, storeserver.Config{
		Dir: d.state.path("store"), Addr: d.addr(devStoreAddr), Bucket: devBucket,
		AccessKey: creds.AccessKey, SecretKey: creds.SecretKey, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.up.Store = s.URL()
	u, err := objectstore.ParseURL(s.URL())
	if err != nil {
		return err
	}
	st, err := objectstore.OpenS3(u, creds)
	d.store = objectstore.Retry(st, d.log)
	return err
}

// connect tells the cluster where its store is, and makes its sites.
func (d *dev) connect(ctx context.Context) error {
	creds, err := d.state.credentials()
	if err != nil {
		return err
	}
	d.client, err = cluster.Dial(ctx, cluster.Config{Endpoints: []string{d.up.Etcd}, Log: d.log})
	if err != nil {
		return err
	}
	d.parts.onStop(d.client.Close)
	if _, err := d.client.Init(ctx, cluster.Info{Store: d.up.Store, AccessKey: creds.AccessKey, SecretKey: creds.SecretKey}); err != nil {
		return err
	}
	for _, site := range d.options.sites {
		err := d.client.CreateSite(ctx, site, cluster.DefaultPolicy())
		if err != nil && cluster.RefusedBy(err) != cluster.ClassExists {
			return err
		}
	}
	return nil
}

func (d *dev) startManager(ctx context.Context) error {
	m := manager.New(managerCluster{Client: d.client}, manager.Config{ID: "dev", LeaseTTL: devLease, Log: d.log})
	d.parts.start(ctx, "manager", m.Run)
	l, err := listenNear(ctx, d.addr(devAPIAddr), d.log)
	if err != nil {
		return err
	}
	d.up.Manager = httpURL(l.Addr())
	return startAPI(ctx, d.parts, d.client, m, l, d.metrics, d.log)
}

func (d *dev) startNodes(ctx context.Context) error {
	for i := range d.options.nodes {
		l, err := listenNear(ctx, d.addr(fmt.Sprintf("127.0.0.1:%d", devFrontPort+1+i)), d.log)
		if err != nil {
			return err
		}
		admin, err := listenNear(ctx, d.addr(fmt.Sprintf("127.0.0.1:%d", devAdminPort+1+i)), d.log)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		id := release.NodeID(fmt.Sprintf("node-%d", i+1))
		log := d.log.With("node", id)
		o := nodeOptions{id: id, group: release.DefaultGroup, dir: d.state.path("nodes", string(id)), admin: httpURL(admin.Addr())}
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"node": string(id)}, d.metrics)
		n, err := newNode(d.client, d.store, o, gateOptions{}, l, reg, log)
		if err != nil {
			return errors.Join(err, l.Close(), admin.Close())
		}
		d.parts.start(ctx, "health of "+string(id), func(ctx context.Context) error {
			return serveHTTP(ctx, admin, n.agent.AdminHandler(), log)
		})
		n.start(ctx, d.parts, log)
		d.nodes = append(d.nodes, n)
		d.up.Nodes = append(d.up.Nodes, httpURL(l.Addr()))
	}
	return nil
}

func (d *dev) startFront(ctx context.Context) error {
	l, err := listenNear(ctx, d.addr(fmt.Sprintf("127.0.0.1:%d", devFrontPort)), d.log)
	if err != nil {
		return err
	}
	d.up.Front = httpURL(l.Addr())
	var nodes []front.Node
	for i, n := range d.nodes {
		u, err := url.Parse(d.up.Nodes[i])
		if err != nil {
			return errors.Join(err, l.Close())
		}
		nodes = append(nodes, front.Node{URL: u, Ready: func() bool { ok, _ := n.agent.Ready(); return ok }})
	}
	h := front.New(nodes, d.log)
	d.parts.start(ctx, "front", func(ctx context.Context) error { return serveHTTP(ctx, l, h, d.log) })
	return nil
}

// publish publishes what was given on the command line, to the first site.
func (d *dev) publish(ctx context.Context) error {
	if d.options.publish == nil {
		return nil
	}
	return d.options.publish(ctx, d.client, d.options.sites[0])
}
