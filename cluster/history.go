package cluster

// Change is what a revision did to one key. The revisions are those that etcd
// gives the key, and 0 for a key that was deleted.
type Change struct {
	Key     string
	Value   string
	Deleted bool
	Create  int64
	Mod     int64
	Lease   int64
}

// Revision is all that one revision of etcd did to relman's keys: what one
// transaction wrote, or what went with one lease.
type Revision struct {
	Number int64
	// Base says that this is no change but the state as a whole: every key that
	// there was at that revision. What led to it is not known any more.
	Base    bool
	Changes []Change
}
