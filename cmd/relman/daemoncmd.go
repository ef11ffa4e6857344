package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/manager"
	"relman/nodeagent"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// daemonEnv is what the commands that run for long need of the root command.
type daemonEnv interface {
	clusterConfig() (cluster.Config, error) // where etcd is, and how to get in
	storeURL() string                       // "": the one that the cluster names
	logger() *slog.Logger
}

// newAgentCommand is `relman agent`.
// agentGC makes an agent collect garbage twice as often as usual: what it knows
// of a large site is most of what it needs, and web servers share the machine.
const agentGC = 50

func newAgentCommand(env daemonEnv) *cobra.Command {
	var o agentOptions
	var id, group, rate, verify, postFlip string
	var hooks hookFlags
	var sites []string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node: prefetch releases, swap, and serve",
		Long: `Run a node: prefetch releases into its buffers, swap when the active release
changes, and serve it. What is on its disk it serves at once, also while etcd or
the store is away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			debug.SetGCPercent(agentGC)
			if o.cluster, err = env.clusterConfig(); err != nil {
				return err
			}
			o.store = env.storeURL()
			if o.node, err = nodeFlags(id, group, sites, o.node); err != nil {
				return err
			}
			if o.rate, err = rateFlag(rate); err != nil {
				return err
			}
			if o.node.verify, err = hooks.hook(hook.Verify, verify); err != nil {
				return err
			}
			if o.node.postFlip, err = hooks.hook(hook.PostFlip, postFlip); err != nil {
				return err
			}
			return runAgent(cmd.Context(), o, env.logger())
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "node-id", "", "the node's name (default: the host's, up to the first dot)")
	f.StringVar(&group, "group", string(release.DefaultGroup), "the group of nodes that it belongs to")
	f.StringSliceVar(&sites, "sites", nil, "the sites that it serves (default: all)")
	f.StringVar(&o.node.dir, "dir", "/var/lib/relman", "where it keeps releases")
	f.StringVar(&o.node.cluster, "cluster-id", "", "the cluster that it belongs to; it obeys no other one (default: the one that it was in before, if any)")
	f.StringVar(&rate, "prefetch-rate", "", "bytes a second that it takes from the store at most, such as 20MiB (default: no limit)")
	f.DurationVar(&o.gate.fence, "fence", nodeagent.DefaultFence, "how long it vouches for itself while etcd does not answer: 1s to 1h")
	f.StringVar(&o.gate.onPartition, "on-partition", string(nodeagent.Drain), "what it does when etcd has not answered for so long: drain (not ready, unless etcd is away for every node), stop (503) or serve")
	f.StringVar(&o.gate.onStart, "on-start", string(nodeagent.ServeLast), "what it shows before it has heard of etcd: serve-last (what it showed last, not ready) or wait (503)")
	f.BoolVar(&o.gate.plain, "no-variants", false, "neither make nor send compressed variants of text files: as where a proxy before it compresses")
	f.DurationVar(&o.gate.drainDelay, "drain-delay", 0, "how long it goes on after SIGTERM, saying that it is not ready, and how long it takes to drain: at least what the balancer takes to notice")
	f.StringVar(&o.addr, "addr", ":8080", "where it serves the sites")
	f.StringVar(&o.adminAddr, "admin-addr", ":9180", "where it answers /healthz, /readyz, /metrics and /v1/verify")
	f.BoolVar(&o.pprof, "pprof", false, "answer /debug/pprof/ there, too: whoever may ask can keep a processor busy")
	f.StringVar(&o.node.url, "advertise", "", "URL at which others reach its sites (default: from the host's name and --addr)")
	f.StringVar(&o.node.admin, "advertise-admin", "", "URL at which operators reach --admin-addr (default: from the host's name and --admin-addr)")
	f.StringVar(&verify, "hook-verify", "", "a program, by its absolute path, that a release has to pass before this node says that it is ready (default: none)")
	f.StringVar(&postFlip, "hook-post-flip", "", "a program that is run after each swap (default: none)")
	hooks.add(f)
	return cmd
}

// rateFlag reads a number of bytes, with a unit or without; none is 0.
func rateFlag(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, usagef("--prefetch-rate %s: give bytes a second, such as 20MiB or 500kB", s)
	}
	return int64(n), nil
}

// nodeFlags checks what a node is told to be.
func nodeFlags(id, group string, sites []string, o nodeOptions) (_ nodeOptions, err error) {
	if id == "" {
		if id, err = shortHostname(); err != nil {
			return o, err
		}
	}
	if o.id, err = release.ParseNodeID(id); err != nil {
		return o, usageError(fmt.Errorf("%w: give one with --node-id", err))
	}
	if o.group, err = release.ParseGroup(group); err != nil {
		return o, usageError(err)
	}
	o.sites, err = parseSites(sites)
	return o, err
}

func parseSites(names []string) ([]release.Site, error) {
	var sites []release.Site
	for _, name := range names {
		s, err := release.ParseSite(name)
		if err != nil {
			return nil, usageError(err)
		}
		sites = append(sites, s)
	}
	return sites, nil
}

// shortHostname is the host's name up to the first dot, in lower case.
func shortHostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("host name: %w", err)
	}
	name, _, _ = strings.Cut(name, ".")
	return strings.ToLower(name), nil
}

// newManagerCommand is `relman manager`.
func newManagerCommand(env daemonEnv) *cobra.Command {
	var o managerOptions
	var hooks hookFlags
	var postConverge string
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "Run a manager: of all that run, one leads and drives the rollouts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.cluster, err = env.clusterConfig(); err != nil {
				return err
			}
			if o.store = env.storeURL(); o.store != "" {
				if _, err := objectstore.ParseURL(o.store); err != nil {
					return usageError(err)
				}
			}
			if o.id == "" {
				if o.id, err = shortHostname(); err != nil {
					return err
				}
			}
			if o.etcd.Name == "" {
				o.etcd.Name = o.id
			}
			if o.sweepEvery < 0 {
				return usagef("--sweep-every %v: give a duration, or 0 for never", o.sweepEvery)
			}
			if err := sweepFlags(o.sweepGrace, o.sweepKeep); err != nil {
				return err
			}
			if o.convergeWithin <= 0 {
				return usagef("--hook-converge-within %v: give a time to wait for", o.convergeWithin)
			}
			if o.postConverge, err = hooks.hook(hook.PostConverge, postConverge); err != nil {
				return err
			}
			return runManager(cmd.Context(), o, env.logger())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.id, "id", "", "the manager's name (default: the host's, up to the first dot)")
	f.StringVar(&o.clusterID, "cluster-id", "", "the cluster that it manages; it leads no other one (default: the one that it finds)")
	f.StringVar(&o.addr, "addr", "127.0.0.1:7070", "where it answers /v1/…, /healthz, /readyz and /metrics")
	f.BoolVar(&o.embeddedEtcd, "embedded-etcd", false, "run an etcd member in this process and use it")
	f.StringVar(&o.etcd.Dir, "etcd-dir", "/var/lib/relman/etcd", "where that member keeps its data")
	f.StringVar(&o.etcd.Name, "etcd-name", "", "its name (default: --id)")
	f.StringVar(&o.etcd.ClientURL, "etcd-client-url", devEtcdURL, "where it answers clients")
	f.StringVar(&o.etcd.PeerURL, "etcd-peer-url", "", "where the other members reach it")
	f.StringVar(&o.etcd.InitialCluster, "embedded-etcd-initial-cluster", "", "all members, name=peer-url,… (default: it is alone)")
	f.StringVar(&o.embeddedStore, "embedded-store", "", "run a small S3 server that keeps its objects in this directory")
	f.StringVar(&o.storeAddr, "store-addr", devStoreAddr, "where that server listens")
	f.StringVar(&o.bucket, "store-bucket", devBucket, "its bucket")
	f.DurationVar(&o.sweepEvery, "sweep-every", manager.DefaultSweepEvery, "how often the leader removes from the store what no release that is kept needs, see relman help sweep; 0: never")
	f.DurationVar(&o.sweepGrace, "sweep-grace", manager.DefaultSweepGrace, "nothing younger goes")
	f.IntVar(&o.sweepKeep, "sweep-keep", manager.DefaultSweepKeep, "of each site, so many of the newest releases stay")
	f.StringVar(&postConverge, "hook-post-converge", "", "a program, by its absolute path, that the leader runs when all live nodes show a flip (default: none)")
	f.DurationVar(&o.convergeWithin, "hook-converge-within", manager.DefaultConvergeWithin, "how long it waits for them")
	hooks.add(f)
	return cmd
}

// newDevCommand is `relman dev`. publish is what `relman publish DIR` does.
func newDevCommand(env daemonEnv, publish func(ctx context.Context, c *cluster.Client, site release.Site, dir string) error) *cobra.Command {
	var o devOptions
	var sites []string
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Run a whole cluster here, and publish DIR to it",
		Long: `Run a whole cluster here until Ctrl-C: etcd, a store, a manager, some nodes and
a front that asks them in turn. Nothing has to be installed or configured. In
another terminal, relman publish DIR finds it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.sites, err = parseSites(sites); err != nil {
				return err
			}
			if o.nodes < 1 || len(o.sites) == 0 {
				return usageError(fmt.Errorf("at least one node and one site are needed"))
			}
			if len(args) == 1 {
				o.publish = func(ctx context.Context, c *cluster.Client, site release.Site) error {
					return publish(ctx, c, site, args[0])
				}
			}
			return runDev(cmd.Context(), o, cmd.ErrOrStderr(), env.logger())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.state, "state", "", "where everything is kept (default: a temporary directory, removed at the end)")
	f.IntVar(&o.nodes, "nodes", 4, "how many nodes")
	f.StringSliceVarP(&sites, "site", "s", []string{"www"}, "the sites")
	f.BoolVar(&o.freePorts, "free-ports", false, "take any free ports, so that no command finds it by accident")
	f.StringVar(&o.readyFile, "ready-file", "", "write where everything is, as JSON, to this file once all is up")
	return cmd
}
