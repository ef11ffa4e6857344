package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
	live   kv            // the node's own live key, which is read with all else
	missed atomic.Uint64 // changes that a read found and the watch had not delivered
	every  atomic.Int64  // how often it asks, when that is less than contactEvery; 0: no

	mu      sync.Mutex // guards follows, and what they note
	follows []*sighting
}

// kv is a key and what it holds.
type kv struct{ key, value string }

// sighting is what one notes that follows some keys: by Boottime when the last
// question began whose answer it has acted on, 0 for never.
type sighting struct {
	again chan struct{} // holds one when it should ask at once

	contact, lived time.Duration // lived: the last one whose answer had the node's own session in it
}

func (s *sightings) begin() *sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &sighting{again: make(chan struct{}, 1)}
	s.follows = append(s.follows, f)
	return f
}

func (s *sightings) note(f *sighting, contact, lived time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.contact, f.lived = contact, lived
}

func (s *sightings) end(f *sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follows = slices.DeleteFunc(s.follows, func(o *sighting) bool { return o == f })
}

// askAgain has all that follow something ask at once.
func (s *sightings) askAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.follows {
		select {
		case f.again <- struct{}{}:
		default:
		}
	}
}

// oldest is the oldest of what they have noted; still says that the last answer of
// each had the session in it. One that nobody has answered yet does not count:
// nothing goes by it.
func (s *sightings) oldest() (contact, lived time.Duration, still bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.follows {
		switch {
		case f.contact == 0:
		case contact == 0:
			contact, lived, still = f.contact, f.lived, f.lived == f.contact
		default:
			contact, lived, still = min(contact, f.contact), min(lived, f.lived), still && f.lived == f.contact
		}
	}
	return contact, lived, still
}

// finds reports whether an answer has the node's own session in it, which was asked
// for behind some keys.
func (s *sightings) finds(r *clientv3.TxnResponse, keys int) bool {
	live := only(ranged(r, keys))
	return live != nil && string(live.Value) == s.live.value
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
// something else may be active. A node that follows several sites asks for each,
// and what counts is the one whose answer is the oldest: of all sites it knew what
// was active, and what each of Follow did with that was done.
func (n *Node) Contact() time.Duration {
	contact, _, _ := n.seen.oldest()
	return contact
}

// Lived is Contact, of the questions whose answers had the node's own session in
// them: nobody's wait for a silent node had begun by then, so what they said about a
// site holds for one fence more. That a node believes in its session is no evidence:
// the session can end long before the node finds out, and while its lease should
// still have run. still says that no later answer lacked it.
func (n *Node) Lived() (since time.Duration, still bool) {
	_, since, still = n.seen.oldest()
	return since, still
}

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
