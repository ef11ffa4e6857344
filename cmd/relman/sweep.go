package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/manager"
	"relman/objectstore"
	"relman/release"
)

// sweepReport is `relman sweep` in -o json: what it did or, of a dry run, would
// do.
type sweepReport struct {
	Releases []sweptRelease `json:"releases"` // of each site, the newest first
	Packs    sweptPacks     `json:"packs"`
	Objects  int            `json:"objects"` // manifests, layouts and leftovers that go
	Uploads  int            `json:"uploads"` // that were begun and never ended, and go

	// What was done; of a dry run zero.
	DeletedObjects int   `json:"deleted_objects"`
	DeletedBytes   int64 `json:"deleted_bytes"`
	RepackedPacks  int   `json:"repacked_packs"`
	WrittenBytes   int64 `json:"written_bytes"`
	AbortedUploads int   `json:"aborted_uploads"`
	Checked        int   `json:"checked_packs"` // that kept releases need, looked up at the end
}

// sweptRelease is a release that is kept, and why, or forgotten.
type sweptRelease struct {
	Site release.Site `json:"site"`
	manager.Fate
}

// sweptPacks counts packs by what becomes of them.
type sweptPacks struct {
	Kept   packCount `json:"kept"`
	Young  packCount `json:"young"` // too young to go, though nothing refers to them
	Repack packCount `json:"repack"`
	Delete packCount `json:"delete"`
}

// packCount is a number of packs, their bytes, and how many of these are used.
type packCount struct {
	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
	Used  int64 `json:"used_bytes"`
}

