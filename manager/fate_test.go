package manager

import (
	"maps"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestFate: what is kept, with every reason; a row says what refers to which of
// ten releases, of which the n-th is n days old from the newest on.
func TestFate(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		refer func(v *cluster.View)
		keep  int
		grace time.Duration
		want  map[int]string // kept, and why
	}{
		{"nothing", nil, 0, 0, nil},
		{"the newest", nil, 2, 0, map[int]string{10: "one of the newest 2", 9: "one of the newest 2"}},
		{"all", nil, 10, 0, map[int]string{
			10: "one of the newest 10", 9: "one of the newest 10", 8: "one of the newest 10", 7: "one of the newest 10", 6: "one of the newest 10",
			5: "one of the newest 10", 4: "one of the newest 10", 3: "one of the newest 10", 2: "one of the newest 10", 1: "one of the newest 10",
		}},
		{"young", nil, 0, 3 * day, map[int]string{10: "younger than 3d", 9: "younger than 3d", 8: "younger than 3d"}},
		{"from the future", func(v *cluster.View) {
			v.Releases[rel(4)] = entry(cluster.ReleaseRecord{Created: now.Add(time.Hour)}, 4)
		}, 0, time.Minute, map[int]string{10: "younger than 1m", 4: "younger than 1m"}},
		{"active and previous", func(v *cluster.View) {
			v.Active = entry(cluster.Active{Release: rel(3), Previous: &cluster.Held{Release: rel(5)}}, 3)
		}, 0, 0, map[int]string{3: "active", 5: "previous"}},
		{"asked for, also when that has ended", func(v *cluster.View) {
			v.Desired = entry(cluster.Desired{Request: "R", Release: rel(2)}, 3)
			v.Results["R"] = cluster.Result{State: cluster.StateFailed}
		}, 0, 0, map[int]string{2: "asked for last"}},
		{"rolled out", func(v *cluster.View) {
			v.Rollout = entry(cluster.Rollout{Release: rel(1)}, 3)
		}, 0, 0, map[int]string{1: "being rolled out"}},
		{"held, by nodes that are dead too, in any buffer", func(v *cluster.View) {
			for i, n := range []release.NodeID{"b", "a", "a", "c", "d", "e", "f"} {
				v.Claims = append(v.Claims, cluster.Claim{Node: n, Buffer: i % 3, Release: rel(4)})
			}
			v.Claims = append(v.Claims, cluster.Claim{Node: "a", Release: rel(6)}, cluster.Claim{Node: "b"})
		}, 0, 0, map[int]string{4: "held by a, b, c, d, e and 1 more", 6: "held by a"}},
		{"pinned", func(v *cluster.View) {
			v.Pins = map[release.ID]cluster.Entry[string]{rel(3): {Value: "for the auditors"}}
		}, 0, 0, map[int]string{3: "pinned: for the auditors"}},
		{"judged", func(v *cluster.View) { v.Verdicts[rel(10)] = cluster.Entry[string]{Value: "bad"} }, 1, 0, map[int]string{10: "one of the newest 1"}},
		{"several", func(v *cluster.View) {
			v.Active = entry(cluster.Active{Release: rel(10)}, 3)
			v.Claims = []cluster.Claim{{Node: "a", Release: rel(10)}}
		}, 1, 12 * time.Hour, map[int]string{10: "active; held by a; one of the newest 1; younger than 12h"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &cluster.View{
				Releases: map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
				Verdicts: map[release.ID]cluster.Entry[string]{}, Results: map[cluster.RequestID]cluster.Result{},
			}
			for n := range 10 {
				v.Releases[rel(n+1)] = entry(cluster.ReleaseRecord{Created: now.Add(-time.Duration(9-n)*day - time.Second)}, int64(n+1))
			}
			if c.refer != nil {
				c.refer(v)
			}
			got := map[release.ID]string{}
			all := fate(v, c.keep, c.grace, now)
			for i, f := range all {
				if f.Release != rel(10-i) || f.Keep != (len(f.Reasons) > 0) || f.Reasons == nil {
					t.Errorf("%d. is %+v", i, f)
				}
				if f.Keep {
					got[f.Release] = strings.Join(f.Reasons, "; ")
				}
			}
			want := map[release.ID]string{}
			for n, why := range c.want {
				want[rel(n)] = why
			}
			if len(all) != 10 || !maps.Equal(got, want) {
				t.Errorf("keeps %v, want %v", got, want)
			}
		})
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		7 * 24 * time.Hour: "7d", 36 * time.Hour: "36h", 90 * time.Minute: "90m", 90 * time.Second: "90s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
