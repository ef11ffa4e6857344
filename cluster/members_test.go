package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/cluster/embedded"
)

// three starts a cluster of three members.
func three(t *testing.T) (members []*embedded.Member, endpoints []string) {
	t.Helper()
	var peers, cluster []string
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, "http://"+l.Addr().String())
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
		_ = l.Close()
	}
	members = make([]*embedded.Member, 3)
	endpoints = make([]string, 3)
	var wg sync.WaitGroup
	for i := range 3 {
		dir := t.TempDir()
		wg.Go(func() {
			m, err := embedded.Start(t.Context(), embedded.Config{
				Dir: dir, Name: fmt.Sprintf("m%d", i), ClientURL: "http://127.0.0.1:0", PeerURL: peers[i],
				InitialCluster: strings.Join(cluster, ","), Fast: true,
			})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = m.Close() })
			members[i], endpoints[i] = m, m.ClientURL()
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return members, endpoints
}

// TestMembers_oneDies: of three etcd members the one that leads dies while
// flips are made and followed. Every flip commits exactly once, a node is told
// of the last, and leadership survives.
func TestMembers_oneDies(t *testing.T) {
	t.Parallel()
	members, endpoints := three(t)
	c := dialAt(t, endpoints[0], func(c *Config) { c.Endpoints, c.Timeout = endpoints, 2*time.Second })
	w := newWorld(t, c)
	w.del(w.fence.Key) // one that is really won
	l, err := c.Campaign(within(t, 30*time.Second), "m", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Resign(context.WithoutCancel(t.Context())) }()
	w.fence = l.Fence()
	got, n := w.followed(dialAt(t, endpoints[0], func(c *Config) { c.Endpoints, c.Timeout = endpoints, 2*time.Second }))
	got.wait("epoch 7", epochIs(7))

	s, err := c.kv.Status(t.Context(), endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	victim := 0
	for i, e := range endpoints {
		if st, err := c.kv.Status(t.Context(), e); err == nil && st.Header.MemberId == s.Leader {
			victim = i
		}
	}
	const flips = 60
	for i := range flips {
		if i == flips/3 {
			go func() { _ = members[victim].Close() }()
		}
		clustertest.Until(t, 20*time.Second, func() error {
			// As if the request had been made anew.
			if _, err := c.kv.Delete(within(t, 10*time.Second), ResultKey(w.site, "01REQ2")); err != nil {
				return err
			}
			v, err := c.Observe(within(t, 10*time.Second), w.site)
			if errors.Is(err, ErrUnavailable) {
				return err
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Commit(within(t, 20*time.Second), Flip(w.fence, v, w.next(v)))
			return err
		})
	}
	v, err := c.Observe(within(t, 10*time.Second), w.site)
	if err != nil || v.Active.Value.Epoch != 7+flips {
		t.Fatalf("epoch %d after %d flips, error %v", v.Active.Value.Epoch, flips, err)
	}
	got.wait("the last flip", epochIs(7+flips))
	if n.MissedEvents() != 0 {
		t.Errorf("missed %d events", n.MissedEvents())
	}
	select {
	case <-l.Done():
		t.Error("leadership was lost with a member of etcd")
	default:
	}
}
