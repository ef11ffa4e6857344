package manager

import (
	"cmp"
	"maps"
	"slices"

	"relman/cluster"
	"relman/release"
)

// How much of the past is kept in etcd, per site.
const (
	keepHistory = 1000
	keepResults = 200
	trimAtOnce  = 100 // keys: etcd allows 128 operations in a transaction
	trimResults = 20  // results beyond those kept before they are worth a transaction
)

// overdue lists keys of a site that are older than what is kept, for transactions of
// trimAtOnce. trimmed is the epoch up to which this leader has removed history
// already.
func overdue(v *cluster.View, trimmed release.Epoch) []string {
	keys := overdueHistory(v, trimmed)
	keys = append(keys, overdueResults(v, trimAtOnce-len(keys))...)
	return append(keys, overdueSkews(v, trimmed)...)
}

// overdueSkews goes with overdueHistory.
func overdueSkews(v *cluster.View, trimmed release.Epoch) (keys []string) {
	first, last := overdueEpochs(v, trimmed)
	for e := first; e <= last; e++ {
		keys = append(keys, cluster.SkewKey(v.Site, e))
	}
	return keys
}

// overdueHistory lists history without reading it: the last epochs that are
// too old now. A range longer than one more than the trim of an earlier leader
// left, since that leader may have ended in between; removing what is not there
// changes nothing.
func overdueHistory(v *cluster.View, trimmed release.Epoch) (keys []string) {
	first, last := overdueEpochs(v, trimmed)
	for e := first; e <= last; e++ {
		keys = append(keys, cluster.HistoryKey(v.Site, e))
	}
	return keys
}

// overdueEpochs are the first and the last that are too old; none if the first is
// behind the last.
func overdueEpochs(v *cluster.View, trimmed release.Epoch) (first, last release.Epoch) {
	epoch := v.Active.Value.Epoch
	if epoch <= keepHistory {
		return 1, 0
	}
	last, first = epoch-keepHistory, 1
	if last > trimAtOnce {
		first = last - trimAtOnce + 1
	}
	return max(first, trimmed+1), last
}

// overdueResults lists the oldest results, never one that the last request
// can still be judged by.
func overdueResults(v *cluster.View, most int) []string {
	if len(v.Results) < keepResults+trimResults {
		return nil
	}
	d := v.Desired.Value
	ids := slices.SortedFunc(maps.Keys(v.Results), func(a, b cluster.RequestID) int {
		return cmp.Or(v.Results[b].At.Compare(v.Results[a].At), cmp.Compare(b, a))
	})
	var keys []string
	for _, id := range slices.Backward(ids[keepResults:]) {
		if len(keys) < most && id != d.Request && !slices.Contains(d.Replaces, id) {
			keys = append(keys, cluster.ResultKey(v.Site, id))
		}
	}
	return keys
}
