package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"relman/cluster"
	etcdserver "relman/cluster/embedded"
	"relman/manager"
	"relman/objectstore"
	"relman/release"
)

// lab is a cluster in this process, with the site www and a store in memory.
// It has no manager and no nodes until a test wants them.
type lab struct {
	url    string // of etcd
	client *cluster.Client
	store  objectstore.Store
	parts  *stack
	log    *slog.Logger
}

func newLab(t *testing.T) *lab {
	t.Helper()
	configured(t, "")
	l := &lab{store: objectstore.NewMemory(), parts: newStack(), log: slog.New(slog.DiscardHandler)}
	m, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), ClientURL: "http://127.0.0.1:0", Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	l.parts.onStop(m.Close)
	t.Cleanup(func() {
		if err := l.parts.close(); err != nil {
			t.Error(err)
		}
	})
	l.url = m.ClientURL()
	if l.client, err = cluster.Dial(t.Context(), cluster.Config{Endpoints: []string{l.url}}); err != nil {
		t.Fatal(err)
	}
	l.parts.onStop(l.client.Close)
	if _, err := l.client.Init(t.Context(), cluster.Info{Store: "s3://relman?endpoint=http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := l.client.CreateSite(t.Context(), "www", cluster.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	return l
}

// withManager runs a manager.
func (l *lab) withManager(t *testing.T) *lab {
	t.Helper()
	m := manager.New(managerCluster{Client: l.client}, manager.Config{ID: "m", LeaseTTL: 3 * time.Second, Log: l.log})
	l.parts.start(t.Context(), "manager", m.Run)
	return l
}

// withNodes runs nodes and waits until they have entered.
func (l *lab) withNodes(t *testing.T, n int) *lab {
	t.Helper()
	for i := range n {
		sites, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		id := release.NodeID(fmt.Sprintf("n%d", i+1))
		node, err := newNode(l.client, l.store, nodeOptions{id: id, group: "main", dir: filepath.Join(t.TempDir(), "node")}, gateOptions{}, sites, newRegistry(), l.log)
		if err != nil {
			t.Fatal(err)
		}
		node.start(t.Context(), l.parts, l.log)
	}
	l.await(t, "all nodes have entered", func(v *cluster.View) bool { return v.Entered() == n })
	return l
}

// await waits for a state of the site.
func (l *lab) await(t *testing.T, what string, is func(*cluster.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.client.Follow(ctx, "www", is); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (l *lab) view(t *testing.T) *cluster.View {
	t.Helper()
	v, err := l.client.Observe(t.Context(), "www")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// session is one for the lab's store.
func (l *lab) session() *session {
	s := newSession(l.client, "www", "", nil)
	s.store = l.store
	return s
}

// patient waits for everything.
func patient() askOptions {
	return askOptions{ifEpoch: anyEpoch, wait: true, timeout: 20 * time.Second}
}

// publish publishes a directory, and returns what was reported, too.
func (l *lab) publish(ctx context.Context, t *testing.T, o publishOptions) (outcome, string, *failure) {
	t.Helper()
	var out bytes.Buffer
	u := &ui{report: &out, last: &out, progress: newProgress(nil, false)}
	res, err := publish(ctx, l.session(), o, u)
	if err == nil {
		return res, out.String(), nil
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		t.Fatalf("publish returned %T %v", err, err)
	}
	return res, out.String(), f
}

// relman runs a command line against the lab.
func (l *lab) relman(t *testing.T, args ...string) (code exitCode, stdout, stderr string) {
	t.Helper()
	return relman(t, append(args, "--endpoints", l.url)...)
}

// ends ends the request that is under way, as a manager would.
func (l *lab) ends(t *testing.T, r cluster.Result) {
	t.Helper()
	lead, err := l.client.Campaign(t.Context(), "t", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lead.Resign(context.WithoutCancel(t.Context())) }()
	if _, err := l.client.Commit(t.Context(), cluster.End(lead.Fence(), l.view(t), r)); err != nil {
		t.Fatal(err)
	}
}

// site writes a build of some pages.
func site(t *testing.T, pages ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%d.html", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
