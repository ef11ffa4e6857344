package nodeagent

import (
	"context"
	"time"

	"relman/cluster"
	"relman/release"
)

// Registry is what an agent needs of the cluster. Nothing in it can change
// what is active. Errors say what was asked for and unwrap to the sentinels of
// package cluster; a call whose context ended may have had its effect.
type Registry interface {
	// FollowSites calls each with the sites of the cluster, in their order,
	// now and after every change, until ctx ends.
	FollowSites(ctx context.Context, each func([]release.Site)) error
	// Follow calls each with what the node has to obey for a site, in order
	// and from one goroutine, now and after every change, until ctx ends.
	Follow(ctx context.Context, site release.Site, each func(cluster.NodeView)) error
	// Active asks what is active now, and at which revision that was answered:
	// never less than was active when the call began.
	Active(ctx context.Context, site release.Site) (a cluster.Entry[cluster.Active], revision int64, err error)
	// Release is what is registered of a release.
	Release(ctx context.Context, site release.Site, id release.ID) (cluster.ReleaseRecord, error)
	// Claims are the node's own, by buffer; entered says that it has any.
	Claims(ctx context.Context, site release.Site) (held []release.ID, entered bool, err error)
	// Enter makes all claims at once, Retract and Claim are about the buffer of
	// the rollout in v, Lower takes back the claims of some buffers. All but
	// Claim are refused when active or the rollout is not as v has it; Claim,
	// when the rollout is not.
	Enter(ctx context.Context, v cluster.NodeView, held []release.ID) error
	Retract(ctx context.Context, v cluster.NodeView) error
	Claim(ctx context.Context, v cluster.NodeView) error
	Lower(ctx context.Context, v cluster.NodeView, buffers []int) error
	// Report says how the node is doing. It does not wait, and saying the same
	// again costs nothing.
	Report(ctx context.Context, site release.Site, s cluster.Status) error
	// ClockError is how far the node's clock is ahead of the leader's when it is
	// too far to go by it, as far as is known; 0 while it is not.
	ClockError() time.Duration
	// Contact is when, by cluster.Boottime, the last question began that etcd
	// answered and whose answer was acted on, for all sites; 0 for never.
	Contact() time.Duration
	// Lived is Contact, of the questions whose answers had the node's own session in
	// them; still says that no later one lacked it.
	Lived() (since time.Duration, still bool)
	// Peers are some other nodes that live.
	Peers(ctx context.Context, most int) ([]cluster.Peer, error)
	// MissedEvents counts changes that no watch had told of.
	MissedEvents() uint64
}

var _ Registry = (*cluster.Node)(nil)
