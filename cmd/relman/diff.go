package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// diffReport is `relman releases diff -o json`.
type diffReport struct {
	From    release.ID `json:"from"`
	To      release.ID `json:"to"`
	Added   []fileDiff `json:"added"`
	Removed []fileDiff `json:"removed"`
	Changed []fileDiff `json:"changed"`
	Same    int        `json:"same"` // files
}

// fileDiff is one file of a diffReport. A size is null where the file is not.
type fileDiff struct {
	Path string `json:"path"`
	Old  *int64 `json:"old_size"`
	New  *int64 `json:"new_size"`
}

func newDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "List the files in which release B differs from A",
		Long:  "List the files in which release B differs from A.\n\n" + relHelp,
		Args:  argsNamed("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diffReleases(cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) diffReleases(ctx context.Context, from, to string) error {
	s, v, err := a.view(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.openStore(ctx); err != nil {
		return err
	}
	old, err := s.manifest(ctx, v, from)
	if err != nil {
		return err
	}
	now, err := s.manifest(ctx, v, to)
	if err != nil {
		return err
	}
	r := diffManifests(old, now)
	var paths []string
	for _, f := range append(append(append([]fileDiff{}, r.Added...), r.Changed...), r.Removed...) {
		paths = append(paths, f.Path)
	}
	return a.print(r, func(t *tables) { diffText(t, r) }, paths...)
}

// manifest reads the manifest of a release that is named as people do.
func (s *session) manifest(ctx context.Context, v *cluster.View, rel string) (*release.Manifest, error) {
	id, err := s.resolve(ctx, v, rel)
	if err != nil {
		return nil, err
	}
	rec, ok := v.Releases[id]
	if !ok {
		return nil, kept(v, id)
	}
	return objectstore.ReadManifest(ctx, s.store, s.site, id, rec.Value.Manifest)
}

// diffManifests goes through both manifests, which are sorted by path.
func diffManifests(old, now *release.Manifest) diffReport {
	r := diffReport{From: old.ID(), To: now.ID(), Added: []fileDiff{}, Removed: []fileDiff{}, Changed: []fileDiff{}}
	for _, f := range now.Files {
		was, ok := old.Lookup(f.Path)
		switch {
		case !ok:
			r.Added = append(r.Added, fileDiff{Path: f.Path, New: &f.Size})
		case was.Digest != f.Digest || was.Exec != f.Exec || was.Type != f.Type:
			r.Changed = append(r.Changed, fileDiff{Path: f.Path, Old: &was.Size, New: &f.Size})
		default:
			r.Same++
		}
	}
	for _, f := range old.Files {
		if _, ok := now.Lookup(f.Path); !ok {
			r.Removed = append(r.Removed, fileDiff{Path: f.Path, Old: &f.Size})
		}
	}
	return r
}

func diffText(t *tables, r diffReport) {
	for _, f := range r.Added {
		t.line("+ %s  %s", printable(f.Path), bytesText(*f.New))
	}
	for _, f := range r.Changed {
		t.line("~ %s  %s", printable(f.Path), changeText(*f.Old, *f.New))
	}
	for _, f := range r.Removed {
		t.line("- %s  %s", printable(f.Path), bytesText(*f.Old))
	}
	t.line("%s to %s: %s added, %s changed, %s removed, %s the same", r.From, r.To,
		countText(len(r.Added)), countText(len(r.Changed)), countText(len(r.Removed)), countText(r.Same))
}

func changeText(old, now int64) string {
	if old == now {
		return bytesText(now)
	}
	return fmt.Sprintf("%s -> %s", bytesText(old), bytesText(now))
}
