package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster"
	"relman/manager"
	"relman/objectstore"
	"relman/release"
)

// TestSweepTable: what people and programs are shown of a sweep.
func TestSweepTable(t *testing.T) {
	swept := &manager.Swept{
		Sites: []manager.SweptSite{{Site: "www", Releases: []manager.Fate{
			{Release: rel2, Keep: true, Reasons: []string{"active", "held by web-1, web-2"}},
			{Release: rel1, Reasons: []string{}},
		}}},
		Plan: &objectstore.SweepPlan{
			Packs: []objectstore.SweepPack{
				{Key: "a", Size: 8 << 20, Live: 7 << 20, Fate: "keep"}, {Key: "b", Size: 1 << 20, Live: 1 << 20, Fate: "keep"},
				{Key: "c", Size: 4 << 20, Live: 1 << 19, Fate: "repack"}, {Key: "d", Size: 3 << 20, Fate: "delete"}, {Key: "e", Size: 100, Fate: "young"},
			},
			Objects: []objectstore.SweepObject{{Key: "m"}, {Key: "l"}}, Uploads: []objectstore.SweepUpload{{Key: "u"}},
		},
		Stats: objectstore.SweepStats{DeletedObjects: 4, DeletedBytes: 7 << 20, RepackedPacks: 1, WrittenBytes: 1 << 19, AbortedUploads: 1, Checked: 3},
	}
	r := reportSweep(swept)
	text := func(dry bool) string {
		var b bytes.Buffer
		tb := &tables{out: &b}
		sweepTable(tb, r, dry)
		tb.line("%s", sweptLine(r, dry, 1200*time.Millisecond))
		if tb.err != nil {
			t.Fatal(tb.err)
		}
		return b.String()
	}
	const table = `SITE  RELEASE              FATE       WHY
www   000002-bbbbbbbbbbbb  kept       active, held by web-1, web-2
www   000001-aaaaaaaaaaaa  forgotten  -

kept             2 packs, 9.0 MiB, 8.0 MiB used
too young to go  1 pack, 100 B
rewritten        1 pack, 4.0 MiB, 512.0 KiB used
deleted          1 pack, 3.0 MiB, and 2 other objects
aborted          1 unfinished upload

SWEPT      1 of 2 releases forgotten, 4 objects deleted (7.0 MiB), 3 packs looked up   1.2s
`
	if got := text(false); got != table {
		t.Errorf("got\n%s\nwant\n%s", got, table)
	}
	if got := text(true); !strings.Contains(got, "goes") || !strings.HasSuffix(got, "\nDRY RUN    1 of 2 releases would go; nothing was changed\n") {
		t.Errorf("a dry run says\n%s", got)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"releases":[{"site":"www","release":"000002-bbbbbbbbbbbb","keep":true,"reasons":["active","held by web-1, web-2"]},{"site":"www","release":"000001-aaaaaaaaaaaa","keep":false,"reasons":[]}]`,
		`"repack":{"packs":1,"bytes":4194304,"used_bytes":524288}`, `"deleted_bytes":7340032`,
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
}

// TestSweep: a sweep of a cluster that works keeps what is needed; publishers
// and sweeps keep each other away.
func TestSweep(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 1)
	var all []release.ID
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		out, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, text), noCache: true})
		if f != nil {
			t.Fatal(f)
		}
		all = append(all, out.Release)
	}
	sweep := func(dry bool) (sweepReport, error) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		a := newApp(&stdout, &stderr)
		a.cfg.Output = "json"
		s := l.session()
		if err := a.sweep(t.Context(), s, manager.SweepConfig{By: "op"}, dry); err != nil {
			return sweepReport{}, err
		}
		var o outcome
		if err := json.Unmarshal(stdout.Bytes(), &o); err != nil || o.Sweep == nil {
			t.Fatalf("%v: %s", err, &stdout)
		}
		return *o.Sweep, nil
	}
	before := l.view(t)
	r, err := sweep(true)
	if err != nil || len(r.Releases) != 5 || r.Releases[0].Release != all[4] || !r.Releases[0].Keep || r.Releases[4].Keep {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	if now := l.view(t); len(now.Releases) != 5 || now.GC != before.GC {
		t.Errorf("a dry run left %d releases and %+v", len(now.Releases), now.GC)
	}

	m, err := l.client.BeginUpload(t.Context(), "www", "01REQ", "ci-7", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sweep(false)
	f, ok := errors.AsType[*failure](err)
	if !ok || f.code != exitConflict || f.class != cluster.ClassUploading || !strings.Contains(f.Error(), "www by ci-7 since ") {
		t.Errorf("beside a publisher: %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	if r, err = sweep(false); err != nil || r.Releases[4].Keep {
		t.Fatalf("%+v, %v", r, err)
	}
	if now := l.view(t); len(now.Releases) != 3 || now.GC.Value.Phase != cluster.GCIdle || now.GC.Value.Gen != 1 {
		t.Errorf("left are %d releases, the sweep is %+v", len(now.Releases), now.GC.Value)
	}
	if code, _, errs := l.relman(t, "sweep", "--keep", "-1"); code != exitUsage {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// sweptStore is a store that everything vanishes from when the first manifest
// is written: another's sweep, after this publisher's marker was lost.
type sweptStore struct {
	objectstore.Store
	once  sync.Once
	sweep func()
}

func (s *sweptStore) Put(ctx context.Context, key string, body []byte, create bool) error {
	if strings.HasSuffix(key, "/manifest.zst") {
		s.once.Do(s.sweep)
	}
	return s.Store.Put(ctx, key, body, create)
}

// TestPublish_swept: a publisher that a sweep has crossed believes nothing of
// what it knew of the store.
func TestPublish_swept(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 1)
	if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a", "b")}); f != nil {
		t.Fatal(f)
	}
	inner := l.store
	l.store = &sweptStore{Store: inner, sweep: func() {
		ups, err := l.client.Uploads(t.Context())
		if err != nil || len(ups) != 1 {
			t.Errorf("uploads %v, %v", ups, err)
			return
		}
		gone := cluster.Txn{Name: "lose the marker", Ops: []cluster.Op{{Key: cluster.UploadKey(ups[0].Site, ups[0].Request), Delete: true}}}
		gc := l.view(t).GC
		for _, txn := range []cluster.Txn{gone, cluster.BeginSweep(gc, cluster.GC{ID: "01S"})} {
			if _, err := l.client.Commit(t.Context(), txn); err != nil {
				t.Error(err)
			}
		}
		if err := inner.List(t.Context(), "", func(i objectstore.Info) error { return inner.Delete(t.Context(), i.Key) }); err != nil {
			t.Error(err)
		}
		if _, err := l.client.Commit(t.Context(), cluster.EndSweep(l.view(t).GC, time.Now())); err != nil {
			t.Error(err)
		}
	}}
	out, said, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a", "c")})
	if f != nil || out.State != stateLive {
		t.Fatalf("%+v %v\n%s", out, f, said)
	}
	v := l.view(t)
	a, err := objectstore.Audit(t.Context(), inner, "www", []objectstore.Kept{{ID: out.Release, Manifest: v.Active.Value.Manifest}}, objectstore.AuditOptions{})
	if err != nil || len(a.Faults) != 0 {
		t.Errorf("what became active is not whole: %+v, %v", a, err)
	}
}
