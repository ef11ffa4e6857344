package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// memberReport is what `relman nodes cordon` and the like say with -o json: of
// every site that the command was about.
type memberReport struct {
	Node  release.NodeID `json:"node"`
	Sites []siteMember   `json:"sites"`
}

type siteMember struct {
	Site   release.Site   `json:"site"`
	Member cluster.Member `json:"member"`
}

func newCordonCommand(a *app) *cobra.Command {
	var why string
	var force bool
	cmd := &cobra.Command{
		Use:   "cordon NODE",
		Short: "Take a node out of the count until it is uncordoned",
		Long: `Take a node out of the count until it is uncordoned, on all of its sites or on
the one that -s names. It says at /readyz that it is not ready; once balancers
have noticed (its --drain-delay) no rollout waits for it any more. It goes on to
follow what is active.

This asks for it and ends; relman nodes drain waits for it.`,
		Args: argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				if err := n.cordon(ctx, why, force); err != nil {
					return err
				}
				return n.say(ctx, "cordoned %s: `relman nodes` shows when it is out", n.id)
			})
		},
	}
	addCordonFlags(cmd, &why, &force)
	return cmd
}

func newDrainCommand(a *app) *cobra.Command {
	var why string
	var force bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Cordon a node, and wait until it takes no traffic and does not count",
		Long: `Cordon a node, and wait until it takes no traffic and does not count: then it can
be stopped without anybody noticing. relman nodes uncordon lets it in again.`,
		Args: argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				if err := n.cordon(ctx, why, force); err != nil {
					return err
				}
				if err := n.waitOut(ctx); err != nil {
					return err
				}
				return n.say(ctx, "drained %s: it can be stopped; `relman nodes uncordon %[1]s` lets it in again", n.id)
			})
		},
	}
	addCordonFlags(cmd, &why, &force)
	return cmd
}

func addCordonFlags(cmd *cobra.Command, why *string, force *bool) {
	cmd.Flags().StringVarP(why, "message", "m", "no reason given", "why; it stands in the cordon and in the site's roster")
	cmd.Flags().BoolVar(force, "force", false, "also when fewer nodes are left than the site's policy wants for a flip")
}

func newUncordonCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "uncordon NODE",
		Short: "Let a cordoned node count again, as soon as it shows what is active",
		Args:  argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				for _, v := range n.views {
					if !v.Cordons[n.id].Exists() {
						continue
					}
					if _, err := n.c.Commit(ctx, cluster.SetCordon(v, n.id, nil)); err != nil {
						return err
					}
				}
				return n.say(ctx, "uncordoned %s", n.id)
			})
		},
	}
}

func newApproveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "approve NODE",
		Short: "Let a new node in, where the policy wants that (--admission approve)",
		Args:  argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				approval := cluster.Approval{By: whoami(), At: time.Now().UTC().Truncate(time.Second)}
				for _, v := range n.views {
					if v.Members[n.id].Exists() || v.Approved[n.id] {
						continue
					}
					if _, err := n.c.Commit(ctx, cluster.Approve(v.Site, n.id, approval)); err != nil {
						return err
					}
				}
				return n.say(ctx, "approved of %s", n.id)
			})
		},
	}
}

func newRemoveNodeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Forget a node that is gone for good",
		Long: `Forget a node that is gone for good, on all sites. Its agent is stopped before. A
node that still counts is put out first, which takes as long as its fence. If it
comes back all the same, it is a new node.`,
		Args: argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.cfg.Site != "" {
				return usagef("a node is removed from all of its sites: leave out -s")
			}
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				for _, v := range n.views {
					if live, alive := v.Live[n.id]; alive {
						return &failure{
							code: exitConflict, class: cluster.ClassConflict,
							text: fmt.Sprintf("%s is alive, at %s: stop its agent first", n.id, live.Addr),
						}
					}
				}
				if err := n.cordon(ctx, "to be removed", true); err != nil {
					return err
				}
				if err := n.waitOut(ctx); err != nil {
					return err
				}
				if err := n.read(ctx); err != nil {
					return err
				}
				for _, t := range cluster.RemoveNode(n.id, n.views) {
					if _, err := n.c.Commit(ctx, t); err != nil {
						return err
					}
				}
				return n.print("removed %s", n.id)
			})
		},
	}
}

func newAcceptResetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "accept-epoch-reset NODE",
		Short: "Have a node obey etcd again, whose epoch went back",
		Long: `Have a node obey etcd again, whose epoch went back: etcd was restored from a
backup, and what it says now is to be shown. Until then the node refuses it, and
shows what it has. It asks the address that the node says of itself.`,
		Args: argsNamed("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeNode(cmd.Context(), args[0], func(ctx context.Context, n nodeOf) error {
				accepted := 0
				for _, v := range n.views {
					if v.Status[n.id].State != cluster.NodeRefusing {
						continue
					}
					live := v.Live[n.id]
					if live.Admin == "" {
						return &failure{code: exitUnreachable, class: classNodeUnreachable, text: fmt.Sprintf("%s does not say where its admin listener is", n.id)}
					}
					limited, cancel := context.WithTimeout(ctx, adminDialTimeout)
					resp, err := postAdmin(limited, live.Admin, "/v1/accept-reset", v.Site)
					cancel()
					if err != nil {
						return &failure{code: exitError, class: classNodeUnreachable, err: err}
					}
					_ = resp.Body.Close() // it has said yes
					accepted++
				}
				if accepted == 0 {
					return n.print("unchanged %s: it refuses nothing", n.id)
				}
				return n.print("accepted for %s", n.id)
			})
		},
	}
}

