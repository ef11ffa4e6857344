package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// nodeTTL is how long etcd takes a node for alive that says nothing.
const nodeTTL = 15 * time.Second

// leaseSlack is what etcd takes beyond that to end a lease, and what the test
// itself takes.
const leaseSlack = 2 * time.Second

// four starts a manager and four nodes with one release active, and sets the
// site's policy.
func four(t *testing.T, fence time.Duration, policy ...string) *lab {
	t.Helper()
	l := newLab(t)
	l.relman(t, append([]string{"admin", "policy", "set", "www", "--fence", fence.String()}, policy...)...)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2", "n3", "n4"}
	for _, n := range nodes {
		l.agent(t, n, "RELMAN_AGENT_FENCE="+fence.String())
	}
	l.waitNodes(t, nodes)
	l.publish(t, filepath.Join("sample", "v1"))
	l.waitReady(t, nodes...)
	return l
}

// client connects to the lab's etcd.
func (l *lab) client(t *testing.T) *cluster.Client {
	t.Helper()
	c, err := cluster.Dial(t.Context(), cluster.Config{Endpoints: strings.Split(l.endpoints, ",")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// active is what is active, and whose claims it rests on.
func (l *lab) active(t *testing.T) cluster.Active {
	t.Helper()
	out := must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/active", "--print-value-only").stdout
	var a cluster.Active
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("active is %q: %v", out, err)
	}
	return a
}

// member is what the leader says of a node, and its claims.
func (l *lab) member(t *testing.T, node string) (state string, claims int) {
	t.Helper()
	state = must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/members/"+node, "--print-value-only").stdout
	keys := must(t, l.env, programs(t).etcdctl, "get", "--prefix", "/relman/v1/sites/www/ready/", "--keys-only").stdout
	return strings.TrimSpace(state), strings.Count(keys, "/"+node+"\n")
}

func (l *lab) isIn(t *testing.T, within time.Duration, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, within, n+" counts again", func() error {
			if state, claims := l.member(t, n); state != "in" || claims == 0 {
				return fmt.Errorf("it is %s with %d claims", state, claims)
			}
			return nil
		})
	}
}

