package nodeagent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// bareSite is a site without its goroutines that holds some releases, and
// shows the first.
func bareSite(t *testing.T, builds ...build) (*site, []*objectstore.Stored) {
	t.Helper()
	d := newDrawing(t)
	a, err := New(Config{Dir: t.TempDir()}, newFakeEtcd(), d.shelf.store)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(www, a)
	s.disk = d.disk
	t.Cleanup(func() { _ = s.close() }) // the disk may be closed already
	var all []*objectstore.Stored
	for k, b := range builds {
		r := d.shelf.publish(t, b)
		if err := d.fill(t.Context(), k, r); err != nil {
			t.Fatal(err)
		}
		if d.bufs[k].open, err = d.openRelease(d.bufs[k], r.Manifest); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	s.front.Show(d.bufs[0].open, 1)
	s.applied = state{Release: all[0].Manifest.ID(), Epoch: 1}
	return s, all
}

// activeIs is a view in which a release is active.
func activeIs(r *objectstore.Stored, epoch release.Epoch) cluster.NodeView {
	return cluster.NodeView{
		Site:   www,
		Member: cluster.Entry[cluster.Member]{Value: cluster.MemberIn, Mod: 1, Create: 1},
		Active: cluster.Entry[cluster.Active]{Mod: int64(epoch), Create: 1, Value: cluster.Active{
			Release: r.Manifest.ID(), Epoch: epoch, Manifest: r.Manifest.Digest(),
		}},
	}
}

// TestSite_giveUp: what was free when a fill began may be needed when it is to
// be overwritten.
func TestSite_giveUp(t *testing.T) {
	b := firstBuild()
	s, r := bareSite(t, b, b.with("index.html", "two"), b.with("index.html", "three"))
	s.see(activeIs(r[0], 1))
	if err := s.giveUp(t.Context(), s.disk.bufs[0]); !errors.Is(err, errNeeded) {
		t.Errorf("the front: %v", err)
	}
	s.see(activeIs(r[1], 2)) // a flip while the fill was drawing
	if err := s.giveUp(t.Context(), s.disk.bufs[1]); !errors.Is(err, errNeeded) {
		t.Errorf("the new front: %v", err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errNewView)
	if err := s.giveUp(ended, s.disk.bufs[2]); !errors.Is(err, errNewView) || !s.holds(r[2].Manifest.ID()) {
		t.Errorf("after the rollout changed: %v", err)
	}
	if err := s.giveUp(t.Context(), s.disk.bufs[2]); err != nil || s.holds(r[2].Manifest.ID()) {
		t.Errorf("a free one: %v", err)
	}
}

// TestSite_giveUpLinked: no link leads into a buffer that is being changed,
// and no request is between taking a release and opening its file.
func TestSite_giveUpLinked(t *testing.T) {
	b := firstBuild()
	s, r := bareSite(t, b, b.with("index.html", "two"))
	v := activeIs(r[0], 1)
	v.Active.Value.Previous = &cluster.Held{Release: r[1].Manifest.ID(), Buffer: 1}
	s.see(v)
	if err := s.settle(v); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(s.disk.dir, "previous")
	if to, err := os.Readlink(link); err != nil || to != "buffers/1" {
		t.Fatal(to, err)
	}
	request := s.disk.bufs[1].open
	if !request.acquire() {
		t.Fatal("closed")
	}
	released := make(chan struct{})
	go func() {
		defer close(released)
		time.Sleep(50 * time.Millisecond)
		if err := request.release(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.giveUp(t.Context(), s.disk.bufs[1]); err != nil {
		t.Fatal(err)
	}
	if request.refs.Load() > 0 {
		t.Error("a request still holds the release")
	}
	<-released
	if _, err := os.Readlink(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link stands: %v", err)
	}
}

// TestSite_membershipChanges: whoever made a node a member anew may have taken
// its claims before; it is not ready until it knows.
func TestSite_membershipChanges(t *testing.T) {
	s, r := bareSite(t, firstBuild())
	v := activeIs(r[0], 1)
	s.see(v)
	s.entered = true
	if why := s.ready(); why != "" {
		t.Fatal(why)
	}
	v.Member.Mod = 9
	s.see(v)
	if why := s.ready(); why != "has not entered yet" {
		t.Errorf("ready %q", why)
	}
}

// TestSite_giveUpFails: a release that is given up is closed, also where the
// links to it cannot be changed.
func TestSite_giveUpFails(t *testing.T) {
	b := firstBuild()
	s, r := bareSite(t, b, b.with("index.html", "two"))
	v := activeIs(r[0], 1)
	v.Active.Value.Previous = &cluster.Held{Release: r[1].Manifest.ID(), Buffer: 1}
	s.see(v)
	if err := s.settle(v); err != nil {
		t.Fatal(err)
	}
	s.cfg.point = func(string) error { return errCrash }
	was := s.disk.bufs[1].open
	if err := s.giveUp(t.Context(), s.disk.bufs[1]); !errors.Is(err, errCrash) {
		t.Errorf("given up: %v", err)
	}
	if was.refs.Load() != 0 {
		t.Error("the release is open")
	}
}

// TestSite_lacksPrevious: a node that comes in just after a flip is not ready before it
// holds what visitors may have begun a page of; one that counted all along is.
func TestSite_lacksPrevious(t *testing.T) {
	b := firstBuild()
	s, r := bareSite(t, b, b.with("index.html", "two"))
	s.cfg.Fence = DefaultFence
	gone := release.ID("000001-000000000001")
	v := activeIs(r[0], 2)
	v.Active.Value.Previous = &cluster.Held{Release: gone, Buffer: 1}
	s.see(v)
	s.entered = true
	if why := s.ready(); !strings.HasPrefix(why, "does not hold the release before") {
		t.Errorf("ready %q", why)
	}
	s.joining = time.Now().Add(-DefaultFence - PageTime)
	if why := s.ready(); why != "" {
		t.Errorf("long after: %q", why)
	}
	v = activeIs(r[1], 3)
	v.Active.Value.Previous = &cluster.Held{Release: r[0].Manifest.ID()}
	s.see(v)
	s.disk.bufs[0].damaged = true
	if why := s.ready(); why != "" {
		t.Errorf("it counted when it swapped: %q", why)
	}
}
