package main

import (
	"encoding/json"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

func judgeMark(x *explorer, w *verdicts, s *state, _ *intent, b, _ *cluster.View) {
	w.must(b.Policy.Exists(), "T1 a publisher begins at a site that there is not")
}

func judgeRegister(_ *explorer, w *verdicts, _ *state, _ *intent, b, a *cluster.View) {
	numbers := map[uint64]bool{}
	for id := range a.Releases {
		w.must(!numbers[id.Seq()], "T1 two releases have one number")
		numbers[id.Seq()] = true
	}
	w.must(a.Seq.Value > b.Seq.Value, "T1 a number is given again")
	for id, r := range b.Releases {
		w.must(a.Releases[id].Mod == r.Mod, "T1 the record of a release changes")
	}
}

func judgeBegin(x *explorer, w *verdicts, s *state, t *intent, b, _ *cluster.View) {
	w.must(b.GC.Value.Phase != cluster.GCSweep, "T17 "+t.kind+" while another sweep is under way")
	w.must(t.kind != "AwaitSweep" || !b.GC.Exists(), "T17 the time of the first sweep is set again")
	for _, p := range x.pairs(s.etcd) {
		w.must(!strings.HasPrefix(p.Key, cluster.Prefix+"uploads/"), "T17 "+t.kind+" though a publisher is at work")
	}
}

func judgeForget(_ *explorer, w *verdicts, _ *state, t *intent, b, a *cluster.View) {
	var gone []release.ID
	for _, o := range t.txn.Ops {
		if id, is := strings.CutPrefix(o.Key, cluster.ReleasesPrefix(www)); is && o.Delete {
			gone = append(gone, release.ID(id))
		}
	}
	for _, id := range gone {
		_, kept := b.Releases[id]
		_, pinned := b.Pins[id]
		w.must(kept, "T17 what is gone is forgotten again")
		w.must(!pinned, "T17 what is pinned is forgotten")
	}
	for _, h := range b.Active.Value.Needed() {
		w.must(!slices.Contains(gone, h.Release), "T17 what is active, previous or a canary is forgotten")
	}
	w.must(!slices.Contains(gone, b.Desired.Value.Release), "T17 what is asked for is forgotten")
	w.must(!slices.Contains(gone, b.Rollout.Value.Release), "T17 what is rolled out is forgotten")
}

func judgeCreate(x *explorer, w *verdicts, s *state, t *intent, b, a *cluster.View) {
	for _, o := range t.txn.Ops {
		if strings.HasSuffix(o.Key, "/config") {
			w.must(!x.has(s.etcd, o.Key), "T0 a site is created again")
		}
	}
	var before, after cluster.Catalog
	next := x.apply(s.etcd, t.txn.Ops)
	for at, c := range map[int32]*cluster.Catalog{s.etcd: &before, next: &after} {
		if raw := x.get(at, cluster.CatalogKey); raw != "" {
			w.must(json.Unmarshal([]byte(raw), c) == nil, "T0 the catalog cannot be read")
		}
	}
	for _, site := range before.Sites {
		w.must(slices.Contains(after.Sites, site), "T0 the catalog loses a site")
	}
}
