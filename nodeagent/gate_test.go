package nodeagent

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"relman/cluster"
)

// peer is another node's answer of how long etcd has been silent to it.
func peer(t *testing.T, silence time.Duration) cluster.Peer {
	t.Helper()
	g := &gate{reg: &fakeEtcd{down: true, contact: cluster.Boottime() - silence}}
	mux := httptest.NewServer((&Agent{gate: g}).AdminHandler())
	t.Cleanup(mux.Close)
	return cluster.Peer{Node: "peer", Admin: mux.URL}
}

func TestGate(t *testing.T) {
	gone := cluster.Peer{Node: "gone", Admin: "http://127.0.0.1:1"}
	const fence = 10 * time.Second
	for _, c := range []struct {
		about   string
		policy  OnPartition
		silence time.Duration
		peers   func(t *testing.T) []cluster.Peer
		ready   bool
		state   string
		code    int
	}{
		{"in contact", Drain, time.Second, nil, true, "", 200},
		{"silent for less than the fence, without a session", Drain, 9 * time.Second, nil, false, "", 200},
		{"cut off: a peer hears of etcd", Drain, 11 * time.Second, func(t *testing.T) []cluster.Peer {
			return []cluster.Peer{peer(t, 11*time.Second), peer(t, time.Second)}
		}, false, "fenced", 200},
		{"etcd is away for everybody", Drain, 11 * time.Second, func(t *testing.T) []cluster.Peer {
			return []cluster.Peer{peer(t, 9*time.Second), peer(t, 12*time.Second)}
		}, true, "fenced", 200},
		{"etcd is away, and a peer is down", Drain, 11 * time.Second, func(t *testing.T) []cluster.Peer {
			return []cluster.Peer{gone, peer(t, 12*time.Second)}
		}, true, "fenced", 200},
		{"cut off from everybody", Drain, 11 * time.Second, func(*testing.T) []cluster.Peer { return []cluster.Peer{gone, gone} }, false, "fenced", 200},
		{"cut off with one of three peers", Drain, 11 * time.Second, func(t *testing.T) []cluster.Peer {
			return []cluster.Peer{gone, gone, peer(t, 12*time.Second)}
		}, false, "fenced", 200},
		{"etcd is away, and one of three peers is down", Drain, 11 * time.Second, func(t *testing.T) []cluster.Peer {
			return []cluster.Peer{gone, peer(t, 9*time.Second), peer(t, 12*time.Second)}
		}, true, "fenced", 200},
		{"alone", Drain, 11 * time.Second, nil, true, "fenced", 200},
		{"stop: etcd is away for everybody", Stop, 11 * time.Second, func(t *testing.T) []cluster.Peer { return []cluster.Peer{peer(t, 12*time.Second)} }, false, "", 503},
		{"stop: in contact", Stop, time.Second, nil, true, "", 200},
		{"serve: cut off", Serve, 11 * time.Second, func(t *testing.T) []cluster.Peer { return []cluster.Peer{peer(t, time.Second)} }, true, "fenced", 200},
	} {
		t.Run(c.about, func(t *testing.T) {
			s, f, _ := testServer(t)
			reg := &fakeEtcd{down: true, contact: cluster.Boottime() - c.silence}
			g := newGate(&Config{Fence: fence, OnPartition: c.policy}, reg)
			f.gate = g
			if c.peers != nil {
				g.peers = c.peers(t)
			}
			if c.silence > fence/2 {
				g.away.Store(g.nobodyHears(t.Context()))
			} else {
				reg.down = false // the session lives
			}
			why := g.ready()
			if (why == "") != c.ready {
				t.Errorf("ready: %q", why)
			}
			r := ask(s, "GET", "/")
			if r.Code != c.code || r.Header().Get("Relman-State") != c.state {
				t.Errorf("%d, state %q", r.Code, r.Header().Get("Relman-State"))
			}
		})
	}
}

