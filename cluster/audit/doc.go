// Package audit replays what happened in etcd, revision by revision, and says
// where an invariant of the protocol was broken. It is pure: its input are
// revisions as etcd delivers them (cluster.Revision), its output a Report.
//
// It promises not to trust who wrote: it knows no transaction and no guard,
// reads keys and values by itself, and judges each change by the state that the
// changes before it have led to. What it does believe is what only a writer can
// know: that a claim which a node took back was not true on its disk any more
// (T11a). Such claims it counts.
//
// It leaves to others how the revisions are had (package cluster), and what no
// revision can show: what a node really has on its disk, and what visitors see.
package audit
