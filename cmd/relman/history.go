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
	var verify bool
	cmd := &cobra.Command{
		Use:   "history [--verify [SITE]]",
		Short: "List what was active, the newest first: when, what, by whom and why",
		Long: `List what was active, the newest first: when, what, by whom and why.

With --verify, replay instead what etcd remembers of SITE, or of all sites,
revision by revision, and check that every change kept to the protocol: that all
nodes held what they were flipped to, that epochs grew by one, that a leader
wrote, and more. This trusts no program that wrote. It reaches back as far as
etcd was not compacted, and says how far that is. Nothing is changed.

Exit code 10 says that something broke the protocol; each such revision is named.`,
		Example: `  relman history -n 100
  relman history --verify
  relman history --verify www -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case n < 1:
				return usagef("-n is %d, it can be 1 or more", n)
			case verify && cmd.Flags().Changed("number"):
				return usagef("--verify replays all that there is: leave -n out")
			case verify:
				site := a.cfg.Site
				if len(args) > 0 {
					site = args[0]
				}
				return a.verifyHistory(cmd.Context(), site)
			case len(args) > 0:
				return usagef("history takes no argument without --verify; the site is given with -s")
			}
			return a.history(cmd.Context(), min(n, maxHistory))
		},
	}
	f := cmd.Flags()
	f.IntVarP(&n, "number", "n", 20, "how many epochs")
	f.BoolVar(&verify, "verify", false, "replay what etcd remembers, and check it against the protocol")
	return cmd
}

// history prints the newest epochs; with -o json as an array of what the active
// key held at each, with the skew.
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
	skews, err := s.client.Skews(ctx, s.site, n)
	if err != nil {
		return err
	}
	var names []string
	past := []pastEpoch{}
	for _, h := range all {
		names = append(names, string(h.Release))
		one := pastEpoch{Active: h}
		if skew, ok := skews[h.Epoch]; ok {
			one.Skew = &skew
		}
		past = append(past, one)
	}
	return a.print(past, func(t *tables) { historyTable(t, past) }, names...)
}

// pastEpoch is one epoch in `relman history -o json`.
type pastEpoch struct {
	cluster.Active
	Skew *cluster.Skew `json:"skew,omitempty"` // how far apart the nodes swapped; not of every epoch
}

func historyTable(t *tables, all []pastEpoch) {
	head := []string{"EPOCH", "WHEN", "WHAT", "RELEASE", "BY", "READY", "SKEW", "WHY"}
	if t.wide {
		head = append(head, "REQUEST")
	}
	var rows [][]string
	for _, h := range all {
		row := []string{
			epochText(h.Epoch), h.At.UTC().Format(time.RFC3339), string(h.Kind), string(h.Release), h.By,
			readyText(h.Quorum), skewText(h.Skew), whyText(h.Active),
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
	if h.Canary != nil {
		special = append(special, canaryText(h.Canary))
	}
	if len(h.Override) > 0 {
		special = append(special, "overriding "+strings.ReplaceAll((*overrides)(&h.Override).String(), ",", " and "))
	}
	if !h.ActivateAt.IsZero() {
		special = append(special, "shown from "+clockText(h.ActivateAt))
	}
	if len(h.Quorum.Without) > 0 {
		special = append(special, "without "+some(h.Quorum.Without))
	}
	if len(special) == 0 {
		return h.Message
	}
	return strings.TrimSpace(h.Message + " (" + strings.Join(special, ", ") + ")")
}

// readyText is how many nodes held a release when it was flipped to; nobody is asked
// when a canary ends.
func readyText(q cluster.Quorum) string {
	of := q.Members + len(q.Without)
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", q.Claims, of)
}
