package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
)

// maxHistory is more than the cluster keeps.
const maxHistory = 10_000

func newHistoryCommand(a *app) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List what was active, the newest first: when, what, by whom and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 {
				return usagef("-n is %d, it can be 1 or more", n)
			}
			return a.history(cmd.Context(), min(n, maxHistory))
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 20, "how many epochs")
	return cmd
}

// history prints the newest epochs; with -o json as an array of what the active
// key held at each.
func (a *app) history(ctx context.Context, n int) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.client.History(ctx, s.site, n)
	if err != nil {
		return err
	}
	var names []string
	for _, h := range all {
		names = append(names, string(h.Release))
	}
	return a.print(append([]cluster.Active{}, all...), func(t *tables) { historyTable(t, all) }, names...)
}

func historyTable(t *tables, all []cluster.Active) {
	head := []string{"EPOCH", "WHEN", "WHAT", "RELEASE", "BY", "READY", "WHY"}
	if t.wide {
		head = append(head, "REQUEST")
	}
	var rows [][]string
	for _, h := range all {
		row := []string{
			epochText(h.Epoch), h.At.UTC().Format(time.RFC3339), string(h.Kind), string(h.Release), h.By,
			fmt.Sprintf("%d/%d", h.Quorum.Claims, h.Quorum.Members+len(h.Quorum.Without)), whyText(h),
		}
		if t.wide {
			row = append(row, string(h.Request))
		}
		rows = append(rows, row)
	}
	t.table(head, rows)
}

// whyText is why something became active, and what was special about it.
func whyText(h cluster.Active) string {
	var special []string
	if len(h.Override) > 0 {
		special = append(special, "overriding "+strings.ReplaceAll((*overrides)(&h.Override).String(), ",", " and "))
	}
	if len(h.Quorum.Without) > 0 {
		special = append(special, "without "+some(h.Quorum.Without))
	}
	if len(special) == 0 {
		return h.Message
	}
	return strings.TrimSpace(h.Message + " (" + strings.Join(special, ", ") + ")")
}
