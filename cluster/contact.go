package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"relman/release"
)

// Boottime is a clock that no one sets and that runs on while the machine is
// suspended, as Go's own does not: a node that slept has to know that it did.
func Boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("cluster: CLOCK_BOOTTIME: %v", err)) // Linux has had it since 2.6.39
	}
	return time.Duration(t.Nano())
}

// contactEvery is how often a node asks etcd whether what it watches is still
// so. That is rule N7, and tells it that it is not cut off.
const contactEvery = 2500 * time.Millisecond

// sightings are what a node notes of its reads.
type sightings struct {
	missed  atomic.Uint64 // changes that a read found and the watch had not delivered
	every   atomic.Int64  // how often it asks, when that is less than contactEvery; 0: no
	contact atomic.Int64  // Boottime at which the last read began that was answered; 0: none was
}

// seen notes that a linearizable read which began at a time was answered: the
// node knew then what was active.
func (s *sightings) seen(began time.Duration) {
	for {
		old := s.contact.Load()
		if int64(began) <= old || s.contact.CompareAndSwap(old, int64(began)) {
			return
		}
	}
}

// pause is how long a node waits before it asks again.
func (s *sightings) pause(reread time.Duration) time.Duration {
	d := min(reread, contactEvery)
	if every := time.Duration(s.every.Load()); every > 0 {
		d = min(d, every)
	}
	return jittered(d)
}

// Vouch has the node ask etcd so often that it knows within a part of fence that
// it is cut off, and tell the leader how long that takes. It is called before
// Follow and Run.
func (n *Node) Vouch(fence time.Duration) {
	n.fence = fence
	n.seen.every.Store(int64(fence / 4))
}

// Contact is when, by Boottime, the last question began that etcd answered, 0
// for never. It is counted from when it was asked: by the time of the answer,
// something else may be active.
func (n *Node) Contact() time.Duration { return time.Duration(n.seen.contact.Load()) }

// Peer is another node.
type Peer struct {
	Node  release.NodeID
	Admin string // URL at which it answers for itself
}

// Peers lists some other nodes that live: all of a small cluster, of a large one
// those that follow a random name.
func (n *Node) Peers(ctx context.Context, most int) ([]Peer, error) {
	// Of each node some keys stand below the prefix, one of them is wanted.
	limit := clientv3.WithLimit(int64(6 * (most + 1)))
	from := nodesPrefix + string("0123456789abcdefghijklmnopqrstuvwxyz"[rand.IntN(36)])
	end := clientv3.GetPrefixRangeEnd(nodesPrefix)
	r, err := n.c.read(ctx, "look for other nodes",
		clientv3.OpGet(from, clientv3.WithRange(end), limit), clientv3.OpGet(nodesPrefix, clientv3.WithRange(end), limit))
	if err != nil {
		return nil, err
	}
	var peers []Peer
	seen := map[string]bool{string(n.self.Node): true}
	for i := range 2 {
		for _, kv := range ranged(r, i) {
			name, ok := strings.CutSuffix(strings.TrimPrefix(string(kv.Key), nodesPrefix), "/live")
			if !ok || seen[name] || len(peers) == most {
				continue
			}
			seen[name] = true
			var live Live
			if err := decode(string(kv.Key), kv.Value, &live); err != nil {
				return nil, err
			}
			peers = append(peers, Peer{release.NodeID(name), live.Admin})
		}
	}
	return peers, nil
}
