package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"relman/cluster"
	"relman/cluster/audit"
	"relman/release"
)

// verifyHistory replays what etcd remembers of a site, or of all, and says where
// it breaks an invariant of the protocol.
func (a *app) verifyHistory(ctx context.Context, site string) error {
	return withClient(ctx, a, func(ctx context.Context, c *cluster.Client) error {
		var only []release.Site
		if site != "" {
			s, err := resolveSite(ctx, c, site)
			if err != nil {
				return err
			}
			only = append(only, s)
		}
		u := a.newUI()
		out, err := replayHistory(ctx, c, u, only)
		u.progress.end()
		if f := a.format(); err != nil || f == formatTable || f == formatWide {
			return err // the ui has said it
		}
		return a.print(out, nil, site)
	})
}

// replayHistory has a checker look at the history of some sites, or of all.
func replayHistory(ctx context.Context, c *cluster.Client, u *ui, only []release.Site) (outcome, error) {
	out := outcome{State: stateDone}
	if len(only) == 1 {
		out.Site = only[0]
	}
	began, n := time.Now(), 0
	checker := audit.New(only...)
	u.progress.begin("replaying", nodesDone)
	err := c.Replay(ctx, func(r cluster.Revision) error {
		checker.Take(r)
		n++
		u.progress.set(0, 0, plural(n, "revision"))
		return nil
	})
	u.progress.end()
	if err != nil {
		return out, err
	}
	r := checker.Report()
	out.Verify = &verified{History: r}
	for _, v := range r.Violations {
		u.step(string(v.Invariant), 0, fmt.Sprintf("revision %d, %s: %s", v.Revision, v.Key, v.Text))
	}
	for _, line := range historyNotes(r) {
		u.step("", 0, line)
	}
	text := fmt.Sprintf("%s of %s", plural(r.Broken(), "violation"), plural(r.Revisions, "revision"))
	u.step("replayed", time.Since(began), text+", "+plural(r.Flips, "flip")+"; "+replayedFrom(r))
	if r.Broken() == 0 {
		u.end("VERIFIED", text)
		return out, nil
	}
	out.State = stateFailed
	f := &failure{code: exitCorrupt, class: classHistory, text: "the history breaks the protocol: " + text, out: &out}
	return out, f.withHint("was anything written by hand, or by another program? What each means is in docs/operations.md")
}

// replayedFrom says how much of the past was there to be checked.
func replayedFrom(r *audit.Report) string {
	if r.Base == 0 {
		return fmt.Sprintf("revisions 1 to %d of etcd, all that there were", r.To)
	}
	return fmt.Sprintf("revisions %d to %d of etcd: what was before is compacted", r.From, r.To)
}

// historyNotes says what else is worth knowing of a replay.
func historyNotes(r *audit.Report) (lines []string) {
	var gaps []string
	for _, g := range r.Gaps {
		gaps = append(gaps, fmt.Sprintf("%d to %d", g.From, g.To))
	}
	if len(gaps) > 0 {
		lines = append(lines, "not checked, compacted meanwhile: revisions "+strings.Join(gaps, ", "))
	}
	if r.Lowered > 0 {
		lines = append(lines, plural(r.Lowered, "needed claim")+" taken back by nodes whose disks could not back them (T11a)")
	}
	if r.Forced > 0 {
		lines = append(lines, plural(r.Forced, "rule")+" put aside by an operator (--override)")
	}
	if r.More > 0 {
		lines = append(lines, plural(r.More, "more violation")+" not listed")
	}
	return lines
}
