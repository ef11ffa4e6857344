package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// node is an agent in a test, with its etcd and its store, that can be stopped
// at any step and started again on the same disk.
type node struct {
	t       testing.TB
	dir     string // its disk
	scratch string // where that is
	etcd    *fakeEtcd
	shelf   *shelf
	store   objectstore.Store

	verifyHook, postFlip *hook.Hook

	mu    sync.Mutex
	point func(name string) error
	idle  time.Duration // 0: as always

	drainDelay time.Duration
	ahead      atomic.Int64  // its clock, in nanoseconds
	self       string        // URL of its own server
	probe      time.Duration // how often it looks at what bakes

	onStart OnStart
	plain   bool
	agent   *Agent
	stop    context.CancelFunc
	ended   chan struct{}
	guest   *visitor
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{t: t, scratch: memoryDir(t), etcd: newFakeEtcd(), shelf: newShelf()}
	n.dir = filepath.Join(n.scratch, "disk")
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.store = n.shelf.store
	n.etcd.audit = n.claimsTrue
	n.etcd.setMember(cluster.MemberIn)
	t.Cleanup(func() {
		n.halt()
		for _, err := range n.etcd.broken {
			t.Error(err)
		}
	})
	return n
}

func (n *node) siteDir() string { return filepath.Join(n.dir, "sites", string(www)) }

// claimsTrue is invariant I5: what the node claims is whole on its disk.
func (n *node) claimsTrue(claims map[int]release.ID) error {
	held, err := heldIn(n.siteDir())
	if err != nil {
		return err
	}
	for k, id := range claims {
		if id != "" && held[id] == "" {
			return fmt.Errorf("buffer %d is claimed to hold %s, the disk has %v", k, id, held)
		}
	}
	return nil
}

// start starts the agent, as a process would.
func (n *node) start() {
	n.t.Helper()
	agent, err := New(Config{Dir: n.dir, Node: "n1", Workers: 3, point: n.at, now: n.now, idle: n.idle, OnStart: n.onStart, Plain: n.plain, DrainDelay: n.drainDelay, Verify: n.verifyHook, PostFlip: n.postFlip, Self: n.self, probe: n.probe}, n.etcd, n.store)
	if err != nil {
		n.t.Fatal(err)
	}
	n.etcd.mu.Lock()
	n.etcd.status = cluster.Status{}
	n.etcd.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.agent, n.stop, n.ended = agent, cancel, make(chan struct{})
	go func() {
		defer close(n.ended)
		if err := agent.Run(ctx); err != nil {
			n.t.Error(err)
		}
	}()
	n.guest = newVisitor(agent.Handler(), n.shelf)
}

// halt stops the agent, if it runs.
func (n *node) halt() {
	n.t.Helper()
	if n.agent == nil {
		return
	}
	n.stop()
	<-n.ended
	if err := n.guest.leave(); err != nil {
		n.t.Error(err)
	}
	if err := n.agent.Close(); err != nil {
		n.t.Error(err)
	}
	n.agent = nil
}

func (n *node) at(name string) error {
	n.mu.Lock()
	point := n.point
	n.mu.Unlock()
	if point == nil {
		return nil
	}
	return point(name)
}

func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

