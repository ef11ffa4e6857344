package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"relman/cluster"
	"relman/release"
)

const (
	askNodeWithin = 5 * time.Second
	// mostSkew is how far a clock may be off. A Date header has whole seconds.
	mostSkew = 2 * time.Second
)

// nodeCheckup is what one node answered.
type nodeCheckup struct {
	node release.NodeID
	live cluster.Live
	err  error // it did not
	why  string
	// ready: it may take traffic. why: why not.
	ready bool
	ahead time.Duration // its clock, of this one
	dated bool          // ahead is known
}

// askNodes asks all nodes that live whether they are ready, and what time it is.
func (c *checkup) askNodes(ctx context.Context) {
	live := map[release.NodeID]cluster.Live{}
	for _, s := range c.sites {
		if s.view != nil {
			for n, l := range s.view.Live {
				live[n] = l
			}
		}
	}
	var mu sync.Mutex // guards c.nodes
	var wg sync.WaitGroup
	for n, l := range live {
		wg.Go(func() {
			got := askReady(ctx, l.Admin)
			got.node, got.live = n, l
			mu.Lock()
			defer mu.Unlock()
			c.nodes = append(c.nodes, got)
		})
	}
	wg.Wait()
	slices.SortFunc(c.nodes, func(a, b nodeCheckup) int { return cmp.Compare(a.node, b.node) })
}

// askReady asks a node at its admin listener.
func askReady(ctx context.Context, admin string) (n nodeCheckup) {
	if admin == "" {
		n.err = fmt.Errorf("it does not say where its admin listener is")
		return n
	}
	ctx, cancel := context.WithTimeout(ctx, askNodeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(admin, "/")+"/readyz", nil)
	if err != nil {
		n.err = err
		return n
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	sent := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		n.err = err
		return n
	}
	defer resp.Body.Close()
	n.ahead, n.dated = aheadOf(resp.Header.Get("Date"), sent, time.Now())
	why, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // only says more
	n.ready, n.why = resp.StatusCode == http.StatusOK, strings.TrimSpace(string(why))
	return n
}

// aheadOf is how far a clock is ahead that has dated an answer between two times
// of this one. What the header leaves out, and the way, is no difference.
func aheadOf(date string, sent, got time.Time) (ahead time.Duration, ok bool) {
	at, err := http.ParseTime(date)
	if err != nil {
		return 0, false
	}
	switch earliest, latest := at, at.Add(time.Second); {
	case earliest.After(got):
		return earliest.Sub(got), true
	case latest.Before(sent):
		return latest.Sub(sent), true
	}
	return 0, true
}

// diagnoseNodes says what the nodes answered.
func diagnoseNodes(c *checkup) (all []finding) {
	all = append(all, diagnoseWrongClocks(c)...)
	all = append(all, diagnoseClocks(c.comparable())...)
	all = append(all, diagnoseAddresses(c.nodes)...)
	var versions []string
	ready := 0
	settled := c.settled()
	for _, n := range c.nodes {
		if !slices.Contains(versions, n.live.Version) {
			versions = append(versions, n.live.Version)
		}
		switch {
		case n.err != nil:
			all = append(all, warn(string(n.node), "it cannot be asked from here: %v", n.err).
				todo("run this where its admin listener can be reached, or give the agent another --advertise-admin"))
		case !n.ready:
			f := warn(string(n.node), "it is not ready to take traffic: %s", n.why).todo("`relman status --why` and its log say more")
			if settled[n.node] {
				f.Level = levelBad
			}
			all = append(all, f)
		default:
			ready++
		}
	}
	if len(versions) > 1 {
		slices.Sort(versions)
		all = append(all, warn("nodes", "agents of different versions: %s", strings.Join(versions, ", ")).todo("finish the upgrade"))
	}
	if ready > 0 {
		all = append(all, fine("nodes", "%d of %d that live are ready", ready, len(c.nodes)))
	}
	return all
}

// settled are the nodes that should be ready: they have entered, and had the time
// to show what is active.
func (c *checkup) settled() map[release.NodeID]bool {
	all := map[release.NodeID]bool{}
	for _, s := range c.sites {
		if s.view == nil || c.now.Sub(s.view.Active.Value.Since()) < showWithin {
			continue
		}
		for _, n := range s.view.EnteredNodes() {
			all[n] = true
		}
	}
	return all
}

// diagnoseClocks compares the nodes' clocks with each other, by the middle one of
// them, and that with this machine's.
func diagnoseClocks(nodes []nodeCheckup) (all []finding) {
	var ahead []time.Duration
	for _, n := range nodes {
		if n.dated {
			ahead = append(ahead, n.ahead)
		}
	}
	if len(ahead) == 0 {
		return nil
	}
	slices.Sort(ahead)
	middle := ahead[(len(ahead)-1)/2]
	const do = "set it by NTP: scheduled flips, the times in the history and the age of cookies go by it"
	if len(ahead) > 1 && middle.Abs() > mostSkew {
		all = append(all, warn("clock", "this machine's differs from the nodes' by %s", tookText(middle.Abs())).todo("%s", do))
	} else {
		middle = 0
	}
	for _, n := range nodes {
		off := n.ahead - middle
		if !n.dated || off.Abs() <= mostSkew {
			continue
		}
		way := "ahead"
		if off < 0 {
			way = "behind"
		}
		all = append(all, warn(string(n.node), "its clock is %s %s", tookText(off.Abs()), way).todo("%s", do))
	}
	return all
}

// diagnoseAddresses: two nodes cannot be at one address.
func diagnoseAddresses(nodes []nodeCheckup) (all []finding) {
	at := map[string][]release.NodeID{}
	for _, n := range nodes {
		for _, addr := range slices.Compact([]string{n.live.Addr, n.live.Admin}) {
			if addr != "" {
				at[addr] = append(at[addr], n.node)
			}
		}
	}
	for addr, who := range at {
		if len(who) > 1 {
			all = append(all, warn("nodes", "%s say that they are at %s", listed(who), addr).
				todo("give each its own --advertise and --advertise-admin; what is asked of one goes to another"))
		}
	}
	slices.SortFunc(all, func(a, b finding) int { return strings.Compare(a.Text, b.Text) })
	return all
}
