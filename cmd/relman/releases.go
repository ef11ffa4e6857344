package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// releaseReport is one release in `relman releases -o json`.
type releaseReport struct {
	Release release.ID `json:"release"`
	cluster.ReleaseRecord
	Verdict  string           `json:"verdict,omitempty"` // it cannot become active
	Pinned   string           `json:"pinned,omitempty"`  // why it is never swept
	Active   bool             `json:"active"`
	Previous bool             `json:"previous"`
	Canary   bool             `json:"canary"`
	Held     []release.NodeID `json:"held"` // nodes that hold it
}

func newReleasesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "releases",
		Aliases: []string{"release"},
		Short:   "List, show, compare, judge and pin releases",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listReleases(cmd.Context()) },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the releases that are kept, the newest first",
			Args:  cobra.NoArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return a.listReleases(cmd.Context()) },
		},
		&cobra.Command{
			Use:   "show REL",
			Short: "Show one release",
			Long:  "Show one release.\n\n" + relHelp,
			Args:  argsNamed("REL"),
			RunE:  func(cmd *cobra.Command, args []string) error { return a.showRelease(cmd.Context(), args[0]) },
		},
		newDiffCommand(a),
	)
	cmd.AddCommand(newJudgeCommands(a)...)
	return cmd
}

func (a *app) listReleases(ctx context.Context) error {
	s, v, err := a.view(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	all := reportReleases(v)
	var names []string
	for _, r := range all {
		names = append(names, string(r.Release))
	}
	return a.print(all, func(t *tables) { releasesTable(t, all, time.Now()) }, names...)
}

// reportReleases lists what v keeps, the newest first.
func reportReleases(v *cluster.View) []releaseReport {
	all := []releaseReport{}
	for _, id := range slices.SortedFunc(maps.Keys(v.Releases), bySeq) {
		all = append(all, reportRelease(v, id))
	}
	slices.Reverse(all)
	return all
}

func reportRelease(v *cluster.View, id release.ID) releaseReport {
	r := releaseReport{Release: id, ReleaseRecord: v.Releases[id].Value, Verdict: v.Verdicts[id].Value, Pinned: v.Pins[id].Value, Held: []release.NodeID{}}
	a := v.Active.Value
	r.Active = a.Release == id
	r.Canary = a.Canary != nil && a.Canary.Release == id
	r.Previous = a.Previous != nil && a.Previous.Release == id
	for _, c := range v.Claims {
		if c.Release == id {
			r.Held = append(r.Held, c.Node)
		}
	}
	slices.Sort(r.Held)
	r.Held = slices.Compact(r.Held)
	return r
}

// state is what there is to say of a release in one word.
func (r releaseReport) state() string {
	switch {
	case r.Active:
		return "active"
	case r.Verdict != "":
		word, _, _ := strings.Cut(r.Verdict, " ")
		return word
	case r.Previous:
		return "previous"
	case r.Canary:
		return "canary"
	case r.Pinned != "":
		return "pinned"
	}
	return ""
}

func releasesTable(t *tables, all []releaseReport, now time.Time) {
	head := []string{"RELEASE", "STATE", "CREATED", "FILES", "SIZE", "HELD", "BY", "WHY"}
	if t.wide {
		head = append(head, "COMMIT", "MANIFEST")
	}
	var rows [][]string
	for _, r := range all {
		row := []string{
			string(r.Release), r.state(), agoText(r.Created, now), countText(r.Files), bytesText(r.Bytes), countText(len(r.Held)), r.By, r.Message,
		}
		if t.wide {
			row = append(row, r.Commit, r.Manifest.String())
		}
		rows = append(rows, row)
	}
	t.table(head, rows)
}

func (a *app) showRelease(ctx context.Context, rel string) error {
	s, v, err := a.view(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	id, err := s.resolve(ctx, v, rel)
	if err != nil {
		return err
	}
	if _, ok := v.Releases[id]; !ok {
		return kept(v, id)
	}
	r := reportRelease(v, id)
	return a.print(r, func(t *tables) { t.pairs(releaseLines(r)) }, string(id))
}

func releaseLines(r releaseReport) [][2]string {
	state := r.state()
	if r.Verdict != "" {
		state = r.Verdict
	}
	lines := [][2]string{
		{"RELEASE", string(r.Release)},
		{"STATE", state},
		{"CREATED", r.Created.Format(time.RFC3339)},
		{"BY", r.By},
		{"WHY", r.Message},
		{"COMMIT", r.Commit},
		{"FILES", countText(r.Files)},
		{"SIZE", bytesText(r.Bytes)},
		{"MANIFEST", r.Manifest.String()},
		{"REQUEST", string(r.Request)},
		{"HELD", strings.TrimSpace(countText(len(r.Held)) + " " + some(r.Held))},
	}
	if r.Pinned != "" {
		lines = append(lines, [2]string{"PINNED", r.Pinned})
	}
	return lines
}
