package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// newAdminCommand is `relman admin`: what is done once, by whoever runs the
// cluster.
func newAdminCommand(env daemonEnv) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Make sites and buckets", Args: cobra.NoArgs}
	site := &cobra.Command{Use: "site", Short: "Make and list sites", Args: cobra.NoArgs}
	site.AddCommand(newSiteAddCommand(env), newSiteListCommand(env))
	bucket := &cobra.Command{Use: "bucket", Short: "Make the store's bucket", Args: cobra.NoArgs}
	bucket.AddCommand(newBucketInitCommand(env))
	cmd.AddCommand(site, bucket)
	return cmd
}

func newSiteAddCommand(env daemonEnv) *cobra.Command {
	p := cluster.DefaultPolicy()
	deadline := p.PrepareDeadline()
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a site; one that is there stays as it is",
		Long: `Make a site; one that is there stays as it is.

With --store, a cluster that knows of no store yet is told where it is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := release.ParseSite(args[0])
			if err != nil {
				return usageError(err)
			}
			p.PrepareDeadlineSeconds = int(deadline / time.Second)
			if err := p.Validate(); err != nil {
				return usageError(err)
			}
			return withClient(cmd.Context(), env, func(ctx context.Context, c *cluster.Client) error {
				added, err := addSite(ctx, c, name, p, env.storeURL())
				if err != nil {
					return err
				}
				word := "exists"
				if added {
					word = "added"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", word, name)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Min, "min", p.Min, "how many nodes must be ready for a flip: a number or a percentage")
	f.IntVar(&p.Buffers, "buffers", p.Buffers, "how many releases a node holds")
	f.DurationVar(&deadline, "prepare-deadline", deadline, "how long a rollout may take")
	return cmd
}

func newSiteListCommand(env daemonEnv) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the sites, the first one made first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(cmd.Context(), env, func(ctx context.Context, c *cluster.Client) error {
				sites, err := c.Sites(ctx)
				for _, s := range sites {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), s); err != nil {
						return err
					}
				}
				return err
			})
		},
	}
}

func newBucketInitCommand(env daemonEnv) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the bucket of --store and tell the cluster about it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(cmd.Context(), env, func(ctx context.Context, c *cluster.Client) error {
				url, err := initBucket(ctx, c, env.storeURL())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), url)
				return err
			})
		},
	}
}

// withClient runs f with a connection to etcd.
func withClient(ctx context.Context, env daemonEnv, f func(context.Context, *cluster.Client) error) error {
	cfg, err := env.clusterConfig()
	if err != nil {
		return err
	}
	c, err := cluster.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close() // nothing is under way any more
	return f(ctx, c)
}
