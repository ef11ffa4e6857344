package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

func newNodesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"node"},
		Short:   "Show the nodes of the site, and take them out of the count",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listNodes(cmd.Context()) },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the nodes of the site",
			Args:  cobra.NoArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return a.listNodes(cmd.Context()) },
		},
		&cobra.Command{
			Use:   "show NODE",
			Short: "Show one node",
			Args:  argsNamed("NODE"),
			RunE:  func(cmd *cobra.Command, args []string) error { return a.showNode(cmd.Context(), args[0]) },
		},
		newCordonCommand(a), newUncordonCommand(a), newDrainCommand(a), newApproveCommand(a), newRemoveNodeCommand(a),
		newAcceptResetCommand(a),
	)
	return cmd
}

// view connects, and reads the state of the site.
func (a *app) view(ctx context.Context) (*session, *cluster.View, error) {
	s, err := a.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.client.Observe(ctx, s.site)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, v, nil
}

func (a *app) listNodes(ctx context.Context) error {
	s, v, err := a.view(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	nodes := reportNodes(v)
	var names []string
	for _, n := range nodes {
		names = append(names, string(n.Node))
	}
	return a.print(nodes, func(t *tables) { nodesTable(t, nodes, time.Now()) }, names...)
}

func nodesTable(t *tables, nodes []nodeReport, now time.Time) {
	head := []string{"NODE", "STATE", "RELEASE", "EPOCH", "SWAPPED", "WHY"}
	if t.wide {
		head = append(head, "GROUP", "MEMBER", "BUFFERS", "ADDR", "VERSION")
	}
	var rows [][]string
	for _, n := range nodes {
		swapped := ""
		if n.Swapped != nil {
			swapped = agoText(*n.Swapped, now)
		}
		row := []string{string(n.Node), n.stateText(), string(n.Release), epochText(n.Epoch), swapped, n.Why}
		if t.wide {
			row = append(row, string(n.Group), string(n.Member), strings.Join(n.Claims, " "), n.Addr, n.Version)
		}
		rows = append(rows, row)
	}
	t.table(head, rows)
}

func (a *app) showNode(ctx context.Context, name string) error {
	id, err := release.ParseNodeID(name)
	if err != nil {
		return usageError(err)
	}
	s, v, err := a.view(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for _, n := range reportNodes(v) {
		if n.Node == id {
			return a.print(n, func(t *tables) { t.pairs(nodeLines(n, time.Now())) }, name)
		}
	}
	return usagef("%s has no node %s", s.site, id).withHint("`relman nodes -s %s` lists them", s.site)
}

func nodeLines(n nodeReport, now time.Time) [][2]string {
	swapped := ""
	if n.Swapped != nil {
		swapped = n.Swapped.Format(time.RFC3339Nano) + " (" + agoText(*n.Swapped, now) + ")"
	}
	lines := [][2]string{
		{"NODE", string(n.Node)}, {"GROUP", string(n.Group)}, {"STATE", n.stateText()}, {"MEMBER", string(n.Member)},
		{"SHOWS", string(n.Release)}, {"EPOCH", epochText(n.Epoch)}, {"SWAPPED", swapped}, {"BUFFERS", strings.Join(n.Claims, " ")},
		{"ADDR", n.Addr}, {"ADMIN", n.Admin}, {"VERSION", n.Version},
	}
	if p := n.Preparing; p != nil {
		lines = append(lines, [2]string{"FETCHED", bytesText(p.Done) + " of " + bytesText(p.Total) + " of " + string(p.Release)})
	}
	if n.Why != "" {
		lines = append(lines, [2]string{"WHY", n.Why})
	}
	return lines
}
