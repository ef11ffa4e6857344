package nodeagent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"relman/cluster"
)

// OnPartition says what a node does that etcd has not answered for the time of
// its fence: it may be the only one that has not heard of a flip.
type OnPartition string

// The policies of a node that is cut off.
const (
	// Drain says at /readyz that the node is not ready, so that the balancer takes
	// it out, and answers whoever comes all the same. When etcd is away for every
	// node that it can ask, nobody can flip, and it stays ready.
	Drain OnPartition = "drain"
	// Stop answers 503 to everything: rather dark than behind.
	Stop OnPartition = "stop"
	// Serve changes nothing but a header.
	Serve OnPartition = "serve"
)

// OnStart says what a node shows before it has heard of etcd.
type OnStart string

// The policies of a node that starts.
const (
	ServeLast OnStart = "serve-last" // what it showed last; it is not ready
	Wait      OnStart = "wait"       // nothing
)

// DefaultFence is how long a node vouches for itself without an answer of etcd.
const DefaultFence = 10 * time.Second

const (
	mostPeers   = 16
	peersEvery  = 30 * time.Second // how often a node learns who its peers are
	askEvery    = 500 * time.Millisecond
	peerTimeout = time.Second
)

// gate decides whether the node may take traffic when etcd does not answer.
type gate struct {
	reg    Registry
	policy OnPartition
	fence  time.Duration

	away atomic.Bool  // etcd is, for every peer that could be asked
	good atomic.Int64 // cluster.Boottime at which it was, and this node had a session when it went

	peers   []cluster.Peer // owned by watch, as is learned
	learned time.Time
	client  *http.Client
}

func newGate(cfg *Config, reg Registry) *gate {
	return &gate{reg: reg, policy: cfg.OnPartition, fence: cfg.Fence, client: &http.Client{Timeout: peerTimeout}}
}

// silence is how long etcd has not answered; false before it ever did.
func (g *gate) silence() (time.Duration, bool) {
	c := g.reg.Contact()
	return cluster.Boottime() - c, c != 0
}

// fenced reports whether the node may be behind without knowing.
func (g *gate) fenced() bool {
	silence, ever := g.silence()
	return ever && silence > g.fence
}

// ready says why the node may not take traffic, "" when it may.
func (g *gate) ready() string {
	if !g.fenced() {
		// A leader waits for longer than a fence after the end of a session before it
		// puts the node out. When etcd comes back after it was away, every node has
		// lost its session and makes a new one, and every leader's wait begins: all of
		// them at once are not taken out for that.
		since, _ := g.reg.Lived()
		if g.lately(since) || g.lately(time.Duration(g.good.Load())) {
			return ""
		}
		return "no session in etcd" + g.unregistered()
	}
	if g.policy == Serve || g.policy == Drain && g.away.Load() {
		return ""
	}
	silence, _ := g.silence()
	return fmt.Sprintf("etcd has not answered for %s: other nodes may show another release", silence.Round(time.Second))
}

// lately reports whether a time is not longer ago than the fence; 0 is never.
func (g *gate) lately(t time.Duration) bool { return t != 0 && cluster.Boottime()-t <= g.fence }

// unregistered says more about why there is no session, if anything is known.
func (g *gate) unregistered() string {
	if reg, tells := g.reg.(interface{ Unregistered() error }); tells {
		if err := reg.Unregistered(); err != nil {
			return ": " + err.Error()
		}
	}
	return ""
}

// watch learns who the peers are while etcd answers, and asks them when it does
// not.
func (g *gate) watch(ctx context.Context) {
	for ctx.Err() == nil {
		g.look(ctx)
		sleep(ctx, askEvery)
	}
}

func (g *gate) look(ctx context.Context) {
	if _, still := g.reg.Lived(); still && g.fenced() && g.away.Load() {
		g.good.Store(int64(cluster.Boottime()))
	}
	silence, ever := g.silence()
	switch {
	case !ever:
	case silence <= g.fence/2:
		g.away.Store(false)
		if time.Since(g.learned) > peersEvery {
			if peers, err := g.reg.Peers(ctx, mostPeers); err == nil {
				g.peers, g.learned = peers, time.Now()
			}
		}
	default:
		g.away.Store(g.nobodyHears(ctx))
	}
}

// nobodyHears reports whether etcd is away, and not this node cut off: none of the
// peers that could be asked has heard of etcd lately either, and with this node they
// are more than half of all. A node that cannot reach anybody is cut off, and so are a
// few that reach only each other: the others may put them out, and flip. One that
// has no peers cannot be behind them.
func (g *gate) nobodyHears(ctx context.Context) bool {
	var wg sync.WaitGroup
	var answered, hears atomic.Int32
	for _, p := range g.peers {
		wg.Go(func() {
			silence, err := g.ask(ctx, p)
			if err != nil {
				return
			}
			answered.Add(1)
			if silence >= 0 && silence <= g.fence/2 {
				hears.Add(1)
			}
		})
	}
	wg.Wait()
	silent := int(answered.Load()) + 1
	return hears.Load() == 0 && 2*silent > len(g.peers)+1
}

// contactAnswer is GET /v1/contact: for how long etcd has not answered this node,
// negative before it ever did.
type contactAnswer struct {
	SilentMS int64 `json:"silent_ms"`
}

// ask asks a peer for how long it has not heard of etcd.
func (g *gate) ask(ctx context.Context, p cluster.Peer) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+"/v1/contact", nil)
	if err != nil {
		return 0, err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", p.Node, resp.Status)
	}
	var a contactAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<10)).Decode(&a); err != nil {
		return 0, err
	}
	return time.Duration(a.SilentMS) * time.Millisecond, nil
}

func (g *gate) answerContact(w http.ResponseWriter, _ *http.Request) {
	a := contactAnswer{SilentMS: -1}
	if silence, ever := g.silence(); ever {
		a.SilentMS = silence.Milliseconds()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // fails when the client is gone
}
