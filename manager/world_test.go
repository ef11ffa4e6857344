package manager

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"relman/cluster"
	"relman/release"
)

// world is a whole cluster in a bubble: a fake etcd, managers, nodes, and
// somebody who asks.
type world struct {
	*fake
	publisher
	ctx context.Context
	wg  sync.WaitGroup
}

const www release.Site = "www"

// inWorld runs a story in a bubble, with a site and no policy but the default.
// The story ends with every goroutine, or the bubble says which is left.
func inWorld(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(t)
		w := &world{fake: f, publisher: publisher{fake: f, site: www}, ctx: ctx}
		if _, err := f.commit(cluster.CreateSite(www, cluster.DefaultPolicy(), cluster.Entry[cluster.Catalog]{})); err != nil {
			t.Fatal(err)
		}
		story(t, w)
		cancel()
		w.wg.Wait()
	})
}

// start runs something until the story ends, or the returned function ends it.
func (w *world) start(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	w.wg.Go(func() {
		defer close(done)
		run(ctx)
	})
	return func() {
		cancel()
		<-done
	}
}

func (w *world) manager(id string) (*Manager, func()) {
	m := New(w.fake, Config{ID: id})
	return m, w.start(func(ctx context.Context) {
		if err := m.Run(ctx); err != nil {
			w.t.Errorf("manager %s: %v", id, err)
		}
	})
}

// node runs a node that needs so long to fill a buffer.
func (w *world) node(id release.NodeID, fill time.Duration) (stop func()) {
	n := &fakeNode{fake: w.fake, self: selfOf(id), site: www, fill: fill}
	return w.start(n.run)
}

// nodes runs web-1 … web-n and waits until they have entered.
func (w *world) nodes(n int, fill time.Duration) {
	w.t.Helper()
	for i := range n {
		w.node(release.NodeID(fmt.Sprintf("web-%d", i+1)), fill)
	}
	w.until("all nodes have entered", func(v *cluster.View) bool { return v.Entered() == n })
}

// setPolicy changes the site's policy.
func (w *world) setPolicy(change func(p *cluster.Policy)) {
	p := w.view().Policy.Value
	change(&p)
	w.put(cluster.ConfigKey(www), p)
}

func (w *world) view() *cluster.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.fake.view(www)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// until waits until the site is as wanted, an hour of the bubble's time at most.
func (w *world) until(what string, is func(v *cluster.View) bool) *cluster.View {
	w.t.Helper()
	limit := time.After(time.Hour)
	for {
		w.mu.Lock()
		news := w.news
		w.mu.Unlock()
		v := w.view()
		if is(v) {
			return v
		}
		select {
		case <-news:
		case <-limit:
			w.t.Fatalf("%s: still not so: %+v", what, v)
		}
	}
}

// end waits until a request has ended and all is quiet, and says how it ended.
func (w *world) end(r cluster.RequestID) cluster.Result {
	w.t.Helper()
	v := w.until("request "+string(r)+" has ended", func(v *cluster.View) bool {
		_, ended := v.Results[r]
		return ended
	})
	synctest.Wait()
	return v.Results[r]
}

// ended checks how a request ended and what is active then.
func (w *world) ended(r cluster.RequestID, want cluster.State, active int, epoch release.Epoch) cluster.Result {
	w.t.Helper()
	got := w.end(r)
	v := w.view()
	id := release.ID("")
	if active > 0 {
		id = rel(active)
	}
	if a := v.Active.Value; got.State != want || a.Release != id || a.Epoch != epoch {
		w.t.Errorf("request %s ended as %s (%+v) with %s at epoch %d, want %s with %s at %d", r, got.State, got.Error, a.Release, a.Epoch, want, id, epoch)
	}
	if v.Done() && v.Rollout.Exists() {
		w.t.Errorf("a rollout is left: %+v", v.Rollout.Value)
	}
	return got
}

// lastTouch is when a key under a prefix was changed last.
func (w *world) lastTouch(key string) touch {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last touch
	for _, c := range w.touched {
		if len(c.key) >= len(key) && c.key[:len(key)] == key {
			last = c
		}
	}
	return last
}