// nodeOf is a node, and the sites that a command is about.
type nodeOf struct {
	a     *app
	c     *cluster.Client
	id    release.NodeID
	sites []release.Site
	views []*cluster.View // of the sites that know the node
}

// changeNode runs f for a node that some site knows.
func (a *app) changeNode(ctx context.Context, name string, f func(context.Context, nodeOf) error) error {
	id, err := release.ParseNodeID(name)
	if err != nil {
		return usageError(err)
	}
	if a.cfg.Site != "" {
		if _, err := release.ParseSite(a.cfg.Site); err != nil {
			return usageError(err)
		}
	}
	return withClient(ctx, a, func(ctx context.Context, c *cluster.Client) error {
		n := nodeOf{a: a, c: c, id: id}
		if n.sites, err = c.Sites(ctx); err != nil {
			return err
		}
		if a.cfg.Site != "" {
			site, err := resolveSite(ctx, c, a.cfg.Site)
			if err != nil {
				return err
			}
			n.sites = []release.Site{site}
		}
		if err := n.read(ctx); err != nil {
			return err
		}
		if len(n.views) == 0 {
			return usagef("there is no node %s", id).withHint("`relman nodes -s SITE` lists those of a site")
		}
		return f(ctx, n)
	})
}

// read reads the sites that know the node.
func (n *nodeOf) read(ctx context.Context) error {
	n.views = nil
	for _, s := range n.sites {
		v, err := n.c.Observe(ctx, s)
		if err != nil {
			return err
		}
		_, joined := v.Joins[n.id]
		if joined || v.Members[n.id].Exists() {
			n.views = append(n.views, v)
		}
	}
	return nil
}

// cordon cordons the node, unless too few would be left.
func (n *nodeOf) cordon(ctx context.Context, why string, force bool) error {
	for _, v := range n.views {
		counting := v.EnteredNodes()
		if !slices.Contains(counting, n.id) {
			continue // nobody is lost
		}
		left := slices.DeleteFunc(counting, func(e release.NodeID) bool { return e == n.id || v.Cordons[e].Exists() })
		b, err := v.Bar(cluster.Desired{})
		if err != nil {
			return err
		}
		if len(left) < max(1, b.Need) && !force {
			f := &failure{
				code: exitNotReady, class: cluster.ClassQuorum,
				text: fmt.Sprintf("without %s, %s has %d of %d nodes that count, and %d are needed for a flip", n.id, v.Site, len(left), b.Registered, b.Need),
			}
			return f.withHint("--force does it all the same")
		}
	}
	for _, v := range n.views {
		if v.Cordons[n.id].Exists() {
			continue
		}
		c := cluster.Cordon{By: whoami(), Reason: why, At: time.Now().UTC().Truncate(time.Second)}
		if _, err := n.c.Commit(ctx, cluster.SetCordon(v, n.id, &c)); err != nil {
			return err
		}
	}
	return nil
}

// drainWithin is how long a drain takes at most, where nobody says anything else.
const drainWithin = 5 * time.Minute

// waitOut waits until the node is out of every site that it is a member of.
func (n *nodeOf) waitOut(ctx context.Context) error {
	limit := n.a.cfg.Timeout
	if limit <= 0 {
		limit = drainWithin
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errWaited)
	defer cancel()
	for _, v := range n.views {
		err := n.c.Follow(ctx, v.Site, func(v *cluster.View) bool {
			m := v.Members[n.id]
			return !m.Exists() || m.Value == cluster.MemberOut
		})
		if errors.Is(context.Cause(ctx), errWaited) {
			f := &failure{code: exitNotReady, class: classTimeout, text: fmt.Sprintf("%s is not out of %s within %v", n.id, v.Site, limit)}
			return f.withHint("it goes on by itself if a manager runs; `relman nodes show %s -s %s` tells", n.id, v.Site)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// say prints what was done, and what the node is now.
func (n *nodeOf) say(ctx context.Context, format string, args ...any) error {
	if err := n.read(ctx); err != nil {
		return err
	}
	return n.print(format, args...)
}

func (n *nodeOf) print(format string, args ...any) error {
	r := memberReport{Node: n.id, Sites: []siteMember{}}
	var sites []string
	for _, v := range n.views {
		r.Sites = append(r.Sites, siteMember{v.Site, v.Members[n.id].Value})
		sites = append(sites, string(v.Site))
	}
	return n.a.print(r, func(t *tables) { t.line(format+" (%s)", append(args, strings.Join(sites, ", "))...) }, string(n.id))
}
