package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/nodeagent"
	"relman/release"
)

// mostPreview bounds how long a link to a preview is good: whoever has it can
// look.
const mostPreview = 30 * 24 * time.Hour

// previewReport is `relman preview -o json`.
type previewReport struct {
	Site    release.Site  `json:"site"`
	Release release.ID    `json:"release"`
	Until   time.Time     `json:"until"`
	Pin     string        `json:"pin"` // for a Relman-Pin header
	Links   []previewLink `json:"links"`
}

// previewLink is a link to one node, or to what was given with --url.
type previewLink struct {
	Node release.NodeID `json:"node,omitempty"`
	URL  string         `json:"url"`
}

func newPreviewCommand(a *app) *cobra.Command {
	var base string
	last := time.Hour
	cmd := &cobra.Command{
		Use:   "preview REL",
		Short: "Make a link that shows a release before it is active",
		Long: `Make a link under which the nodes show a release that they hold, as visitors
will see it: one that was prepared with --no-flip, the next one of a rollout, or
an older one. Whoever has the link can look until it expires. It sets a cookie;
?relman-preview=off takes it away. Tools can send the pin in a Relman-Pin header
instead.

` + relHelp,
		Example: `  relman publish dist/ --no-flip
  relman preview latest --url https://www.example.com`,
		Args: argsNamed("REL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < time.Minute || last > mostPreview {
				return usagef("--for is %s, it can be 1m to %s", last, mostPreview)
			}
			if u, err := url.Parse(base); base != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
				return usagef("--url %q: where the site is reached is wanted, like https://www.example.com", base)
			}
			s, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			r, err := s.preview(cmd.Context(), args[0], base, time.Now().Add(last))
			if err != nil {
				return err
			}
			return a.print(r, func(t *tables) {
				t.line("%s  %s until %s", r.Site, r.Release, r.Until.Format(time.RFC3339))
				for _, l := range r.Links {
					t.line("%s", l.URL)
				}
			}, r.Links[0].URL)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&last, "for", last, "how long the link is good: 1m to 720h")
	f.StringVar(&base, "url", "", "where visitors reach the site (default: each node by itself)")
	return cmd
}

// preview makes links to a release that some node holds.
func (s *session) preview(ctx context.Context, rel, base string, until time.Time) (*previewReport, error) {
	v, err := s.client.Observe(ctx, s.site)
	if err != nil {
		return nil, err
	}
	id, err := s.resolve(ctx, v, rel)
	if err != nil {
		return nil, err
	}
	secret, err := s.client.Secret(ctx, s.site)
	if err != nil {
		return nil, err
	}
	until = until.UTC().Truncate(time.Second)
	r := &previewReport{Site: s.site, Release: id, Until: until, Pin: nodeagent.PreviewToken(s.site, secret, id, until)}
	nodes := holders(v, id)
	if len(nodes) == 0 {
		f := &failure{code: exitNotReady, class: cluster.ClassNotReady, text: fmt.Sprintf("no node holds release %s of %s", id, s.site)}
		return nil, f.withHint("`relman flip %s --no-flip -s %s` has every node fetch it", id, s.site)
	}
	if base != "" {
		r.Links = []previewLink{{URL: r.link(base, false)}}
		return r, nil
	}
	sites, err := s.client.Sites(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if live, ok := v.Live[n]; ok {
			r.Links = append(r.Links, previewLink{Node: n, URL: r.link(live.Addr, sites[0] != s.site)})
		}
	}
	if len(r.Links) == 0 {
		return nil, &failure{code: exitNotReady, class: classError, text: fmt.Sprintf("no node that holds release %s of %s is alive", id, s.site)}
	}
	return r, nil
}

// link is where a preview begins. Nodes answer for their first site by whatever
// name; on this machine others have names of their own.
func (r *previewReport) link(base string, named bool) string {
	u, err := url.Parse(base)
	if err != nil {
		return base // what a node says of itself; it does not lead anywhere
	}
	if named && isLoopback(u.Host) {
		u.Host = string(r.Site) + ".localhost:" + u.Port()
	}
	if u.Path == "" || strings.HasSuffix(u.Path, "/") {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	}
	q := u.Query()
	q.Set("relman-preview", r.Pin)
	u.RawQuery = q.Encode()
	return u.String()
}

// holders are the nodes that claim to hold a release.
func holders(v *cluster.View, id release.ID) []release.NodeID {
	var nodes []release.NodeID
	for _, c := range v.Claims {
		if c.Release == id && !slices.Contains(nodes, c.Node) {
			nodes = append(nodes, c.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}
