package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRealProcesses kills, in one rollout, the leading manager, an agent in
// the middle of its prefetch, and another between verification and claim. The
// rollout ends on all four nodes, and no visitor ever gets a byte that is not
// of a published build.
func TestRealProcesses(t *testing.T) {
	v1, v2 := generatedSite(t, 1), generatedSite(t, 2)
	nodes := []string{"n1", "n2", "n3", "n4"}
	l := newLab(t)
	for _, m := range []string{"m1", "m2"} {
		l.manager(t, m)
	}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	first := l.publish(t, v1)
	for _, n := range nodes {
		l.expectRelease(t, n, first)
	}

	visitor := newVisitor(t, v1, v2)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, "http://"+l.addrs[n])
	}
	visitor.visit(4, urls)

	for node, rule := range map[string]string{
		"n2": "node.mid-fetch=kill",
		"n3": "node.before-claim=kill",
		"n4": "node.mid-fetch=sleep:3s", // time to kill the leader in
	} {
		l.agents[node].stop(t)
		l.agent(t, node, "RELMAN_FAILPOINTS="+rule)
		l.expectRelease(t, node, first)
	}
	l.waitNodes(t, nodes)

	publisher := start(t, "publisher", l.env, programs(t).relman, "publish", v2, "-s", "www", "-o", "json")
	l.expectDeath(t, "n2")
	l.expectDeath(t, "n3")
	leader := l.leader(t)
	if leader == "" {
		t.Fatal("nobody leads")
	}
	if out := must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/rollout").stdout; out == "" {
		t.Fatal("the rollout ended before the leader could be killed")
	}
	l.managers[leader].kill()
	t.Logf("killed: n2 in its prefetch, n3 before its claim, manager %s during the rollout", leader)
	l.agent(t, "n2")
	l.agent(t, "n3")

	select {
	case <-publisher.done:
	case <-time.After(time.Minute):
		t.Fatalf("the publisher did not end\n%s", publisher.output())
	}
	if publisher.err != nil {
		t.Fatalf("publish: %v\n%s", publisher.err, publisher.output())
	}
	id := l.activeRelease(t)
	if id == first {
		t.Fatal("the second release is not active")
	}
	for _, n := range nodes {
		l.expectRelease(t, n, id)
	}
	visitor.end()
	t.Logf("visitor: %d bodies hashed, %d wrong; %d requests met a node that was down", visitor.bodies, len(visitor.wrong), visitor.refused)
	if len(visitor.wrong) > 0 || visitor.bodies == 0 {
		t.Fatalf("of %d bodies %d were wrong: %v", visitor.bodies, len(visitor.wrong), visitor.wrong[:min(5, len(visitor.wrong))])
	}
	verifyHistory(t, l.env)
	l.positiveControl(t, v1, v2)
}

// positiveControl proves that the visitor would have seen a wrong byte: one is
// put into what a node shows.
func (l *lab) positiveControl(t *testing.T, builds ...string) {
	t.Helper()
	page := filepath.Join(l.dir, "n1", "sites", "www", "current", "index.html")
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.Remove(page); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, content, 0o444); err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t, builds...)
	v.one("http://"+l.addrs["n1"], "index.html")
	if len(v.wrong) != 1 {
		t.Fatalf("the visitor did not notice a wrong byte: %d bodies, %v", v.bodies, v.wrong)
	}
	t.Log("positive control: a byte changed on one node was noticed")
}

// expectDeath waits until a failpoint has killed an agent.
func (l *lab) expectDeath(t *testing.T, node string) {
	t.Helper()
	select {
	case <-l.agents[node].done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s was not killed by its failpoint\n%s", node, l.agents[node].output())
	}
}

// generatedSite writes a site of 300 files; versions differ in two thirds.
func generatedSite(t testing.TB, version int) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.html"), fmt.Sprintf("<h1>version %d</h1>", version))
	for i := range 300 {
		seed := uint64(i)
		if i%3 != 0 {
			seed += uint64(version) << 32
		}
		body := make([]byte, 2000+37*i)
		for j, r := 0, rand.New(rand.NewPCG(seed, 0)); j < len(body); j++ {
			body[j] = byte(r.Uint32())
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("d%d/f%d.bin", i%7, i)), string(body))
	}
	return dir
}
