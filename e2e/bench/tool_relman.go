package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// relmanTool is a cluster of one etcd member, one manager and one node.
type relmanTool struct{}

func (relmanTool) name() string    { return relmanName }
func (relmanTool) needs() []string { return nil } // they are built with this program

// relmanRun is that cluster in one run.
type relmanRun struct {
	*bed
	dir     string
	env     []string // of what works over the wire
	direct  []string // of what does not count
	watch   *cluster.Client
	manager *daemon // nil while none runs
	agent   *daemon
	held    release.Digest // manifest of the release that was claimed last
}

const relmanSite release.Site = "www"

// The nodes: one that is there from the start, and one that comes last.
const (
	relmanNode  = "node"
	relmanFresh = "fresh"
)

func (t relmanTool) open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error) {
	dir, err := b.place(s.name, t.name(), run)
	if err != nil {
		return nil, err
	}
	r := &relmanRun{bed: b, dir: dir}
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := r.startEtcd(ctx, limited); err != nil {
		return nil, err
	}
	store := fmt.Sprintf("s3://%s/%s?endpoint=http://%s&region=%s&path-style=true", bucket, prefix(s.name, t.name(), run), b.s3, region)
	if err := r.relman(r.direct, "admin", "site", "add", string(relmanSite), "--store", store).run(limited); err != nil {
		return nil, err
	}
	if err := r.lead(ctx); err != nil {
		return nil, err
	}
	if r.agent, err = r.startAgent(ctx, relmanNode); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, r.agent.stop)
	if err := r.watch.Follow(limited, relmanSite, func(v *cluster.View) bool { return v.Entered() == 1 }); err != nil {
		return nil, fmt.Errorf("the node does not enter: %w: %s", err, r.agent.said.String())
	}
	return r.steps(ctx, s)
}

// steps: no manager runs while something is published, so that no node begins
// before the publisher has ended.
func (r *relmanRun) steps(ctx context.Context, s site) (map[cell]step, error) {
	publish := func(dir string, flags ...string) step {
		args := append([]string{"publish", dir, "--no-flip", "--no-wait", "-s", string(relmanSite)}, flags...)
		return runStep(r.relman(r.env, args...)).first(r.depose)
	}
	help, err := r.relman(nil, "publish", "--help").output(ctx)
	if err != nil {
		return nil, err
	}
	prefetch := func(want string) step {
		return step{work: r.rollout, into: r.tree(relmanNode), want: want, durable: true, after: r.flip}
	}
	steps := map[cell]step{
		firstPublish: publish(s.v1), firstPrefetch: prefetch(s.v1),
		updatePublish: publish(s.v2), updatePrefetch: prefetch(s.v2),
		noopPublish:  publish(s.v2),
		noopPrefetch: {work: r.relman(r.env, "wait", "--for=ready", "latest", "-s", string(relmanSite)).measure, into: r.tree(relmanNode), want: s.v2, durable: true},
		freshPrefetch: {
			work: r.join, into: r.tree(relmanFresh), want: s.v2, durable: true,
			before: func(context.Context) error { return r.lead(ctx) },
		},
	}
	if strings.Contains(help, "--no-cache") {
		steps[coldPublish] = publish(s.v2, "--no-cache")
	}
	return steps, nil
}

func (r *relmanRun) relman(env []string, args ...string) program {
	return program{env: append(env, "HOME="+r.dir), argv: append([]string{r.bin}, args...)}
}

// tree is where a node has the release that was claimed last: beside the
// manifest of it.
func (r *relmanRun) tree(node string) func() (string, error) {
	return func() (string, error) {
		names, err := filepath.Glob(filepath.Join(r.dir, node, "sites", string(relmanSite), "buffers", "*.manifest"))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return "", err
			}
			if release.Sum(b) == r.held {
				return strings.TrimSuffix(name, ".manifest"), nil
			}
		}
		return "", fmt.Errorf("%s claims what it does not have", node)
	}
}

