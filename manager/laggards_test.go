package manager

import (
	"strings"
	"testing"

	"relman/cluster"
	"relman/release"
)

// TestUnready_longWords: whatever a node says of itself, the result that names
// it is a short value: etcd takes no long one, and the request would never end.
func TestUnready_longWords(t *testing.T) {
	long := strings.Repeat("\u2028x", 1<<19)
	for name, s := range map[string]cluster.Status{
		"its state":    {State: cluster.NodeState(long)},
		"its release":  {Preparing: &cluster.Progress{Release: release.ID(long)}},
		"its progress": {Preparing: &cluster.Progress{Release: rel(3), Done: 1 << 62, Total: -1 << 62}},
		"its error":    {Error: &cluster.ErrorInfo{Text: long}},
	} {
		v := siteView(func(v *cluster.View) {
			v.Rollout = entry(cluster.Rollout{Release: rel(3), Buffer: 2, Request: "req-3"}, 70)
			v.Live["web-2"], v.Status["web-2"] = cluster.Live{}, s
		})
		if e := unready(v); len(e.Text) > 1000 || !strings.Contains(e.Text, "web-2: ") {
			t.Errorf("%s: a text of %d bytes: %.100q", name, len(e.Text), e.Text)
		}
	}
}
