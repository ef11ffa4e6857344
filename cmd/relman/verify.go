package main

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/cluster/audit"
	"relman/nodeagent"
	"relman/objectstore"
	"relman/release"
)

// verified is what `relman verify` found, in the store or on nodes, or `relman
// history --verify` in the past.
type verified struct {
	Store   *objectstore.Audited `json:"store,omitempty"`
	Nodes   []verifiedNode       `json:"nodes,omitempty"`
	History *audit.Report        `json:"history,omitempty"`
}

// verifiedNode is what one node found of a site, or why it did not look.
type verifiedNode struct {
	Node release.NodeID `json:"node"`
	*nodeagent.Verified
	Error string `json:"error,omitempty"`
	hint  string
}

func newVerifyCommand(a *app) *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use:   "verify [REL…]",
		Short: "Read all that the store, or nodes, hold of a site, and compare it with what was published",
		Long: `Read all that the store holds of the site's releases, or of those that are
named: manifests, layouts, and every pack, once. Every content of every release
is compared with its digest. Nothing is changed.

With --node, nodes read every file of every release that they hold instead. What
is damaged they repair from the store, and serve on meanwhile.

Exit code 10 says that something was damaged, also if a node has repaired it.

` + relHelp,
		Example: `  relman verify                         the store
  relman verify latest previous
  relman verify --node web-1 --node web-2
  relman verify --node all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("node") && len(nodes) == 0 {
				return usagef("--node names no node; all is for every node")
			}
			if len(nodes) > 0 && len(args) > 0 {
				return usagef("a node verifies all that it holds: name releases, or nodes")
			}
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				v, err := s.client.Observe(ctx, s.site)
				if err != nil {
					return outcome{}, err
				}
				if len(nodes) > 0 {
					return s.verifyNodes(ctx, v, nodes, u)
				}
				return s.verifyStore(ctx, v, args, u)
			})
		},
	}
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "have a node verify what it holds; all for every node")
	return cmd
}

// verifyStore reads the store.
func (s *session) verifyStore(ctx context.Context, v *cluster.View, rels []string, u *ui) (outcome, error) {
	out := *outcomeOf(v)
	out.State = stateDone
	kept, err := s.keptOf(ctx, v, rels)
	if err != nil {
		return out, err
	}
	if err := s.openStore(ctx); err != nil {
		return out, err
	}
	began := time.Now()
	u.progress.begin("verifying", bytesRate)
	r, err := objectstore.Audit(ctx, s.store, s.site, kept, objectstore.AuditOptions{
		Progress: func(read, all int64) { u.progress.set(read, all, "") },
	})
	u.progress.end()
	if err != nil {
		return out, err
	}
	out.Verify = &verified{Store: r}
	what := fmt.Sprintf("%s, %s, %s, %s", plural(r.Releases, "release"), plural(r.Packs, "pack"), bytesText(r.Bytes), plural(r.Files, "file"))
	if len(r.Faults) == 0 {
		u.step("verified", time.Since(began), what+": all as published")
		return out, nil
	}
	for _, f := range r.Faults {
		u.step(faultWord(f), 0, faultText(f))
		u.step("", 0, "to do: "+s.remedy(v, f))
	}
	text := plural(len(r.Faults), "object") + " not as published"
	u.step("verified", time.Since(began), what+": "+text)
	text = fmt.Sprintf("%s: %s in the store", s.site, text)
	fail := &failure{code: exitCorrupt, class: classCorrupt, text: text, out: &out}
	out.State = stateFailed
	return out, fail.withHint("nodes serve on what they hold, and verify it by themselves: `relman verify --node all`")
}

// keptOf are the releases that were named, or all.
func (s *session) keptOf(ctx context.Context, v *cluster.View, rels []string) ([]objectstore.Kept, error) {
	ids := slices.SortedFunc(maps.Keys(v.Releases), bySeq)
	if len(rels) > 0 {
		ids = nil
		for _, rel := range rels {
			id, err := s.resolve(ctx, v, rel)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	var all []objectstore.Kept
	for _, id := range ids {
		rec, ok := v.Releases[id]
		if !ok {
			return nil, kept(v, id)
		}
		all = append(all, objectstore.Kept{ID: id, Manifest: rec.Value.Manifest})
	}
	return all, nil
}

func faultWord(f objectstore.Fault) string {
	if f.Missing {
		return "MISSING"
	}
	return "DAMAGED"
}

// faultText names the object, what is wrong, and who needs it.
func faultText(f objectstore.Fault) string {
	text := f.Key
	if what := some(f.What); what != "" {
		text += ": " + what
	}
	var needs []string
	for _, n := range f.Needs {
		need := string(n.Release)
		switch {
		case len(n.Files) > 0:
			need += fmt.Sprintf(" lacks %s (%s)", plural(len(n.Files), "file"), some(n.Files))
		case len(n.Deltas) > 0:
			need += fmt.Sprintf(" lacks no file, deltas of %d (%s)", len(n.Deltas), some(n.Deltas))
		case strings.HasPrefix(f.Key, "packs/"):
			need += " lacks nothing"
		}
		needs = append(needs, need)
	}
	if len(needs) > 0 {
		text += "; by this " + strings.Join(needs, ", ")
	}
	return text
}

// remedy says what to do about an object. It is what publish and fetch really
// do: a publish does not send what the active release has, nor a pack whose
// name is taken; where what is active cannot be read it sends everything.
func (s *session) remedy(v *cluster.View, f objectstore.Fault) string {
	remove := ""
	if !f.Missing {
		remove = "remove it, then "
	}
	lost := slices.ContainsFunc(f.Needs, func(n objectstore.Need) bool { return len(n.Files) > 0 })
	active := slices.ContainsFunc(f.Needs, func(n objectstore.Need) bool { return n.Release == v.Active.Value.Release })
	name := path.Base(f.Key)
	switch {
	case strings.HasPrefix(f.Key, "packs/") && !lost:
		return remove + "put it back from a copy, or nothing: nodes fetch whole files where deltas are of no use"
	case strings.HasPrefix(f.Key, "packs/"):
		return "send all files of a build again with `relman publish DIR --full`, or " + remove + "put it back from a copy (its name is the SHA-256 of its bytes)"
	case active:
		return remove + fmt.Sprintf("put %s back from a copy, or publish the build again: what the active release has is sent anew then", name)
	}
	return remove + fmt.Sprintf("put %s back from a copy, or publish that build again if it is needed: nodes that do not hold this release cannot get it", name)
}

// verifyNodes has nodes read what they hold.
func (s *session) verifyNodes(ctx context.Context, v *cluster.View, names []string, u *ui) (outcome, error) {
	out := *outcomeOf(v)
	out.State = stateDone
	nodes, err := namedNodes(v, names)
	if err != nil {
		return out, err
	}
	began := time.Now()
	u.progress.begin("verifying", bytesRate)
	all := askNodes(ctx, nodes, s.site, u.progress)
	u.progress.end()
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	out.Verify = &verified{Nodes: all}
	releases, files, bytes, damaged, unrepaired := 0, 0, int64(0), 0, 0
	var unreached []verifiedNode
	for _, n := range all {
		if n.Verified == nil {
			unreached = append(unreached, n)
			out.Nodes = append(out.Nodes, n.Node)
			u.step("NOT ASKED", 0, fmt.Sprintf("%s: %s", n.Node, n.Error))
			if n.hint != "" {
				u.step("", 0, "to do: "+n.hint)
			}
			continue
		}
		for _, d := range n.Damaged {
			word := "DAMAGED"
			if d.Repaired {
				word = "REPAIRED"
			}
			u.step(word, 0, fmt.Sprintf("%s: %s of %s: %s", n.Node, d.Path, d.Release, d.What))
		}
		for _, r := range n.Releases {
			releases, files, bytes, damaged = releases+1, files+r.Files, bytes+r.Bytes, damaged+r.Damaged
			if r.Damaged > 0 && !r.Repaired {
				unrepaired += r.Damaged
				u.step("", 0, fmt.Sprintf("%s: %s of %s not repaired: %s", n.Node, plural(r.Damaged, "file"), r.Release, r.Why))
			}
		}
	}
	what := fmt.Sprintf("%s, %s held, %s, %s", plural(len(all)-len(unreached), "node"), plural(releases, "release"), bytesText(bytes), plural(files, "file"))
	if damaged == 0 && len(unreached) == 0 {
		u.step("verified", time.Since(began), what+": all as published")
		return out, nil
	}
	u.step("verified", time.Since(began), fmt.Sprintf("%s: %s damaged, %d repaired", what, plural(damaged, "file"), damaged-unrepaired))
	out.State = stateFailed
	return out, nodesFailure(&out, damaged, unrepaired, unreached)
}

// nodesFailure: what is damaged counts more than who could not be asked.
func nodesFailure(out *outcome, damaged, unrepaired int, unreached []verifiedNode) error {
	if damaged == 0 {
		f := &failure{code: exitUnreachable, class: classNodeUnreachable, out: out}
		f.text, f.hint = fmt.Sprintf("%s: %s", unreached[0].Node, unreached[0].Error), unreached[0].hint
		if len(unreached) > 1 {
			f.text, f.hint = fmt.Sprintf("%d nodes not verified: %s", len(unreached), some(out.Nodes)), ""
		}
		return f
	}
	f := &failure{code: exitCorrupt, class: classCorrupt, out: out}
	if unrepaired == 0 {
		f.text = fmt.Sprintf("%s damaged, all repaired", plural(damaged, "file"))
		return f.withHint("nothing is damaged any more; if it happens again on a node, look at its disk")
	}
	f.text = fmt.Sprintf("%s damaged, %d not repaired", plural(damaged, "file"), unrepaired)
	return f.withHint("`relman status --why` says how the repair goes on, `relman verify` whether the store has what it needs")
}

// namedNodes are the nodes that were named, or all of the site.
func namedNodes(v *cluster.View, names []string) ([]nodeReport, error) {
	known := reportNodes(v)
	if slices.Contains(names, "all") {
		if len(known) == 0 {
			return nil, usagef("%s has no node", v.Site)
		}
		return known, nil
	}
	var nodes []nodeReport
	for _, name := range names {
		id, err := release.ParseNodeID(name)
		if err != nil {
			return nil, usageError(err)
		}
		i := slices.IndexFunc(known, func(n nodeReport) bool { return n.Node == id })
		if i < 0 {
			return nil, usagef("%s has no node %s", v.Site, id).withHint("`relman nodes -s %s` lists them", v.Site)
		}
		if !slices.ContainsFunc(nodes, func(n nodeReport) bool { return n.Node == id }) {
			nodes = append(nodes, known[i])
		}
	}
	return nodes, nil
}