func (r *relmanRun) startEtcd(ctx, limited context.Context) error {
	client, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	peer, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	d, err := program{argv: []string{
		r.etcd, "--name", "e", "--data-dir", filepath.Join(r.dir, "etcd"), "--log-level", "error",
		"--listen-peer-urls", "http://" + peer, "--initial-advertise-peer-urls", "http://" + peer,
		"--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
		"--initial-cluster", "e=http://" + peer,
	}}.start(ctx)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, d.stop)
	far, err := r.over(ctx, client, false)
	if err != nil {
		return err
	}
	r.direct = append([]string{"RELMAN_ENDPOINTS=http://" + client}, awsEnv...)
	r.env = append([]string{"RELMAN_ENDPOINTS=http://" + far}, awsEnv...)
	cfg := cluster.Config{Endpoints: []string{"http://" + client}}
	if err := d.until(limited, func(ctx context.Context) error {
		c, err := cluster.Dial(ctx, cfg)
		if err == nil {
			r.watch = c
		}
		return err
	}); err != nil {
		return err
	}
	r.closers = append(r.closers, r.watch.Close)
	return nil
}

// lead starts a manager if none runs.
func (r *relmanRun) lead(ctx context.Context) (err error) {
	if r.manager != nil {
		return nil
	}
	r.manager, err = r.relman(r.direct, "manager", "--id", "m", "--addr", "127.0.0.1:0").start(context.WithoutCancel(ctx))
	if err == nil {
		r.closers = append(r.closers, func() error { return r.depose(ctx) })
	}
	return err
}

// depose stops the manager.
func (r *relmanRun) depose(context.Context) error {
	m := r.manager
	if r.manager = nil; m == nil {
		return nil
	}
	return m.stop()
}

func (r *relmanRun) startAgent(ctx context.Context, node string) (*daemon, error) {
	return r.relman(r.env, "agent", "--no-variants", "--node-id", node, "--dir", filepath.Join(r.dir, node),
		"--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0").start(ctx)
}

// rollout lets a manager begin what was asked for, and measures the agent from
// then until its claim stands.
func (r *relmanRun) rollout(ctx context.Context) (sample, error) {
	pid := r.agent.pid()
	if err := resetPeak(pid); err != nil {
		return sample{}, err
	}
	was, err := usageOf(pid)
	if err != nil {
		return sample{}, err
	}
	if err := r.lead(ctx); err != nil {
		return sample{}, err
	}
	var began time.Time
	var wall time.Duration
	var id release.ID
	err = r.watch.Follow(ctx, relmanSite, func(v *cluster.View) bool {
		switch {
		case v.Rollout.Exists() && began.IsZero():
			began, id = time.Now(), v.Rollout.Value.Release
		case began.IsZero():
			return v.Done() // it cannot be seen any more
		}
		wall = time.Since(began)
		return r.claims(v, relmanNode, id)
	})
	if err != nil {
		return sample{}, fmt.Errorf("rollout: %w: %s", err, r.agent.said.String())
	}
	if began.IsZero() {
		return sample{}, errors.New("the rollout was over before it was seen")
	}
	now, err := usageOf(pid)
	return sample{Wall: wall.Seconds(), CPU: (now.cpu - was.cpu).Seconds(), RSS: now.peak, Idle: was.now}, err
}

// join starts a node that has nothing, and measures until it claims what is
// active.
func (r *relmanRun) join(ctx context.Context) (sample, error) {
	began := time.Now()
	d, err := r.startAgent(ctx, relmanFresh)
	if err != nil {
		return sample{}, err
	}
	var wall time.Duration
	err = r.watch.Follow(ctx, relmanSite, func(v *cluster.View) bool {
		wall = time.Since(began)
		return r.claims(v, relmanFresh, v.Active.Value.Release)
	})
	now, usageErr := usageOf(d.pid())
	if err := errors.Join(err, usageErr); err != nil {
		return sample{}, errors.Join(fmt.Errorf("fresh node: %w: %s", err, d.said.String()), d.stop())
	}
	r.closers = append(r.closers, d.stop)
	return sample{Wall: wall.Seconds(), CPU: now.cpu.Seconds(), RSS: now.peak}, nil
}

// claims reports whether a node says that it holds a release.
func (r *relmanRun) claims(v *cluster.View, node release.NodeID, id release.ID) bool {
	for _, c := range v.Claims {
		if c.Node == node && c.Release == id && id != "" {
			r.held = v.Releases[id].Value.Manifest
			return true
		}
	}
	return false
}

// flip makes active what was asked for last.
func (r *relmanRun) flip(ctx context.Context) error {
	return r.relman(r.direct, "flip", "latest", "-s", string(relmanSite), "--queue").run(ctx)
}
