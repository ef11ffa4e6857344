package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// expectCommand runs a command line and checks how it ends and what it says.
func (l *lab) expectCommand(t *testing.T, code exitCode, says string, args ...string) string {
	t.Helper()
	got, out, errs := l.relman(t, args...)
	if got != code || !strings.Contains(out+errs, says) {
		t.Errorf("relman %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
	}
	return out
}

// TestNodes_drain: an operator takes nodes out of the count and lets them in
// again; a node that is gone is forgotten.
func TestNodes_drain(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 3)
	if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a")}); f != nil {
		t.Fatal(f)
	}
	l.expectCommand(t, exitOK, "drained n3", "nodes", "drain", "n3", "-m", "new disk")
	v := l.view(t)
	if v.Members["n3"].Value != cluster.MemberOut || v.Entered() != 2 || v.Cordons["n3"].Value.Reason != "new disk" {
		t.Errorf("%s, %d count, %+v", v.Members["n3"].Value, v.Entered(), v.Cordons)
	}
	l.expectCommand(t, exitOK, "new disk", "nodes")
	l.expectCommand(t, exitOK, "1 out", "status")
	out, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "b")})
	if f != nil || *out.Ready != (count{2, 3}) || !strings.Contains(report, "2/3 nodes, without n3") {
		t.Errorf("%+v %v\n%s", out, f, report)
	}
	l.expectCommand(t, exitOK, "(without n3)", "history")

	l.expectCommand(t, exitNotReady, "--force", "nodes", "cordon", "n2") // two of three are needed
	var r memberReport
	if err := json.Unmarshal([]byte(l.expectCommand(t, exitOK, "", "node", "cordon", "n2", "--force", "-o", "json")), &r); err != nil || r.Node != "n2" || len(r.Sites) != 1 {
		t.Errorf("%+v %v", r, err)
	}
	l.await(t, "n2 is out", func(v *cluster.View) bool { return v.Members["n2"].Value == cluster.MemberOut })
	l.expectCommand(t, exitConflict, "alive", "nodes", "remove", "n2")
	for _, n := range []string{"n2", "n3"} {
		l.expectCommand(t, exitOK, "uncordoned "+n, "nodes", "uncordon", n)
	}
	l.await(t, "all count again", func(v *cluster.View) bool { return v.Entered() == 3 })
	l.expectCommand(t, exitUsage, "no node n9", "nodes", "drain", "n9")
	l.expectCommand(t, exitUsage, "no site shop", "nodes", "drain", "n1", "-s", "shop")
	l.expectCommand(t, exitUsage, "leave out -s", "nodes", "remove", "n1", "-s", "www")
}

