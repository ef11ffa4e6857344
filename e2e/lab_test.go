package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lab is a cluster of real processes: three etcd members, an S3 server,
// managers and agents, each of which can be killed and started again.
type lab struct {
	dir       string
	endpoints string
	store     string
	env       []string // what every relman process gets
	etcd      []*process

	storeProcess *process
	managers     map[string]*process
	agents       map[string]*process
	addrs        map[string]string // of the agents' sites
	admins       map[string]string // and where they answer for themselves
}

// freePorts finds ports that nothing listens on. They are below those that the
// kernel gives to outgoing connections, so that none is taken in the meantime.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for try := 0; len(ports) < n; try++ {
		if try == 1000 {
			t.Fatal("no free ports")
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(18_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// newLab starts etcd, the store and one site; managers and agents are for the
// test to start.
func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabVia(t, func(addr string) string { return addr })
}

// newLabVia is newLab with something in front of the store: via says at which
// address that is.
func newLabVia(t testing.TB, via func(addr string) string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), managers: map[string]*process{}, agents: map[string]*process{}, addrs: map[string]string{}, admins: map[string]string{}}
	p := freePorts(t, 7)
	var cluster, clients []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("e%d=http://127.0.0.1:%d", i, p[i]))
		clients = append(clients, fmt.Sprintf("http://127.0.0.1:%d", p[3+i]))
	}
	for i := range 3 {
		_, peer, _ := strings.Cut(cluster[i], "=")
		l.etcd = append(l.etcd, start(t, fmt.Sprintf("etcd %d", i), nil, programs(t).etcd,
			"--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(l.dir, fmt.Sprintf("etcd-%d", i)),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--listen-client-urls", clients[i], "--advertise-client-urls", clients[i],
			"--initial-cluster", strings.Join(cluster, ","), "--log-level", "error"))
	}
	l.endpoints = strings.Join(clients, ",")
	addr := fmt.Sprintf("127.0.0.1:%d", p[6])
	l.store = fmt.Sprintf("s3://relman?endpoint=http://%s&region=us-east-1&path-style=true", via(addr))
	l.env = []string{
		"RELMAN_ENDPOINTS=" + l.endpoints, "ETCDCTL_ENDPOINTS=" + l.endpoints,
		"AWS_ACCESS_KEY_ID=lab", "AWS_SECRET_ACCESS_KEY=lab-secret-lab-secret",
	}
	l.storeProcess = start(t, "relman store", l.env, programs(t).relman, "store", filepath.Join(l.dir, "store"), "--addr", addr, "--bucket", "relman")
	eventually(t, 30*time.Second, "etcd and the store are up", func() error {
		r := run(t, l.env, programs(t).relman, "admin", "site", "add", "www", "--store", l.store)
		if r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.stderr)
		}
		return nil
	})
	return l
}

// manager starts a manager, again if it was killed.
func (l *lab) manager(t testing.TB, id string) {
	t.Helper()
	l.managers[id] = start(t, "manager "+id, l.env, programs(t).relman, "manager", "--id", id, "--addr", "127.0.0.1:0", "--store", l.store)
}

// agent starts an agent, again on the same directory if it was killed.
func (l *lab) agent(t testing.TB, id string, env ...string) {
	t.Helper()
	l.agentOf(t, id, "main", env...)
}

// agentOf is agent for a node of a group.
func (l *lab) agentOf(t testing.TB, id, group string, env ...string) {
	t.Helper()
	if l.addrs[id] == "" {
		p := freePorts(t, 2)
		l.addrs[id], l.admins[id] = fmt.Sprintf("127.0.0.1:%d", p[0]), fmt.Sprintf("127.0.0.1:%d", p[1])
	}
	l.agents[id] = start(t, "agent "+id, append(env, l.env...), programs(t).relman, "agent", "--node-id", id, "--group", group,
		"--dir", filepath.Join(l.dir, id), "--addr", l.addrs[id], "--admin-addr", l.admins[id])
}

// relman runs a command against the lab; it has to succeed.
func (l *lab) relman(t testing.TB, args ...string) result {
	t.Helper()
	return must(t, l.env, programs(t).relman, args...)
}

// leader is the id of the manager that leads.
func (l *lab) leader(t testing.TB) string {
	t.Helper()
	r := must(t, l.env, programs(t).etcdctl, "get", "--prefix", "/relman/v1/election", "--sort-by=CREATE", "--limit=1", "--print-value-only")
	for id := range l.managers {
		if strings.Contains(r.stdout, id) {
			return id
		}
	}
	return ""
}

// get asks a node for a path of a site's release.
func (l *lab) get(node, path string) (*http.Response, error) {
	return client.Get("http://" + l.addrs[node] + path)
}

// expectRelease waits until a node shows a release.
func (l *lab) expectRelease(t testing.TB, node, id string) {
	t.Helper()
	eventually(t, 30*time.Second, node+" shows "+id, func() error {
		resp, err := l.get(node, "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Relman-Release"); got != id || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s with release %q", resp.Status, got)
		}
		return nil
	})
}

// publish publishes a build and returns the id of its release.
func (l *lab) publish(t testing.TB, dir string, args ...string) string {
	t.Helper()
	r := l.relman(t, append([]string{"publish", dir, "-s", "www", "-o", "json"}, args...)...)
	var out struct{ Release string }
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || out.Release == "" {
		t.Fatalf("publish printed %q: %v", r.stdout, err)
	}
	return out.Release
}

// activeRelease is what etcd says is active.
func (l *lab) activeRelease(t testing.TB) string {
	t.Helper()
	out := must(t, l.env, programs(t).etcdctl, "get", "/relman/v1/sites/www/active", "--print-value-only").stdout
	var a struct{ Release string }
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("active is %q: %v", out, err)
	}
	return a.Release
}

// waitNodes waits until every node lives and has entered the site.
func (l *lab) waitNodes(t testing.TB, nodes []string) {
	t.Helper()
	eventually(t, 30*time.Second, "all nodes have entered", func() error {
		claims := must(t, l.env, programs(t).etcdctl, "get", "--prefix", "/relman/v1/sites/www/ready/0/", "--keys-only").stdout
		live := must(t, l.env, programs(t).etcdctl, "get", "--prefix", "/relman/v1/nodes/", "--keys-only").stdout
		for _, n := range nodes {
			if !strings.Contains(claims, "/"+n+"\n") || !strings.Contains(live, "/"+n+"/live\n") {
				return fmt.Errorf("%s has not entered:\n%s%s", n, claims, live)
			}
		}
		return nil
	})
}
