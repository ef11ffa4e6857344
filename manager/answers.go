package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"relman/cluster"
	"relman/release"
)

func (a *api) healthz(*http.Request) (any, error) {
	return map[string]any{"status": "ok", "leading": a.manager.Leading()}, nil
}

func (a *api) readyz(r *http.Request) (any, error) {
	if _, err := a.reader.Sites(r.Context()); err != nil {
		return nil, err
	}
	return map[string]any{"status": "ready", "leading": a.manager.Leading()}, nil
}

// observe reads the site that the path names.
func (a *api) observe(r *http.Request) (*cluster.View, error) {
	site, err := release.ParseSite(r.PathValue("site"))
	if err != nil {
		return nil, err
	}
	return a.reader.Observe(r.Context(), site)
}

// ofSite answers with what show makes of the site that the path names.
func ofSite[T any](a *api, show func(*cluster.View) T) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		v, err := a.observe(r)
		if err != nil {
			return nil, err
		}
		return show(v), nil
	}
}

func (a *api) history(r *http.Request) (any, error) {
	site, err := release.ParseSite(r.PathValue("site"))
	if err != nil {
		return nil, err
	}
	limit := defaultHistory
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > keepHistory {
			return nil, fmt.Errorf("%w limit %q: 1 to %d are allowed", release.ErrInvalid, s, keepHistory)
		}
		limit = n
	}
	list, err := a.reader.History(r.Context(), site, limit)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 { // of a site without a flip, or of no site
		if _, err := a.observe(r); err != nil {
			return nil, err
		}
		list = []cluster.Active{}
	}
	return list, nil
}

// views observes every site. A site that went away meanwhile is left out.
func (a *api) views(ctx context.Context) ([]*cluster.View, error) {
	sites, err := a.reader.Sites(ctx)
	if err != nil {
		return nil, err
	}
	var all []*cluster.View
	for _, s := range sites {
		v, err := a.reader.Observe(ctx, s)
		if errors.Is(err, cluster.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (a *api) sites(r *http.Request) (any, error) {
	views, err := a.views(r.Context())
	if err != nil {
		return nil, err
	}
	list := []SiteSummary{}
	for _, v := range views {
		list = append(list, summary(v))
	}
	return list, nil
}

// allNodes puts together what the sites know of nodes.
func (a *api) allNodes(ctx context.Context) (map[release.NodeID]Node, error) {
	views, err := a.views(ctx)
	if err != nil {
		return nil, err
	}
	nodes := map[release.NodeID]Node{}
	for _, v := range views {
		held := claimsByNode(v)
		for _, n := range nodesOf(v) {
			node, known := nodes[n]
			if !known {
				node = Node{Node: n, Sites: map[release.Site]SiteNode{}}
			}
			s := siteNode(v, n, held[n])
			node.Sites[v.Site] = s
			node.Group = cmp.Or(node.Group, s.Group)
			if l, live := v.Live[n]; live {
				node.Live, node.Addr, node.Version, node.Boot = true, l.Addr, l.Version, l.Boot
			}
			nodes[n] = node
		}
	}
	return nodes, nil
}

func (a *api) nodes(r *http.Request) (any, error) {
	nodes, err := a.allNodes(r.Context())
	if err != nil {
		return nil, err
	}
	list := []Node{}
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		list = append(list, nodes[n])
	}
	return list, nil
}

func (a *api) node(r *http.Request) (any, error) {
	id, err := release.ParseNodeID(r.PathValue("node"))
	if err != nil {
		return nil, err
	}
	nodes, err := a.allNodes(r.Context())
	if err != nil {
		return nil, err
	}
	n, ok := nodes[id]
	if !ok {
		return nil, fmt.Errorf("node %s: %w", id, cluster.ErrNotFound)
	}
	return n, nil
}
