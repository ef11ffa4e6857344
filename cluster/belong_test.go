package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/release"
)

// TestNode_otherCluster: a node registers in its own cluster only, and in no other
// one that has taken its place.
func TestNode_otherCluster(t *testing.T) {
	t.Parallel()
	c := dialAt(t, clustertest.Own(t).ClientURL(), nil)
	w := newWorld(t, c)
	ours, err := c.Init(t.Context(), Info{Store: "s3://a"})
	if err != nil {
		t.Fatal(err)
	}
	n := w.newNode("n9", "01BOOT")
	n.Belong("01ELSEWHERE")
	s, err := c.session(t.Context(), nodeTTL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.end(context.WithoutCancel(t.Context())) }()
	if _, err := n.register(t.Context(), s); !errors.Is(err, errOtherCluster) || !strings.Contains(err.Error(), "n9 belongs to cluster 01ELSEWHERE") || !strings.Contains(err.Error(), ours.ID) {
		t.Errorf("error %v", err)
	}
	w.runs(n.Run)
	followed := make(chan []release.Site, 10)
	w.runs(func(ctx context.Context) error {
		return n.FollowSites(ctx, func(sites []release.Site) { followed <- sites })
	})
	views := make(chan NodeView, 10)
	w.runs(func(ctx context.Context) error {
		return n.Follow(ctx, w.site, func(v NodeView) { views <- v })
	})
	if v := await(t, "a view", views); v.Cluster != ours.ID {
		t.Errorf("the view names cluster %q", v.Cluster)
	}
	select {
	case sites := <-followed:
		t.Errorf("it follows %v", sites)
	case <-time.After(300 * time.Millisecond):
	}
	if v := w.view(); n.Alive() || len(v.Joins) != 2 {
		t.Errorf("alive: %v, joins %v", n.Alive(), v.Joins)
	}

	// One that registered here stays here.
	m := w.newNode("n8", "01BOOT")
	stop := w.runs(m.Run)
	w.until("live", LiveKey("n8"), there)
	stop()
	w.put(InfoKey, encode(Info{ID: "01NEW"}))
	if _, err := m.register(t.Context(), s); !errors.Is(err, errOtherCluster) {
		t.Errorf("error %v", err)
	}
	w.put(InfoKey, encode(Info{ID: ours.ID}))
	if _, err := m.register(t.Context(), s); err != nil {
		t.Error(err)
	}
}
