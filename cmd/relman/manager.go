package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	etcdserver "relman/cluster/embedded"
	"relman/manager"
	"relman/objectstore"
	storeserver "relman/objectstore/embedded"
	"relman/release/hook"
)

// managerOptions say how `relman manager` runs.
type managerOptions struct {
	cluster cluster.Config
	id      string

	clusterID string // "": whichever it finds

	addr  string // of the API
	store string // for the cluster's Info; "" leaves it as it is

	embeddedEtcd bool
	etcd         etcdserver.Config

	embeddedStore string // its directory; "" runs none
	storeAddr     string
	bucket        string

	sweepEvery time.Duration // 0: never
	sweepGrace time.Duration
	sweepKeep  int

	postConverge   *hook.Hook // nil: none
	convergeWithin time.Duration
}

// runManager runs a manager until ctx ends. Stop order: the API, the manager
// (which resigns), the connection, and what is embedded at last.
func runManager(ctx context.Context, o managerOptions, log *slog.Logger) (err error) {
	parts := newStack()
	defer func() { err = errors.Join(err, parts.close()) }()
	info := cluster.Info{Store: o.store}
	var own cluster.Info // of the embedded store
	if o.embeddedStore != "" {
		var shown cluster.Info
		if shown, own, err = startStore(ctx, parts, o, log); err != nil {
			return err
		}
		if info.Store == "" {
			info = shown
		}
	}
	if o.embeddedEtcd {
		member, err := startEtcd(ctx, parts, o.etcd, log)
		if err != nil {
			return err
		}
		o.cluster.Endpoints = []string{member.ClientURL()}
	}
	o.cluster.Log = log
	client, err := cluster.Open(ctx, o.cluster)
	if err != nil {
		return err
	}
	parts.onStop(client.Close)
	if info.Store != "" {
		parts.start(ctx, "cluster info", func(ctx context.Context) error { return keepInfo(ctx, client, info, log) })
	}
	if o.sweepEvery > 0 && o.sweepGrace < time.Hour {
		log.Warn("sweeps spare nothing that is older than the time that a publish may take", "sweep_grace", o.sweepGrace)
	}
	store := &clusterStore{info: client.Info, url: o.store, log: log}
	if own.Store != "" && info.Store == own.Store {
		store.info = func(context.Context) (cluster.Info, error) { return own, nil }
	}
	checkHooks(log, o.postConverge)
	home := &homeCluster{id: o.clusterID, info: client.Info}
	parts.start(ctx, "cluster id", func(ctx context.Context) error { return home.watch(ctx, log) })
	m := manager.New(managerCluster{client, home}, manager.Config{
		ID: o.id, Log: log,
		Store: store.find, SweepEvery: o.sweepEvery, SweepGrace: o.sweepGrace, SweepKeep: o.sweepKeep,
		PostConverge: o.postConverge, ConvergeWithin: o.convergeWithin,
	})
	parts.start(ctx, "manager", m.Run)
	l, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	if err := startAPI(ctx, parts, client, m, l, newRegistry(), log); err != nil {
		return err
	}
	log.Info("manager runs", "manager", o.id, "api", httpURL(l.Addr()), "etcd", o.cluster.Endpoints)
	return parts.wait(ctx)
}

// startEtcd runs an etcd member in this process.
func startEtcd(ctx context.Context, parts *stack, c etcdserver.Config, log *slog.Logger) (*etcdserver.Member, error) {
	c.Log = log
	m, err := etcdserver.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	parts.onStop(m.Close)
	parts.watch(ctx, "embedded etcd", m.Done(), m.Err)
	return m, nil
}

// startStore runs the store as a child process. Its credentials are those of
// the environment, or made once and kept in its directory; own has them, but
// what the cluster is shown only when nobody else can reach the store.
func startStore(ctx context.Context, parts *stack, o managerOptions, log *slog.Logger) (shown, own cluster.Info, err error) {
	creds := objectstore.Credentials{AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	if creds.AccessKey == "" || creds.SecretKey == "" {
		if err := os.MkdirAll(o.embeddedStore, 0o700); err != nil {
			return shown, own, fmt.Errorf("embedded store: %w", err)
		}
		if creds, err = loadCredentials(filepath.Join(o.embeddedStore, "credentials.json")); err != nil {
			return shown, own, err
		}
	}
	s, err := startStoreChild(ctx, parts, storeserver.Config{
		Dir: o.embeddedStore, Addr: o.storeAddr, Exact: true, Bucket: o.bucket,
		AccessKey: creds.AccessKey, SecretKey: creds.SecretKey, Log: log,
	})
	if err != nil {
		return shown, own, err
	}
	log.Warn("the objects are on this machine's disk alone", "dir", o.embeddedStore)
	own = cluster.Info{Store: s.URL(), AccessKey: creds.AccessKey, SecretKey: creds.SecretKey}
	shown = cluster.Info{Store: own.Store}
	if isLoopback(s.Addr()) {
		shown = own
	}
	return shown, own, nil
}

// startStoreChild runs this program again as a store.
func startStoreChild(ctx context.Context, parts *stack, c storeserver.Config) (*storeserver.Server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	s, err := storeserver.Start(ctx, exe, c)
	if err != nil {
		return nil, err
	}
	parts.onStop(func() error {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
		return s.Stop(limit)
	})
	parts.watch(ctx, "embedded store", s.Done(), s.Wait)
	return s, nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// keepInfo writes the cluster's Info as soon as etcd can be reached, and then
// waits to be stopped.
func keepInfo(ctx context.Context, client *cluster.Client, info cluster.Info, log *slog.Logger) error {
	_, err := backoff.Retry(ctx, func() (cluster.Info, error) {
		have, err := client.Info(ctx)
		if err == nil && have.Store != "" && have.Store != info.Store && info.AccessKey == "" {
			return have, backoff.Permanent(usagef("the cluster's objects are in %s, not in %s", have.Store, info.Store).
				withHint("leave --store out, or move the cluster with `relman admin bucket init --store URL`"))
		}
		return client.Init(ctx, info)
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		log.Warn("the cluster does not know its store yet", "error", err)
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// newBackOff is how a daemon waits for what is away: 0.2 to 10 s, jittered.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.RandomizationFactor = 200*time.Millisecond, 10*time.Second, 0.5
	return b
}

// startAPI answers on l; reg is what its /metrics shows.
func startAPI(ctx context.Context, parts *stack, client *cluster.Client, m *manager.Manager, l net.Listener, reg *prometheus.Registry, log *slog.Logger) error {
	if err := register(reg, m.Collectors()); err != nil {
		return errors.Join(err, l.Close())
	}
	h := withMetrics(manager.NewAPI(client, m), reg)
	parts.start(ctx, "API", func(ctx context.Context) error { return serveHTTP(ctx, l, h, log) })
	return nil
}

// managerCluster is a client as a manager sees it.
type managerCluster struct {
	*cluster.Client
	home *homeCluster // nil: any
}

// Campaign waits to be elected, in the manager's own cluster.
func (c managerCluster) Campaign(ctx context.Context, id string, ttl time.Duration) (manager.Leadership, error) {
	if c.home != nil {
		if err := c.home.check(ctx); err != nil {
			return nil, err
		}
	}
	l, err := c.Client.Campaign(ctx, id, ttl)
	if err != nil {
		return nil, err // not l: a nil *cluster.Leadership is no nil interface
	}
	return l, nil
}
