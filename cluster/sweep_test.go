package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/release"
)

// sweepWorld has a member of its own: there is one sweep per cluster.
func sweepWorld(t *testing.T) *world {
	t.Parallel()
	return newWorld(t, dialAt(t, clustertest.Own(t).ClientURL(), nil))
}

func (w *world) gc() Entry[GC] {
	w.t.Helper()
	g, err := w.c.GC(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// sweep begins one.
func (w *world) sweep() Entry[GC] {
	w.t.Helper()
	w.commit(BeginSweep(w.gc(), GC{Since: day, By: "op", ID: NewULID()}))
	return w.gc()
}

func build(seq uint64) (release.ID, ReleaseRecord, error) { return id(seq), record(seq), nil }

// TestBeginUpload_waitsForASweep: and what was true before or during the sweep
// is not what comes of it.
func TestBeginUpload_waitsForASweep(t *testing.T) {
	w := sweepWorld(t)
	own := w.sweep()
	if _, err := w.c.BeginUpload(within(t, 100*time.Millisecond), w.site, "01REQ", "h", nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a sweep of the store by op is under way") {
		t.Errorf("during a sweep: %v", err)
	}
	waits := make(chan GC, 2)
	done := make(chan error, 1)
	var m *UploadMarker
	go func() {
		var err error
		m, err = w.c.BeginUpload(within(t, 20*time.Second), w.site, "01REQ", "h", func(g GC) { waits <- g })
		done <- err
	}()
	if g := <-waits; g.By != "op" {
		t.Errorf("waits for %+v", g)
	}
	_ = w.refused(BeginSweep(w.gc(), GC{ID: "01SECOND"}), ClassUploading)
	w.again(ActiveKey(w.site))
	w.commit(EndSweep(own, day))
	if err := await(t, "the marker", done); err != nil {
		t.Fatal(err)
	}
	if m.GC != w.gc() || m.GC.Value.Phase != GCIdle || m.Active.Mod != w.view().Active.Mod || len(waits) != 0 {
		t.Errorf("marker %+v, told %d times more", m, len(waits))
	}
	if _, err := w.c.Register(t.Context(), m, build); err != nil {
		t.Error(err)
	}
}

// TestRegister_acrossASweep: a release is not registered when a sweep was under
// way at any time after its publisher had begun to look at the store, even one
// that has ended before the registration looks at anything.
func TestRegister_acrossASweep(t *testing.T) {
	w := sweepWorld(t)
	m, err := w.c.BeginUpload(t.Context(), w.site, "01REQ", "h", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.refused(BeginSweep(w.gc(), GC{ID: "01A"}), ClassUploading)
	// The publisher is cut off for so long that its marker goes; another one
	// with the same name is there when it comes back.
	w.del(UploadKey(w.site, "01REQ"))
	w.commit(EndSweep(w.sweep(), day))
	w.put(UploadKey(w.site, "01REQ"), "{}")
	if _, err := w.c.Register(t.Context(), m, build); RefusedBy(err) != ClassSweeping {
		t.Errorf("registered across a sweep: %v", err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if m, err = w.c.BeginUpload(t.Context(), w.site, "01REQ", "h", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.Register(t.Context(), m, build); err != nil {
		t.Errorf("begun anew: %v", err)
	}
}

// TestSweep_takenOver: who was taken over neither holds, nor forgets, nor ends.
func TestSweep_takenOver(t *testing.T) {
	w := sweepWorld(t)
	own := w.sweep()
	rev := w.commit(HoldSweep(own))
	own = Entry[GC]{Value: own.Value.held(), Mod: rev, Create: own.Create}
	if own != w.gc() {
		t.Fatalf("holds %+v, want %+v", w.gc(), own)
	}
	before := own
	w.commit(EndSweep(own, day.Add(time.Hour))) // by somebody who has seen it rest
	for _, t := range []Txn{HoldSweep(before), Forget(before, w.view(), []release.ID{w.r2}), EndSweep(before, day)} {
		_ = w.refused(t, ClassSweeping)
	}
	w.sweep()
	for _, t := range []Txn{HoldSweep(before), Forget(before, w.view(), []release.ID{w.r2}), EndSweep(before, day)} {
		_ = w.refused(t, ClassSweeping)
	}
}

func TestUploads(t *testing.T) {
	w := sweepWorld(t)
	m, err := w.c.BeginUpload(t.Context(), w.site, "01REQ", "ci-7", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.put(UploadKey(w.site, "01XREQ"), "no JSON")
	all, err := w.c.Uploads(t.Context())
	if err != nil || len(all) != 2 || all[0].Site != w.site || all[0].Request != "01REQ" || all[0].Host != "ci-7" || time.Since(all[0].Since) > time.Minute || all[1].Request != "01XREQ" {
		t.Errorf("%+v, %v", all, err)
	}
	r := w.refused(BeginSweep(w.gc(), GC{}), ClassUploading)
	if !strings.Contains(r.Error(), "there are keys under uploads/: "+string(w.site)+"/01REQ") {
		t.Errorf("error %q", r)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForget_manyAtOnce: as many as one transaction may forget, etcd takes.
func TestForget_manyAtOnce(t *testing.T) {
	w := sweepWorld(t)
	var ids []release.ID
	for i := range uint64(ForgetAtOnce) {
		ids = append(ids, id(i+10))
		w.put(ReleaseKey(w.site, id(i+10)), encode(record(i+10)))
	}
	w.commit(Forget(w.sweep(), w.view(), ids))
	if n := len(w.view().Releases); n != 2 {
		t.Errorf("%d releases are left, want 2", n)
	}
}
