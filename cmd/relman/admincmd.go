package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// newAdminCommand is `relman admin`: what is done once, by whoever runs the
// cluster.
func newAdminCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Make sites and buckets, and set policies", Args: cobra.NoArgs, RunE: help}
	site := &cobra.Command{Use: "site", Short: "Make and list sites", Args: cobra.NoArgs, RunE: help}
	site.AddCommand(newSiteAddCommand(a), newSiteListCommand(a), newSiteSetCommand(a))
	bucket := &cobra.Command{Use: "bucket", Short: "Make the store's bucket", Args: cobra.NoArgs, RunE: help}
	bucket.AddCommand(newBucketInitCommand(a))
	cmd.AddCommand(site, bucket, newPolicyCommand(a))
	return cmd
}

// siteReport is `relman admin site add -o json`.
type siteReport struct {
	Site  release.Site `json:"site"`
	Added bool         `json:"added"`
}

// bucketReport is `relman admin bucket init -o json`.
type bucketReport struct {
	Store string `json:"store"`
}

func newSiteAddCommand(a *app) *cobra.Command {
	var given policyFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a site; one that is there stays as it is",
		Long: `Make a site; one that is there stays as it is.

With --store, a cluster that knows of no store yet is told where it is.`,
		Args: argsNamed("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := release.ParseSite(args[0])
			if err != nil {
				return usageError(err)
			}
			p := cluster.DefaultPolicy()
			if err := given.apply(cmd.Flags().Changed, &p); err != nil {
				return err
			}
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				added, err := addSite(ctx, c, name, p, a.storeURL())
				if err != nil {
					return err
				}
				word := "exists"
				if added {
					word = "added"
				}
				return a.print(siteReport{name, added}, func(t *tables) { t.line("%s %s", word, name) }, string(name))
			})
		},
	}
	given.add(cmd.Flags())
	return cmd
}

// servingReport is `relman admin site set -o json`.
type servingReport struct {
	Site    release.Site    `json:"site"`
	Serving cluster.Serving `json:"serving"`
}

func newSiteSetCommand(a *app) *cobra.Command {
	d := cluster.DefaultServing()
	given, pinFor, retainFor := d, d.PinTime(), d.RetainTime()
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change how the nodes serve a site, or show it",
		Long: `Change how the nodes serve a site: what is given, all else stays as it is. They
follow at once. Without a flag it is shown.`,
		Args: argsNamed("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := release.ParseSite(args[0])
			if err != nil {
				return usageError(err)
			}
			given.PinSeconds, given.RetainSeconds = int(pinFor/time.Second), int(retainFor/time.Second)
			if err := given.Validate(); err != nil {
				return usageError(err)
			}
			set := cmd.Flags().Changed
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				now, err := c.SetServing(ctx, name, func(s *cluster.Serving) {
					for flag, take := range map[string]func(){
						"pin":        func() { s.Pin = given.Pin },
						"pin-for":    func() { s.PinSeconds = given.PinSeconds },
						"retain":     func() { s.Retain = given.Retain },
						"retain-for": func() { s.RetainSeconds = given.RetainSeconds },
						"clean-urls": func() { s.CleanURLs = given.CleanURLs },
						"slash":      func() { s.Slash = given.Slash },
						"spa":        func() { s.SPA = given.SPA },
					} {
						if set(flag) {
							take()
						}
					}
				})
				if err != nil {
					return err
				}
				return a.print(servingReport{name, now}, func(t *tables) {
					t.line("%s  pin %s for %s, retain %d for %s, clean URLs %v, slash %s, SPA %v",
						name, now.Pin, now.PinTime(), now.Retain, now.RetainTime(), now.CleanURLs, now.Slash, now.SPA)
				}, string(name))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.Pin, "pin", d.Pin, "what keeps a visitor on the release of his page: html (pages set a cookie) or off")
	f.DurationVar(&pinFor, "pin-for", pinFor, "for how long: 1s to 24h")
	f.IntVar(&given.Retain, "retain", d.Retain, "of how many releases that a node does not hold any more it keeps what open pages may still ask for: 0 to 100")
	f.DurationVar(&retainFor, "retain-for", retainFor, "for how long at most: 0 to 720h")
	f.BoolVar(&given.CleanURLs, "clean-urls", d.CleanURLs, "answer /about with about.html, and leave .html out of addresses")
	f.StringVar(&given.Slash, "slash", d.Slash, "what addresses end in: auto (as the files have it), always, never or ignore")
	f.BoolVar(&given.SPA, "spa", d.SPA, "answer pages that do not exist with /index.html")
	return cmd
}

func newSiteListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the sites, the first one made first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				sites, err := c.Sites(ctx)
				if err != nil {
					return err
				}
				names := []string{}
				for _, s := range sites {
					names = append(names, string(s))
				}
				return a.print(names, func(t *tables) {
					for _, n := range names {
						t.line("%s", n)
					}
				}, names...)
			})
		},
	}
}

func newBucketInitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the bucket of --store and tell the cluster about it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				url, err := initBucket(ctx, c, a.storeURL())
				if err != nil {
					return err
				}
				return a.print(bucketReport{url}, func(t *tables) { t.line("%s", url) }, url)
			})
		},
	}
}

// withClient runs f with a connection to etcd.
func withClient(ctx context.Context, a *app, f func(context.Context, *cluster.Client) error) error {
	cfg, err := a.clusterConfig()
	if err != nil {
		return err
	}
	c, err := cluster.Dial(ctx, cfg)
	if err != nil {
		return a.dialError(err, cfg.Endpoints)
	}
	defer c.Close() // nothing is under way any more
	return f(ctx, c)
}