// TestNodes_approveAndRemove: where the policy wants approval a node waits for it;
// one that is gone for good is forgotten, once it is out.
func TestNodes_approveAndRemove(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 1)
	l.expectCommand(t, exitOK, "approve", "admin", "policy", "set", "www", "--admission", "approve", "--fence", "1s", "--min", "1")
	n := l.client.Node(cluster.Self{Node: "n7"}, cluster.Live{Boot: cluster.NewULID()}, cluster.Join{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	l.await(t, "n7 lives", func(v *cluster.View) bool { _, live := v.Live["n7"]; return live })
	if v := l.view(t); v.Members["n7"].Exists() {
		t.Error("admitted without approval")
	}
	l.expectCommand(t, exitOK, "approved of n7", "nodes", "approve", "n7")
	l.await(t, "n7 is a member", func(v *cluster.View) bool { return v.Members["n7"].Value == cluster.MemberIn })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	l.expectCommand(t, exitOK, "removed n7", "nodes", "remove", "n7")
	v := l.view(t)
	if _, joined := v.Joins["n7"]; joined || v.Members["n7"].Exists() || v.Cordons["n7"].Exists() {
		t.Errorf("something is left of n7: %+v", v.Members)
	}
}

// TestPolicy: what is given changes, and nothing else; what makes no sense is
// refused.
func TestPolicy(t *testing.T) {
	l := newLab(t)
	l.expectCommand(t, exitOK, "50% of the registered nodes", "admin", "policy", "show", "www")
	var r policyReport
	out := l.expectCommand(t, exitOK, "", "admin", "policy", "set", "www", "--max-out", "2", "--grace", "30s", "--require-live", "-o", "json")
	want := cluster.DefaultPolicy()
	want.MostOutNodes, want.GraceSeconds, want.RequireLive = "2", 30, true
	if err := json.Unmarshal([]byte(out), &r); err != nil || !reflect.DeepEqual(r.Policy, want) || !reflect.DeepEqual(l.view(t).Policy.Value, want) {
		t.Errorf("%+v %v", r, err)
	}
	for says, args := range map[string][]string{
		`min is "most"`:        {"--min", "most"},
		`max_out is "-1"`:      {"--max-out", "-1"},
		"whole seconds":        {"--grace", "1500ms"},
		"fence_s is 7200":      {"--fence", "2h"},
		`stragglers is "kill"`: {"--stragglers", "kill"},
		"buffers is 9":         {"--buffers", "9"},
	} {
		l.expectCommand(t, exitUsage, says, append([]string{"admin", "policy", "set", "www"}, args...)...)
		l.expectCommand(t, exitUsage, says, append([]string{"admin", "site", "add", "shop"}, args...)...)
	}
	l.expectCommand(t, exitOK, "", "admin", "policy", "set", "www", "--buffers", "4")
	l.expectCommand(t, exitError, "it can only grow", "admin", "policy", "set", "www", "--buffers", "3")
	if p := l.view(t).Policy.Value; p.Buffers != 4 || p.MostOutNodes != "2" {
		t.Errorf("%+v", p)
	}
}

// TestOverride: rules can be got past by name, and the history says so.
func TestOverride(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 2)
	for _, text := range []string{"a", "b"} {
		if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, text)}); f != nil {
			t.Fatal(f)
		}
	}
	l.expectCommand(t, exitOK, "BAD", "release", "bad", "1", "-m", "404s")
	l.expectCommand(t, exitConflict, "is bad: 404s", "flip", "1")
	l.expectCommand(t, exitOK, "LIVE", "flip", "1", "--override=verdict")
	l.expectCommand(t, exitOK, "FROZEN", "freeze", "-m", "sale")
	l.expectCommand(t, exitFrozen, "--override=freeze", "flip", "2")
	l.expectCommand(t, exitOK, "LIVE", "flip", "2", "--override", "freeze,require")
	l.expectCommand(t, exitOK, "UNFROZEN", "unfreeze")
	var history []cluster.Active
	if err := json.Unmarshal([]byte(l.expectCommand(t, exitOK, "", "history", "-o", "json")), &history); err != nil || len(history) != 4 {
		t.Fatalf("%v: %d epochs", err, len(history))
	}
	if got := history[0].Override; len(got) != 2 || got[0] != cluster.OverrideFreeze || got[1] != cluster.OverrideRequire {
		t.Errorf("history: %v", got)
	}
	l.expectCommand(t, exitOK, "overriding freeze and require", "history")
	l.expectCommand(t, exitOK, "CLEARED", "releases", "clear", "1")
	l.expectCommand(t, exitOK, "UNCHANGED", "releases", "clear", "1")
	l.expectCommand(t, exitOK, "which is active", "releases", "yank", "2", "-m", "it leaks a key")
	l.expectCommand(t, exitOK, "LIVE", "flip", "1", "--require", "all")
	l.expectCommand(t, exitNotReady, "3 needed", "flip", "2", "--override=verdict", "--require", "3", "--timeout", "2s")
	for says, args := range map[string][]string{
		`--require is "most"`:  {"--require", "most"},
		`"clock"`:              {"--override", "clock"},
		"only require, freeze": {"--override", ""},
		"no release 9":         {"--if-active", "9"},
		"--timeout":            {"--timeout", "soon"},
		"an epoch is a number": {"--if-epoch", "-3"},
	} {
		l.expectCommand(t, exitUsage, says, append([]string{"flip", "1"}, args...)...)
	}
}

// TestPinAndFreezeFor: a pin keeps a release and shows; a freeze says until
// when it stands, and ends by itself.
func TestPinAndFreezeFor(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 1)
	out, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a")})
	if f != nil {
		t.Fatal(f)
	}
	l.expectCommand(t, exitOK, "PINNED", "releases", "pin", "1", "-m", "for the auditors")
	if why := l.view(t).Pins[out.Release].Value; why != "for the auditors" {
		t.Errorf("pinned: %q", why)
	}
	l.expectCommand(t, exitOK, "for the auditors", "releases", "show", "1")
	l.expectCommand(t, exitOK, "UNPINNED", "releases", "unpin", "1")
	l.expectCommand(t, exitOK, "UNCHANGED", "releases", "unpin", "1")
	l.expectCommand(t, exitUsage, "give a reason", "releases", "pin", "1", "-m", "")
	l.expectCommand(t, exitUsage, "no release 7", "releases", "pin", "7")

	l.expectCommand(t, exitUsage, "--for", "freeze", "--for", "5ms")
	began := time.Now()
	l.expectCommand(t, exitOK, "FROZEN", "freeze", "--for", "3s", "-m", "sale")
	l.expectCommand(t, exitOK, "(until 20", "status")
	l.expectCommand(t, exitFrozen, " until 20", "flip", string(out.Release))
	l.await(t, "the freeze ends", func(v *cluster.View) bool { return !v.Freeze.Exists() })
	if d := time.Since(began); d < 2*time.Second || d > 15*time.Second {
		t.Errorf("it stood for %s", d)
	}
	if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "b")}); f != nil {
		t.Error(f)
	}
}