// TestDeadNode: a dead node delays a flip by its lease and its fence at most,
// and the next one not at all. When it comes back it catches up, and counts
// again, without a hand.
func TestDeadNode(t *testing.T) {
	patient(t)
	t.Parallel()
	const fence = 3 * time.Second
	fenceWait := cluster.Policy{FenceSeconds: 3}.FenceWait(0)
	l := four(t, fence)
	began := time.Now()
	l.publish(t, generatedSite(t, 1))
	usual := time.Since(began)

	l.agents["n4"].kill()
	killed := time.Now()
	l.publish(t, generatedSite(t, 2))
	a := l.active(t)
	delay := a.At.Sub(killed)
	if !slices.Equal(a.Quorum.Without, []release.NodeID{"n4"}) || a.Quorum.Claims != 3 {
		t.Errorf("evidence: %+v", a.Quorum)
	}
	began = time.Now()
	third := l.publish(t, generatedSite(t, 3))
	next := time.Since(began)
	t.Logf("a publish took %s; the flip came %s after the death of a node (its lease is %s, the fence wait %s); the next publish took %s",
		usual.Round(time.Millisecond), delay.Round(time.Millisecond), nodeTTL, fenceWait, next.Round(time.Millisecond))
	if most := nodeTTL + fenceWait + leaseSlack; delay > most {
		t.Errorf("the flip came %s after the death, want at most %s", delay, most)
	}
	if next > usual+3*time.Second {
		t.Errorf("the next publish took %s, with all nodes it took %s", next, usual)
	}

	began = time.Now()
	l.agent(t, "n4", "RELMAN_AGENT_FENCE="+fence.String())
	l.isIn(t, time.Minute, "n4")
	t.Logf("it counted again %s after its start", time.Since(began).Round(time.Millisecond))
	l.waitReady(t, "n4")
	l.expectRelease(t, "n4", third)
	if r := run(t, l.env, programs(t).relman, "verify", "--node", "n4"); r.code != 0 {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.publish(t, generatedSite(t, 4))
	if a := l.active(t); a.Quorum.Claims != 4 || len(a.Quorum.Without) > 0 {
		t.Errorf("evidence: %+v", a.Quorum)
	}
}

// TestFlappingNode: a node that is killed every five seconds, and starts again at
// once, and never gets a release fetched, holds up a flip for the grace at most.
func TestFlappingNode(t *testing.T) {
	patient(t)
	t.Parallel()
	const grace = 20 * time.Second
	l := four(t, 10*time.Second, "--grace", grace.String())
	ctx, stop := context.WithCancel(t.Context())
	var flapping sync.WaitGroup
	flapping.Go(func() {
		for ctx.Err() == nil {
			l.agents["n4"].kill()
			l.agent(t, "n4", "RELMAN_FAILPOINTS=node.mid-fetch=sleep:10m")
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	})
	defer flapping.Wait()
	defer stop()

	c := l.client(t)
	for i := range 2 {
		publisher := start(t, "publisher", l.env, programs(t).relman, "publish", generatedSite(t, i+1))
		var ready, flipped time.Time
		err := c.Follow(t.Context(), "www", func(v *cluster.View) bool {
			r := v.Rollout
			if r.Exists() && ready.IsZero() && len(v.Ready(r.Value.Buffer, r.Value.Release).Ready) == 3 {
				ready = time.Now()
			}
			if int(v.Active.Value.Epoch) == i+2 {
				flipped = time.Now()
			}
			return !flipped.IsZero()
		})
		if err != nil {
			t.Fatal(err)
		}
		<-publisher.done
		if publisher.err != nil {
			t.Fatalf("publish: %v\n%s", publisher.err, publisher.output())
		}
		hold := time.Duration(0) // the flip may come before the third claim was seen
		if !ready.IsZero() {
			hold = flipped.Sub(ready)
		}
		t.Logf("flip %d: it was held up for %s, the grace is %s", i+1, hold.Round(time.Millisecond), grace)
		if most := []time.Duration{grace, time.Second}[i]; hold > most {
			t.Errorf("flip %d was held up for %s, want at most %s", i+1, hold, most)
		}
	}
	if a := l.active(t); !slices.Equal(a.Quorum.Without, []release.NodeID{"n4"}) {
		t.Errorf("evidence: %+v", a.Quorum)
	}
}

// TestThreeOfFourDead: a publish is refused with exit 6 and the list of nodes, and
// what is active stays; told to, a flip does without them, and the history says so. They
// come back by themselves.
func TestThreeOfFourDead(t *testing.T) {
	patient(t)
	t.Parallel()
	const fence = 3 * time.Second
	l := four(t, fence, "--grace", "5s")
	first := l.activeRelease(t)
	lost := []string{"n2", "n3", "n4"}
	for _, n := range lost {
		l.agents[n].kill()
	}
	began := time.Now()
	r := run(t, l.env, programs(t).relman, "publish", filepath.Join("sample", "v2"))
	said := r.stdout + r.stderr
	if r.code != 6 || strings.Contains(said, "LIVE") || !strings.Contains(said, "1 of 4 registered nodes ready, 2 needed, 1 may be out") {
		t.Fatalf("exit %d\n%s", r.code, said)
	}
	for _, n := range lost {
		if !strings.Contains(said, n+": no live session") {
			t.Errorf("it does not name %s:\n%s", n, said)
		}
	}
	t.Logf("exit %d after %s: %s", r.code, time.Since(began).Round(time.Millisecond), r.stderr)
	if now := l.activeRelease(t); now != first {
		t.Errorf("%s is active", now)
	}
	for _, n := range lost {
		if state, claims := l.member(t, n); state != "in" || claims == 0 {
			t.Errorf("%s is %s with %d claims: put out for nothing", n, state, claims)
		}
	}
	l.expectRelease(t, "n1", first)

	r = l.relman(t, "flip", "latest", "--override=require", "-m", "three machines burnt")
	t.Log(r.stdout)
	second := l.activeRelease(t)
	if second == first {
		t.Fatal("nothing has flipped")
	}
	l.expectRelease(t, "n1", second)
	var history []cluster.Active
	if err := json.Unmarshal([]byte(l.relman(t, "history", "-n", "1", "-o", "json").stdout), &history); err != nil || len(history) != 1 {
		t.Fatalf("%d epochs, %v", len(history), err)
	}
	if h := history[0]; !slices.Equal(h.Override, []cluster.Override{cluster.OverrideRequire}) || len(h.Quorum.Without) != 3 || h.Quorum.Claims != 1 {
		t.Errorf("history: %+v", h)
	}
	t.Log(l.relman(t, "history", "-n", "1").stdout)
	for _, n := range lost {
		l.agent(t, n, "RELMAN_AGENT_FENCE="+fence.String())
	}
	l.isIn(t, time.Minute, lost...)
	for _, n := range lost {
		l.expectRelease(t, n, second)
	}
}

// TestDrain: a node that is drained is not ready, is out, can be stopped, misses
// nothing, and counts again when it is let in.
func TestDrain(t *testing.T) {
	t.Parallel()
	l := four(t, 3*time.Second)
	began := time.Now()
	l.relman(t, "nodes", "drain", "n4", "-m", "new disk")
	t.Logf("drained within %s", time.Since(began).Round(time.Millisecond))
	if ok, why := l.ready("n4"); ok || !strings.Contains(why, "put out") {
		t.Errorf("ready %v: %s", ok, why)
	}
	l.agents["n4"].stop(t)
	second := l.publish(t, filepath.Join("sample", "v2"))
	l.agent(t, "n4", "RELMAN_AGENT_FENCE=3s")
	l.expectRelease(t, "n4", second)
	if ok, why := l.ready("n4"); ok {
		t.Errorf("ready %v: %s", ok, why)
	}
	l.relman(t, "nodes", "uncordon", "n4")
	l.isIn(t, time.Minute, "n4")
	l.waitReady(t, "n4")
}

// TestDuplicateNode: a second agent with the id of one that lives is not let in,
// and both it and whoever asks it are told.
func TestDuplicateNode(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	l.agent(t, "n1")
	l.waitNodes(t, []string{"n1"})
	l.publish(t, filepath.Join("sample", "v1"))
	l.waitReady(t, "n1")
	p := freePorts(t, 2)
	l.admins["twin"] = fmt.Sprintf("127.0.0.1:%d", p[1])
	twin := start(t, "twin", l.env, programs(t).relman, "agent", "--node-id", "n1", "--dir", filepath.Join(l.dir, "twin"),
		"--addr", fmt.Sprintf("127.0.0.1:%d", p[0]), "--admin-addr", l.admins["twin"])
	eventually(t, 30*time.Second, "the twin says what is wrong", func() error {
		if ok, why := l.ready("twin"); ok || !strings.Contains(why, "E_DUPLICATE_NODE: n1 is held by boot ") || !strings.Contains(why, l.addrs["n1"]) {
			return fmt.Errorf("ready %v: %s", ok, why)
		}
		if !strings.Contains(twin.output(), "another process with this node id is alive") {
			return errors.New("its log does not say it")
		}
		return nil
	})
	if ok, why := l.ready("n1"); !ok {
		t.Errorf("the first one is not ready: %s", why)
	}
}
