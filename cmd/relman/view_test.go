package main

import (
	"time"

	"relman/cluster"
	"relman/release"
)

// Releases of fixedView.
const (
	rel1 release.ID = "000001-aaaaaaaaaaaa"
	rel2 release.ID = "000002-bbbbbbbbbbbb"
	rel3 release.ID = "000003-bbbbbbbbbbbb"
	rel4 release.ID = "000042-cccccccccccc"
	rel5 release.ID = "000421-dddddddddddd"
)

// viewTime is when fixedView was flipped.
func viewTime() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// fixedView has rel2 active since viewTime, and a rollout of rel4 for which one
// of three nodes is ready; a fourth has no live session.
func fixedView() *cluster.View {
	at := viewTime()
	v := &cluster.View{
		Site: "www", Revision: 77,
		Active: entryOf(cluster.Active{
			Release: rel2, Epoch: 2, Buffer: 1, Previous: &cluster.Held{Release: rel1}, Kind: cluster.Publish,
			At: at, By: "ci@host", Message: "PR 412", Request: "R2", Quorum: cluster.Quorum{Members: 3, Claims: 3},
		}),
		Rollout:  entryOf(cluster.Rollout{Release: rel4, Buffer: 2, Started: at, Deadline: at.Add(10 * time.Minute), Request: "R3"}),
		Desired:  entryOf(cluster.Desired{Request: "R3", Mode: cluster.Publish, Release: rel4, By: "ann@desk", At: at, Message: "next"}),
		Policy:   entryOf(cluster.DefaultPolicy()),
		Releases: map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
		Verdicts: map[release.ID]cluster.Entry[string]{rel3: entryOf("bad 404s")},
		Results:  map[cluster.RequestID]cluster.Result{"R2": {State: cluster.StateActive, Release: rel2, Epoch: 2, Changed: true}},
		Members:  map[release.NodeID]cluster.Entry[cluster.Member]{},
		Joins:    map[release.NodeID]cluster.Join{},
		Live:     map[release.NodeID]cluster.Live{},
		Status:   map[release.NodeID]cluster.Status{},
	}
	for i, id := range []release.ID{rel1, rel2, rel3, rel4, rel5} {
		v.Releases[id] = entryOf(cluster.ReleaseRecord{
			Manifest: release.Sum([]byte(id)), Files: 1000 * (i + 1), Bytes: int64(i+1) << 20, Created: at, By: "ci@host", Message: "build", Request: "R",
		})
	}
	for i, n := range []release.NodeID{"web-1", "web-2", "web-3", "web-4"} {
		v.Members[n] = entryOf(cluster.MemberIn)
		v.Joins[n] = cluster.Join{Group: "main"}
		third := release.ID("")
		if i == 0 {
			third = rel4
		}
		for k, id := range []release.ID{rel1, rel2, third} {
			v.Claims = append(v.Claims, cluster.Claim{Node: n, Group: "main", Buffer: k, Release: id})
		}
		if n == "web-4" {
			continue
		}
		v.Live[n] = cluster.Live{Boot: "B", Addr: "http://" + string(n), Version: "v1"}
		v.Status[n] = cluster.Status{State: cluster.NodeServing, Release: rel2, Epoch: 2, Swapped: at.Add(time.Duration(i) * 1500 * time.Microsecond)}
	}
	st := v.Status["web-2"]
	st.State, st.Preparing = cluster.NodePreparing, &cluster.Progress{Release: rel4, Done: 1 << 20, Total: 4 << 20}
	v.Status["web-2"] = st
	st = v.Status["web-3"]
	st.Error = &cluster.ErrorInfo{Class: "E_DISK_FULL", Text: "disk full, needs 1.2 GiB\x1b[0m, has 0.3"}
	v.Status["web-3"] = st
	return v
}

func entryOf[T any](v T) cluster.Entry[T] { return cluster.Entry[T]{Value: v, Mod: 9, Create: 8} }