// TestNodes_acceptEpochReset: nodes refuse an epoch that went back until they
// are told, one by one.
func TestNodes_acceptEpochReset(t *testing.T) {
	l := newLab(t).withManager(t)
	for _, id := range []release.NodeID{"n1", "n2"} {
		l.withAdminNode(t, id)
	}
	l.await(t, "all nodes have entered", func(v *cluster.View) bool { return v.Entered() == 2 })
	for _, text := range []string{"a", "b"} {
		if _, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, text)}); f != nil {
			t.Fatal(f)
		}
	}
	l.expectCommand(t, exitOK, "refuses nothing", "nodes", "accept-epoch-reset", "n1")
	past, err := l.client.History(t.Context(), "www", 2)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(past[1])
	if err != nil {
		t.Fatal(err)
	}
	restored := cluster.Txn{Name: "restore", Ops: []cluster.Op{{Key: cluster.ActiveKey("www"), Value: string(raw)}}}
	if _, err := l.client.Commit(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	l.await(t, "both refuse", func(v *cluster.View) bool {
		return v.Status["n1"].State == cluster.NodeRefusing && v.Status["n2"].State == cluster.NodeRefusing
	})
	l.expectCommand(t, exitOK, "accepted for n1", "node", "accept-epoch-reset", "n1")
	l.await(t, "n1 obeys", func(v *cluster.View) bool {
		s := v.Status["n1"]
		return s.State == cluster.NodeServing && s.Epoch == 1 && v.Status["n2"].State == cluster.NodeRefusing
	})
}

// withAdminNode runs a node that answers for itself, too.
func (l *lab) withAdminNode(t *testing.T, id release.NodeID) {
	t.Helper()
	sites, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := httptest.NewUnstartedServer(nil)
	o := nodeOptions{id: id, group: "main", dir: filepath.Join(t.TempDir(), "node"), admin: "http://" + admin.Listener.Addr().String()}
	n, err := newNode(l.client, l.store, o, gateOptions{}, sites, newRegistry(), l.log)
	if err != nil {
		t.Fatal(err)
	}
	admin.Config.Handler = n.agent.AdminHandler()
	admin.Start()
	t.Cleanup(admin.Close)
	n.start(t.Context(), l.parts, l.log)
}

// TestHomeCluster: a manager leads in its own cluster only.
func TestHomeCluster(t *testing.T) {
	info, err := cluster.Info{ID: "01A"}, error(nil)
	h := &homeCluster{info: func(context.Context) (cluster.Info, error) { return info, err }}
	expect := func(what, says string) {
		t.Helper()
		got := h.check(t.Context())
		if says == "" && got != nil || says != "" && (got == nil || !strings.Contains(got.Error(), says)) {
			t.Errorf("%s: %v, want %q", what, got, says)
		}
	}
	err = cluster.ErrNotFound
	expect("a cluster without a name", "")
	err = cluster.ErrUnavailable
	expect("etcd is away", "unavailable")
	err = nil
	expect("the first one", "")
	info.ID = "01B"
	expect("another one", "etcd is that of cluster 01B, this manager belongs to 01A")
	err = h.watch(t.Context(), slog.New(slog.DiscardHandler))
	if f := failureOf(err); f.code != exitUsage {
		t.Errorf("the manager ends with %v", err)
	}
}

// TestBelongsTo: what is configured has to be what the directory remembers.
func TestBelongsTo(t *testing.T) {
	dir := t.TempDir()
	if id, err := belongsTo(nodeOptions{dir: dir, cluster: "01A"}); id != "01A" || err != nil {
		t.Errorf("%q %v", id, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sites", "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sites", "www", "state.json"), []byte(`{"epoch":3,"cluster":"01B"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for configured, want := range map[string]string{"": "01B", "01B": "01B"} {
		if id, err := belongsTo(nodeOptions{dir: dir, cluster: configured}); id != want || err != nil {
			t.Errorf("%q %v", id, err)
		}
	}
	if _, err := belongsTo(nodeOptions{dir: dir, cluster: "01A"}); failureOf(err).code != exitUsage || !strings.Contains(err.Error(), "belongs to cluster 01B, not to 01A") {
		t.Errorf("error %v", err)
	}
}