func newSweepCommand(a *app) *cobra.Command {
	cfg := manager.SweepConfig{Grace: manager.DefaultSweepGrace, Keep: manager.DefaultSweepKeep}
	dry := false
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Remove from the store what no release that is kept needs",
		Long: `Remove from the store what no release that is kept needs, of all sites.

A release is kept while it is active, or was just before; while it is asked for
or rolled out; while a node holds it; while it is one of the newest of its site;
and while it is young. The others are forgotten: they cannot become active any
more. Then their objects go, and packs of which little is used are rewritten.

Publishers and a sweep wait for each other. The leading manager sweeps by itself,
see --sweep-every of relman manager.`,
		Example: `  relman sweep --dry-run
  relman sweep --keep 3 --grace 24h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sweepFlags(cfg.Grace, cfg.Keep); err != nil {
				return err
			}
			cfg.By, cfg.Log = whoami(), a.sweepLog()
			return withClient(cmd.Context(), a, func(ctx context.Context, c *cluster.Client) error {
				s := newSession(c, "", a.storeURL(), cfg.Log)
				if err := s.openStore(ctx); err != nil {
					return err
				}
				return a.sweep(ctx, s, cfg, dry)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "say what would go, and why the rest stays; change nothing")
	f.DurationVar(&cfg.Grace, "grace", cfg.Grace, "nothing younger goes")
	f.IntVar(&cfg.Keep, "keep", cfg.Keep, "of each site, so many of the newest releases stay")
	return cmd
}

// sweepFlags checks what both that sweep are told.
func sweepFlags(grace time.Duration, keep int) error {
	if grace < 0 || keep < 0 {
		return usagef("a sweep keeps 0 releases or more, and what is younger than 0s or more: not %d, %v", keep, grace)
	}
	return nil
}

// sweepLog logs what is worth it while one waits for a sweep.
func (a *app) sweepLog() *slog.Logger {
	if a.cfg.Verbose {
		return a.logger()
	}
	return newLogger(a.err, slog.LevelWarn, !a.cfg.NoColor)
}

// sweep sweeps, or looks, and prints.
func (a *app) sweep(ctx context.Context, s *session, cfg manager.SweepConfig, dry bool) error {
	w := manager.NewSweeper(s.client, s.store, cfg)
	out := outcome{State: stateDone}
	began := time.Now()
	progress := a.newUI().progress
	progress.begin("sweeping", bytesRate)
	do := w.Run
	if dry {
		out.State, do = stateDryRun, w.DryRun
	}
	swept, err := do(ctx)
	progress.end()
	if swept != nil {
		out.Sweep = reportSweep(swept)
	}
	if err != nil {
		return sweepFailure(out, err)
	}
	var names []string
	for _, r := range out.Sweep.Releases {
		if !r.Keep {
			names = append(names, string(r.Release))
		}
	}
	return a.print(out, func(t *tables) {
		if !a.cfg.Quiet {
			sweepTable(t, out.Sweep, dry)
		}
		t.line("%s", sweptLine(out.Sweep, dry, time.Since(began)))
	}, names...)
}

// sweepFailure says what a sweep that did not go through means.
func sweepFailure(out outcome, err error) error {
	f := *failureOf(err)
	out.State, f.out = stateFailed, &out
	busy, isBusy := errors.AsType[*manager.Busy](err)
	switch {
	case isBusy:
		f.class = busy.Class
		return f.withHint("nothing was swept: try again when that is over")
	case out.Sweep == nil && (errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrCorrupt)):
		return f.withHint("nothing is swept while a release that is kept cannot be read: `relman verify -s SITE` says what to do")
	}
	return &f
}

func reportSweep(s *manager.Swept) *sweepReport {
	n := s.Stats
	r := &sweepReport{
		Releases: []sweptRelease{}, Objects: len(s.Plan.Objects), Uploads: len(s.Plan.Uploads),
		DeletedObjects: n.DeletedObjects, DeletedBytes: n.DeletedBytes, RepackedPacks: n.RepackedPacks,
		WrittenBytes: n.WrittenBytes, AbortedUploads: n.AbortedUploads, Checked: n.Checked,
	}
	for _, site := range s.Sites {
		for _, f := range site.Releases {
			r.Releases = append(r.Releases, sweptRelease{site.Site, f})
		}
	}
	for _, p := range s.Plan.Packs {
		var of *packCount
		switch p.Fate {
		case "young":
			of = &r.Packs.Young
		case "repack":
			of = &r.Packs.Repack
		case "delete":
			of = &r.Packs.Delete
		default:
			of = &r.Packs.Kept
		}
		of.Packs, of.Bytes, of.Used = of.Packs+1, of.Bytes+p.Size, of.Used+p.Live
	}
	return r
}

// sweepTable says what becomes of every release, and of how many packs.
func sweepTable(t *tables, r *sweepReport, dry bool) {
	goes := "forgotten"
	if dry {
		goes = "goes"
	}
	var rows [][]string
	for _, rel := range r.Releases {
		what := "kept"
		if !rel.Keep {
			what = goes
		}
		rows = append(rows, []string{string(rel.Site), string(rel.Release), what, strings.Join(rel.Reasons, ", ")})
	}
	if len(rows) > 0 {
		t.table([]string{"SITE", "RELEASE", "FATE", "WHY"}, rows)
		t.line("")
	}
	packs := func(c packCount) string { return plural(c.Packs, "pack") + ", " + bytesText(c.Bytes) }
	used := func(c packCount) string { return packs(c) + ", " + bytesText(c.Used) + " used" }
	t.pairs([][2]string{
		{"kept", used(r.Packs.Kept)},
		{"too young to go", packs(r.Packs.Young)},
		{"rewritten", used(r.Packs.Repack)},
		{"deleted", packs(r.Packs.Delete) + ", and " + plural(r.Objects, "other object")},
		{"aborted", plural(r.Uploads, "unfinished upload")},
	})
	t.line("")
}

// sweptLine is the last line.
func sweptLine(r *sweepReport, dry bool, took time.Duration) string {
	gone := 0
	for _, rel := range r.Releases {
		if !rel.Keep {
			gone++
		}
	}
	if dry {
		return worded("DRY RUN", fmt.Sprintf("%d of %s would go; nothing was changed", gone, plural(len(r.Releases), "release")))
	}
	return worded("SWEPT", fmt.Sprintf("%d of %s forgotten, %s deleted (%s), %s looked up   %s",
		gone, plural(len(r.Releases), "release"), plural(r.DeletedObjects, "object"), bytesText(r.DeletedBytes), plural(r.Checked, "pack"), tookText(took)))
}