// TestGate_watch: a node that etcd does not answer asks its peers, and is ready
// again as soon as etcd is back.
func TestGate_watch(t *testing.T) {
	reg := newFakeEtcd()
	reg.peers = []cluster.Peer{peer(t, 0)}
	g := newGate(&Config{Fence: 40 * time.Millisecond, OnPartition: Drain}, reg)
	ended := make(chan struct{})
	go func() { defer close(ended); g.watch(t.Context()) }()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not %s: %q", what, g.ready())
			}
		}
	}
	eventually("ready", func() bool { return g.ready() == "" })
	reg.mu.Lock()
	reg.down = true
	reg.mu.Unlock()
	eventually("fenced", func() bool { return g.fenced() })
	// The peer's own silence grows: first it has heard of etcd, then not.
	eventually("away", func() bool { return g.away.Load() && g.ready() == "" })
	reg.mu.Lock()
	reg.down = false
	reg.mu.Unlock()
	eventually("back", func() bool { return !g.fenced() && g.ready() == "" && !g.away.Load() })
}

// TestNode_onStart: a node that starts without etcd shows what it showed last, or
// nothing where that is what it is told; in both cases it is not ready.
func TestNode_onStart(t *testing.T) {
	t.Parallel()
	for policy, code := range map[OnStart]int{ServeLast: 200, Wait: 503} {
		n := newNode(t)
		n.onStart = policy
		n.start()
		r := n.rollOut(firstBuild())
		n.halt()
		n.etcd.change(func(int64) { n.etcd.down = true })
		n.start()
		n.until("opened", func() error {
			n.agent.mu.Lock()
			defer n.agent.mu.Unlock()
			if ask(n.agent.Handler(), "GET", "/always").Code != code || len(n.agent.sites) == 0 || !n.agent.sites[0].holds(r.Manifest.ID()) {
				return errNotYet
			}
			return nil
		})
		if ok, _ := n.agent.Ready(); ok {
			t.Errorf("%s: ready without etcd", policy)
		}
		n.etcd.change(func(int64) { n.etcd.down = false })
		n.serves(r)
	}
}

var errNotYet = errors.New("not yet")

// TestGate_session: the node may have been put out for silence a fence after its
// session was seen last, however well etcd answers now.
func TestGate_session(t *testing.T) {
	const fence = 10 * time.Second
	reg := newFakeEtcd()
	reg.orphan = true
	g := newGate(&Config{Fence: fence, OnPartition: Drain}, reg)
	for _, c := range []struct {
		about string
		ago   time.Duration
		ready bool
	}{{"lately", 9 * time.Second, true}, {"too long ago", 11 * time.Second, false}} {
		reg.lived = cluster.Boottime() - c.ago
		if why := g.ready(); (why == "") != c.ready {
			t.Errorf("%s: %q", c.about, why)
		}
	}
	reg.lived = 0
	if why := g.ready(); !strings.HasPrefix(why, "no session in etcd") {
		t.Errorf("never: %q", why)
	}
	g.good.Store(int64(cluster.Boottime() - 9*time.Second)) // etcd was away for everybody
	if why := g.ready(); why != "" {
		t.Errorf("back from where no one heard it: %q", why)
	}
}

// TestGate_awayWithoutSession: a node that had no session any more when etcd went may
// be put out as soon as etcd is back; the others go on.
func TestGate_awayWithoutSession(t *testing.T) {
	for _, orphan := range []bool{false, true} {
		reg := &fakeEtcd{down: true, orphan: orphan, contact: cluster.Boottime() - 11*time.Second}
		g := newGate(&Config{Fence: 10 * time.Second, OnPartition: Drain}, reg)
		g.look(t.Context()) // nobody else hears of etcd
		g.look(t.Context())
		reg.down, reg.orphan = false, true // it is back
		if why := g.ready(); (why == "") == orphan {
			t.Errorf("without a session %t: ready: %q", orphan, why)
		}
	}
}
