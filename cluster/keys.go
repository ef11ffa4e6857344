package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"relman/release"
)

// Prefix is where all of relman's keys stand.
const Prefix = "/relman/v1/"

// Keys of the whole cluster.
const (
	InfoKey        = Prefix + "cluster"  // Info
	CatalogKey     = Prefix + "catalog"  // Catalog: the sites, in the order in which they were made
	GCKey          = Prefix + "gc"       // GC
	ClockKey       = Prefix + "clock"    // Clock: what time it is by the leader
	ElectionPrefix = Prefix + "election" // one leased key per manager; the oldest leads
	nodesPrefix    = Prefix + "nodes/"   // what nodes say of themselves
	sitesPrefix    = Prefix + "sites/"   // one subtree per site
	uploadsPrefix  = Prefix + "uploads/" // publishers at work
)

// SitePrefix is the subtree of one site.
func SitePrefix(s release.Site) string { return sitesPrefix + string(s) + "/" }

// ActiveKey holds the one truth: which release the site shows (Active).
func ActiveKey(s release.Site) string { return SitePrefix(s) + "active" }

// RolloutKey holds the Rollout in flight; absent when there is none.
func RolloutKey(s release.Site) string { return SitePrefix(s) + "rollout" }

// DesiredKey holds what was asked for last (Desired).
func DesiredKey(s release.Site) string { return SitePrefix(s) + "desired" }

// SeqKey holds the last sequence number given to a release, in decimal.
func SeqKey(s release.Site) string { return SitePrefix(s) + "seq" }

// ConfigKey holds the site's Policy; a site exists when this key does.
func ConfigKey(s release.Site) string { return SitePrefix(s) + "config" }

// ServingKey holds how nodes serve the site (Serving). No flip rests on it.
func ServingKey(s release.Site) string { return SitePrefix(s) + "serving" }

// SecretKey holds the bare secret that the site's nodes share, in hex: what
// they sign pins with.
func SecretKey(s release.Site) string { return SitePrefix(s) + "secret" }

// FreezeKey holds a Freeze; absent when flips are allowed.
func FreezeKey(s release.Site) string { return SitePrefix(s) + "freeze" }

// RosterKey holds the Roster, changed whenever a claim leaves without its node.
func RosterKey(s release.Site) string { return SitePrefix(s) + "roster" }

// ToldKey holds the last epoch, in decimal, of which the leader's post-converge
// hook was told.
func ToldKey(s release.Site) string { return SitePrefix(s) + "hooks/post-converge" }

// ConfirmedKey holds the last epoch, in decimal, that an operator has confirmed.
func ConfirmedKey(s release.Site) string { return SitePrefix(s) + "confirmed" }

// BakedKey holds the last epoch, in decimal, that has baked for its time.
func BakedKey(s release.Site) string { return SitePrefix(s) + "baked" }

// ResultsPrefix is where results stand, by request.
func ResultsPrefix(s release.Site) string { return SitePrefix(s) + "results/" }

// ResultKey holds how one request ended (Result).
func ResultKey(s release.Site, r RequestID) string { return ResultsPrefix(s) + string(r) }

// ReleasesPrefix is where release records stand, by id.
func ReleasesPrefix(s release.Site) string { return SitePrefix(s) + "releases/" }

// ReleaseKey holds one ReleaseRecord, create-only.
func ReleaseKey(s release.Site, id release.ID) string { return ReleasesPrefix(s) + string(id) }

// VerdictsPrefix is where verdicts stand, by release.
func VerdictsPrefix(s release.Site) string { return SitePrefix(s) + "verdicts/" }

// VerdictKey holds "bad …" or "yanked …"; while it exists no flip to that
// release commits.
func VerdictKey(s release.Site, id release.ID) string { return VerdictsPrefix(s) + string(id) }

// HistoryPrefix is where the copies of the active value stand, by epoch.
func HistoryPrefix(s release.Site) string { return SitePrefix(s) + "history/" }

// HistoryKey holds the active value of one epoch; ten digits keep the order.
func HistoryKey(s release.Site, e release.Epoch) string {
	return fmt.Sprintf("%s%010d", HistoryPrefix(s), e)
}

