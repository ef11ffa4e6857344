package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Skew is how far apart nodes swapped to an epoch, by their own clocks: it is as
// good as these agree.
type Skew struct {
	MS    float64          `json:"ms"`            // between the first and the last
	Nodes int              `json:"nodes"`         // that were compared
	Off   []release.NodeID `json:"off,omitempty"` // left out, their clocks are wrong; at most 20
}

// mostOff bounds Skew.Off.
const mostOff = 20

// Skew compares when the nodes that have entered swapped to the active epoch, as far
// as they have said. It is false when fewer than two can be compared.
func (v *View) Skew() (Skew, bool) {
	var s Skew
	var times []time.Time
	a := v.Active.Value
	for _, n := range v.EnteredNodes() {
		st := v.Status[n]
		if _, live := v.Live[n]; !live || st.Epoch != a.Epoch || st.Swapped.IsZero() {
			continue
		}
		// Nobody swaps before the flip: such a clock is behind, whether its node
		// knows it or not.
		if st.ClockErrorMS != 0 || st.Swapped.Before(a.At.Add(-MaxClockError)) {
			s.Off = append(s.Off, n)
			continue
		}
		times = append(times, st.Swapped)
	}
	s.Off = s.Off[:min(len(s.Off), mostOff)]
	s.Nodes = len(times)
	if len(times) < 2 {
		return s, false
	}
	first, last := slices.MinFunc(times, time.Time.Compare), slices.MaxFunc(times, time.Time.Compare)
	s.MS = float64(last.Sub(first).Microseconds()) / 1000
	return s, true
}

// WrongClocks are the nodes of a view that say that their clocks are wrong, sorted.
func (v *View) WrongClocks() (nodes []release.NodeID) {
	for n, st := range v.Status {
		if _, live := v.Live[n]; live && st.ClockErrorMS != 0 {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// NoteSkew writes down how far apart the nodes swapped to the active epoch, beside
// its history, once.
func NoteSkew(f Fence, v *View, s Skew) Txn {
	e := v.Active.Value.Epoch
	return Txn{
		Name:   fmt.Sprintf("note the skew of epoch %d of %s", e, v.Site),
		Guards: []Guard{f.guard(), absent(SkewKey(v.Site, e), ClassExists)},
		Ops:    []Op{put(SkewKey(v.Site, e), s)},
	}.markLast()
}

// Skews are those of the newest epochs that have one, at most limit.
func (c *Client) Skews(ctx context.Context, site release.Site, limit int) (map[release.Epoch]Skew, error) {
	what := "read the skews of " + string(site)
	prefix := SkewPrefix(site)
	r, err := c.read(ctx, what, clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)))
	if err != nil {
		return nil, err
	}
	all := map[release.Epoch]Skew{}
	for _, kv := range ranged(r, 0) {
		var s Skew
		epoch, err := strconv.ParseUint(string(kv.Key[len(prefix):]), 10, 64)
		if err == nil {
			err = decode(string(kv.Key), kv.Value, &s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all[release.Epoch(epoch)] = s
	}
	return all, nil
}
