package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
)

func newStatusCommand(a *app) *cobra.Command {
	var watch, why bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is active, what is under way, and the nodes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			if watch {
				return a.watchStatus(cmd.Context(), s, why)
			}
			v, err := s.client.Observe(cmd.Context(), s.site)
			if err != nil {
				return err
			}
			return a.printStatus(v, why)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
	f.BoolVar(&why, "why", false, "name each node that is waited for, and its reason")
	return cmd
}

// watchStatus prints the status after every change.
func (a *app) watchStatus(ctx context.Context, s *session, why bool) error {
	var failed error
	before := ""
	err := s.client.Follow(ctx, s.site, func(v *cluster.View) bool {
		now := fmt.Sprintf("%+v", statusLines(v, why, time.Time{}))
		if now == before {
			return false
		}
		if before != "" && !a.format().structured() {
			_, _ = fmt.Fprintln(a.out) // what follows fails if this does
		}
		before = now
		failed = a.printStatus(v, why)
		return failed != nil
	})
	if failed != nil {
		return failed
	}
	if ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	return err
}

func (a *app) printStatus(v *cluster.View, why bool) error {
	r := reportSite(v)
	now := time.Now()
	return a.print(r, func(t *tables) {
		t.pairs(statusLines(v, why, now))
		if t.wide {
			t.line("")
			nodesTable(t, r.Nodes, now)
		}
	}, string(v.Active.Value.Release))
}

// statusLines is the status for people. Without a time there are no ages.
func statusLines(v *cluster.View, why bool, now time.Time) [][2]string {
	r := reportSite(v)
	lines := [][2]string{{"SITE", string(v.Site)}, {"ACTIVE", activeText(r.Active, now)}}
	if a := r.Active; a != nil && a.Previous != nil {
		lines = append(lines, [2]string{"PREVIOUS", string(a.Previous.Release)})
	}
	if a := r.Active; a != nil && a.Canary != nil {
		lines = append(lines, [2]string{"CANARY", canaryText(a.Canary) + "; `relman promote` makes it active, `relman abort` ends it"})
	}
	if a := r.Active; a != nil && !a.ActivateAt.IsZero() && r.Shown.Done < r.Shown.Of {
		lines = append(lines, [2]string{"SCHEDULED", "shown from " + clockText(a.ActivateAt)})
	}
	if r.Trial {
		lines = append(lines, [2]string{"ON TRIAL", "until " + r.Active.ConfirmBy.Format(time.RFC3339) + ", then it goes back to " + string(r.Active.Previous.Release) + "; `relman confirm` keeps it"})
	}
	if b := r.Baking; b != nil {
		lines = append(lines, [2]string{"BAKES", "until " + b.Until.Format(time.RFC3339) + ", " + bakingText(v) + "; `relman confirm` keeps it"})
	}
	if z := r.Freeze; z != nil {
		text := fmt.Sprintf("by %s%s: %s", z.By, age(z.At, now), z.Reason)
		if !z.Until.IsZero() {
			text += " (until " + z.Until.Format(time.RFC3339) + ")"
		}
		lines = append(lines, [2]string{"FROZEN", text})
	}
	if q := r.Request; q != nil {
		text := fmt.Sprintf("%s by %s%s  (request %s)", strings.TrimSpace(string(q.Mode)+" "+string(q.Release)), q.By, age(q.At, now), q.Request)
		lines = append(lines, [2]string{"REQUEST", text + quoted(q.Message)})
	}
	if o := r.Rollout; o != nil {
		text := fmt.Sprintf("%s into buffer %d, %d/%d ready", o.Release, o.Buffer, r.Ready.Done, r.Ready.Of)
		if !now.IsZero() {
			text += ", " + leftText(o.Deadline, now)
		}
		lines = append(lines, [2]string{"ROLLOUT", text})
	}
	lines = append(lines, [2]string{"NODES", nodesText(r)})
	if wrong := wrongClocks(v); len(wrong) > 0 {
		lines = append(lines, [2]string{"CLOCK WRONG", wrongClocksText(v, wrong)})
	}
	if why {
		for _, n := range r.Nodes {
			if n.Why != "" {
				lines = append(lines, [2]string{"", string(n.Node) + ": " + n.Why})
			}
		}
	}
	return lines
}

func activeText(a *cluster.Active, now time.Time) string {
	if a == nil {
		return "nothing yet: `relman publish DIR` makes the first release"
	}
	return fmt.Sprintf("%s  epoch %d, %s by %s%s%s", a.Release, a.Epoch, a.Kind, a.By, age(a.At, now), quoted(a.Message))
}

// nodesText counts nodes: "4, 4 live, 1 out, 3/3 show what is active".
func nodesText(r statusReport) string {
	live, out := 0, 0
	for _, n := range r.Nodes {
		if n.Live {
			live++
		}
		if n.Member == cluster.MemberOut || n.Member == cluster.MemberDrain {
			out++
		}
	}
	text := fmt.Sprintf("%d, %d live", len(r.Nodes), live)
	if out > 0 {
		text += fmt.Sprintf(", %d out", out)
	}
	if r.Active != nil {
		text += fmt.Sprintf(", %d/%d show what is active", r.Shown.Done, r.Shown.Of)
	}
	return text
}

func age(at, now time.Time) string {
	if now.IsZero() {
		return ""
	}
	return ", " + agoText(at, now)
}

func leftText(deadline, now time.Time) string {
	if left := deadline.Sub(now); left > 0 {
		return secondsText(left.Seconds()) + " left"
	}
	return "past its deadline"
}

func quoted(message string) string {
	if message == "" {
		return ""
	}
	return fmt.Sprintf("  %q", message)
}