func (n *node) setPoint(f func(name string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.point = f
}

// until waits for a condition.
func (n *node) until(what string, ok func() error) {
	n.t.Helper()
	err := errors.New("never looked")
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	n.t.Fatalf("%s: %v (status %+v)", what, err, n.status())
}

func (n *node) status() cluster.Status {
	n.etcd.mu.Lock()
	defer n.etcd.mu.Unlock()
	return n.etcd.status
}

// publish stores and registers a build.
func (n *node) publish(b build) *objectstore.Stored {
	n.t.Helper()
	s := n.shelf.publish(n.t, b)
	n.etcd.register(s.Manifest)
	return s
}

// claimed waits until the rollout's release is claimed.
func (n *node) claimed() {
	n.t.Helper()
	n.until("claimed", func() error {
		n.etcd.mu.Lock()
		defer n.etcd.mu.Unlock()
		r := n.etcd.view.Rollout.Value
		if got := n.etcd.claims[r.Buffer]; got != r.Release {
			return fmt.Errorf("buffer %d: %q, want %q", r.Buffer, got, r.Release)
		}
		return nil
	})
}

// rollOut publishes a build and flips to it.
func (n *node) rollOut(b build) *objectstore.Stored {
	n.t.Helper()
	s := n.publish(b)
	n.etcd.startRollout(s.Manifest.ID())
	n.claimed()
	n.etcd.flip(n.t)
	n.serves(s)
	return s
}

// serves waits until the node is ready with what is active, and compares what
// it serves and what its links point at.
func (n *node) serves(s *objectstore.Stored) {
	n.t.Helper()
	id := s.Manifest.ID()
	n.until("serves "+string(id), func() error {
		if ok, why := n.agent.Ready(); !ok {
			return errors.New(why)
		}
		if got := n.status(); got.Release != id || got.State != cluster.NodeServing {
			return fmt.Errorf("status %+v", got)
		}
		return expectTree(n.link("current"), s.Manifest)
	})
	n.answers(s, "")
}

func (n *node) link(name string) string {
	target, err := filepath.EvalSymlinks(filepath.Join(n.siteDir(), name))
	if err != nil {
		return name
	}
	return target
}

// answers compares what the handler answers with the release.
func (n *node) answers(s *objectstore.Stored, state string) {
	n.t.Helper()
	for _, f := range s.Manifest.Files {
		w := httptest.NewRecorder()
		n.agent.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/"+f.Path, nil))
		if w.Code != 200 || release.Sum(w.Body.Bytes()) != f.Digest || w.Header().Get("Relman-State") != state {
			n.t.Fatalf("%s: %d %q, state %q", f.Path, w.Code, w.Body, w.Header().Get("Relman-State"))
		}
	}
}

// holds waits until exactly these releases are on the disk.
func (n *node) holds(want ...*objectstore.Stored) {
	n.t.Helper()
	n.until("holds", func() error {
		held, err := heldIn(n.siteDir())
		if err != nil {
			return err
		}
		for _, s := range want {
			if held[s.Manifest.ID()] == "" {
				return fmt.Errorf("%s is not held: %v", s.Manifest.ID(), held)
			}
		}
		return nil
	})
}

// TestNode_life: join, publish, flip, roll back, roll out again.
func TestNode_life(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.etcd.setMember("")
	n.start()
	n.until("joins", func() error {
		if st := n.status().State; st != cluster.NodeJoining {
			return errors.New(string(st))
		}
		return nil
	})
	n.etcd.setMember(cluster.MemberIn)
	n.until("ready with nothing to serve", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return errors.New(why)
		}
		return nil
	})
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	if got := n.link("previous"); expectTree(got, r1.Manifest) != nil {
		t.Errorf("previous is %s", got)
	}
	r3 := n.publish(b.with("index.html", "three"))
	n.etcd.startRollout(r3.Manifest.ID())
	n.claimed()
	n.until("next", func() error { return expectTree(n.link("next"), r3.Manifest) })
	n.etcd.rollback(t)
	n.serves(r1)
	n.etcd.rollback(t)
	n.serves(r2)
	if st := n.status(); st.Epoch != 4 || time.Since(st.Swapped) > time.Minute || st.Error != nil {
		t.Errorf("status %+v", st)
	}
	if err := expectTree(n.link("next"), r3.Manifest); err != nil {
		t.Errorf("next is not what was prepared last: %v", err)
	}
	for i := range 4 {
		last := n.rollOut(b.with("index.html", fmt.Sprint("more ", i)).without("d0/e0/f0"))
		for _, name := range []string{"current", "next"} {
			n.until(name, func() error { return expectTree(n.link(name), last.Manifest) })
		}
	}
	n.halt()
	n.start()
	n.until("ready", func() error {
		if ok, why := n.agent.Ready(); !ok {
			return errors.New(why)
		}
		return nil
	})
	n.serves(n.shelf.last)
}