// SkewPrefix is where the skews of epochs stand.
func SkewPrefix(s release.Site) string { return SitePrefix(s) + "skew/" }

// SkewKey holds how far apart the nodes swapped to one epoch (Skew), create-only.
func SkewKey(s release.Site, e release.Epoch) string {
	return fmt.Sprintf("%s%010d", SkewPrefix(s), e)
}

// MembersPrefix is where the leader keeps who counts, by node.
func MembersPrefix(s release.Site) string { return SitePrefix(s) + "members/" }

// MemberKey holds the bare Member state of one node.
func MemberKey(s release.Site, n release.NodeID) string { return MembersPrefix(s) + string(n) }

// CordonsPrefix is where operators say which nodes are to stay out, by node.
func CordonsPrefix(s release.Site) string { return SitePrefix(s) + "cordons/" }

// CordonKey holds a Cordon: while it exists the node does not count.
func CordonKey(s release.Site, n release.NodeID) string { return CordonsPrefix(s) + string(n) }

// ApprovalsPrefix is where operators approve of new nodes, by node.
func ApprovalsPrefix(s release.Site) string { return SitePrefix(s) + "approvals/" }

// ApprovalKey holds an Approval: a site whose policy wants one admits the node.
func ApprovalKey(s release.Site, n release.NodeID) string { return ApprovalsPrefix(s) + string(n) }

// PinsPrefix is where pins stand, by release.
func PinsPrefix(s release.Site) string { return SitePrefix(s) + "pins/" }

// PinKey holds the bare reason why a release is never swept.
func PinKey(s release.Site, id release.ID) string { return PinsPrefix(s) + string(id) }

// ReadyPrefix is where all claims of a site stand.
func ReadyPrefix(s release.Site) string { return SitePrefix(s) + "ready/" }

// ClaimsPrefix is where the claims of one buffer stand: the range that a flip
// compares as a whole.
func ClaimsPrefix(s release.Site, buffer int) string {
	return ReadyPrefix(s) + strconv.Itoa(buffer) + "/"
}

// ClaimKey holds the bare release that a node's buffer holds, or NoClaim.
func ClaimKey(s release.Site, buffer int, g release.Group, n release.NodeID) string {
	return ClaimsPrefix(s, buffer) + string(g) + "/" + string(n)
}

// LiveKey holds Live under the node's lease.
func LiveKey(n release.NodeID) string { return nodesPrefix + string(n) + "/live" }

// JoinKey holds Join, create-only.
func JoinKey(n release.NodeID) string { return nodesPrefix + string(n) + "/join" }

// LastKey holds Last, which outlives the node's session; it is written with
// every new one.
func LastKey(n release.NodeID) string { return nodesPrefix + string(n) + "/last" }

// StatusKey holds Status under the node's lease.
func StatusKey(n release.NodeID, s release.Site) string {
	return nodesPrefix + string(n) + "/status/" + string(s)
}

// TurnKey holds the bare ULID of the node's turn: see TakeTurn.
func TurnKey(n release.NodeID, s release.Site) string {
	return nodesPrefix + string(n) + "/turn/" + string(s)
}

// LoweredKey holds Lowered: which claims of a site the node took back last.
func LoweredKey(n release.NodeID, s release.Site) string {
	return nodesPrefix + string(n) + "/lowered/" + string(s)
}

// UploadKey marks a publisher at work, under its lease.
func UploadKey(s release.Site, r RequestID) string {
	return uploadsPrefix + string(s) + "/" + string(r)
}

// claimKeyParts splits the part of a claim's key after ReadyPrefix.
func claimKeyParts(rest string) (buffer int, g release.Group, n release.NodeID, ok bool) {
	k, rest, ok1 := strings.Cut(rest, "/")
	group, node, ok2 := strings.Cut(rest, "/")
	buffer, err := strconv.Atoi(k)
	if !ok1 || !ok2 || err != nil || buffer < 0 || buffer >= MaxBuffers || strconv.Itoa(buffer) != k {
		return 0, "", "", false
	}
	g, err1 := release.ParseGroup(group)
	n, err2 := release.ParseNodeID(node)
	return buffer, g, n, err1 == nil && err2 == nil
}
