//go:build compose

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// composition is the cluster of docker-compose.yml in a project of the test's
// own; the images are there already (make images).
type composition struct {
	relman  string // the program that the images hold
	host    string // HOST_ADDRESS
	env     []string
	ctx     context.Context
	project string
}

// TestCompose starts the whole of docker-compose.yml, publishes from the host,
// takes a manager and an etcd member away, and publishes again.
func TestCompose(t *testing.T) {
	c := compose(t)
	c.run(t, "up", "-d")
	c.expectHealthy(t)

	must(t, c.env, c.relman, "admin", "site", "add", "www")
	first := c.publish(t, filepath.Join("sample", "v1"))
	c.expectActive(t, "etcd1", first)

	leader := c.leader(t)
	t.Logf("stop %s, which leads, and etcd3", leader)
	c.run(t, "stop", "--timeout", "10", leader, "etcd3")
	second := c.publish(t, filepath.Join("sample", "v2"))
	if second == first {
		t.Errorf("both builds became %s", first)
	}
	c.expectActive(t, "etcd2", second)
	if now := c.leader(t); now == leader {
		t.Errorf("%s leads, and was stopped", now)
	}
}

// compose prepares the project, and removes it with all that it stored when
// the test ends, however it ends.
func compose(t *testing.T) *composition {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	c := &composition{relman: filepath.Join("..", "bin", "relman"), ctx: ctx, project: fmt.Sprintf("relman-e2e-%d", os.Getpid())}
	// A loopback address of its own: the usual ports of the usual one may be
	// taken.
	c.host = fmt.Sprintf("127.%d.%d.1", 1+rand.IntN(254), rand.IntN(256))
	c.env = hostEnv(t, c.host)
	t.Cleanup(func() {
		var stop context.CancelFunc
		c.ctx, stop = context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if t.Failed() {
			out, err := c.command("logs", "--no-color", "--tail", "40").CombinedOutput()
			t.Logf("%v\n%s", err, out)
		}
		c.run(t, "down", "-v", "--timeout", "5")
	})
	return c
}

// hostEnv is what deploy/compose.env says.
func hostEnv(t *testing.T, host string) []string {
	t.Helper()
	cmd := exec.Command("sh", "-c", ". ../deploy/compose.env && env")
	cmd.Env = append(cleanEnv(t), "HOST_ADDRESS="+host)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "RELMAN_") || strings.HasPrefix(line, "AWS_") {
			env = append(env, line)
		}
	}
	return env
}

// command is docker-compose where it is installed, else the plugin.
func (c *composition) command(args ...string) *exec.Cmd {
	name := []string{"docker-compose"}
	if _, err := exec.LookPath(name[0]); err != nil {
		name = []string{"docker", "compose"}
	}
	args = append(append(name[1:], "--project-name", c.project, "--file", filepath.Join("..", "docker-compose.yml")), args...)
	cmd := exec.CommandContext(c.ctx, name[0], args...)
	cmd.Env = append(os.Environ(), "HOST_ADDRESS="+c.host)
	return cmd
}

// run runs a command of docker-compose, and returns its output.
func (c *composition) run(t *testing.T, args ...string) string {
	t.Helper()
	start := time.Now()
	cmd := c.command(args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker-compose %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	t.Logf("docker-compose %s: %s", strings.Join(args, " "), time.Since(start).Round(100*time.Millisecond))
	return string(out)
}

// expectHealthy waits until every container that has a health check passes it.
func (c *composition) expectHealthy(t *testing.T) {
	t.Helper()
	ids := strings.Fields(c.run(t, "ps", "-q"))
	format := "{{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"
	eventually(t, time.Minute, "all containers are healthy", func() error {
		out, err := exec.CommandContext(c.ctx, "docker", append([]string{"inspect", "--format", format}, ids...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if n := strings.Count(string(out), " healthy"); n < 10 || n+strings.Count(string(out), " none") != len(ids) {
			return errors.New(string(out))
		}
		return nil
	})
}

// publish publishes a build from the host and compares what every node serves
// with it.
func (c *composition) publish(t *testing.T, build string) (release string) {
	t.Helper()
	r := must(t, c.env, c.relman, "publish", build, "--timeout", "60s")
	t.Logf("relman publish %s\n%s%s", build, r.stderr, r.stdout)
	_, release, ok := strings.Cut(strings.TrimSpace(r.stdout), "LIVE       www = ")
	if !ok {
		t.Fatalf("publish %s does not say what is live:\n%s", build, r.stdout)
	}
	var nodes []string
	for port := 8081; port <= 8084; port++ {
		nodes = append(nodes, fmt.Sprintf("http://%s:%d", c.host, port))
	}
	compare(t, "www.localhost", build, nodes)
	return release
}

// etcdctl runs etcdctl inside the container of a member.
func (c *composition) etcdctl(t *testing.T, member string, args ...string) string {
	t.Helper()
	return c.run(t, append([]string{"exec", "-T", member, "etcdctl"}, args...)...)
}

func (c *composition) expectActive(t *testing.T, member, release string) {
	t.Helper()
	active := c.etcdctl(t, member, "get", "/relman/v1/sites/www/active")
	t.Logf("%s", active)
	if !strings.Contains(active, `"release":"`+release+`"`) {
		t.Errorf("etcd does not say that %s is active:\n%s", release, active)
	}
}

// leader is the manager that holds the oldest key of the election.
func (c *composition) leader(t *testing.T) string {
	t.Helper()
	value := c.etcdctl(t, "etcd1", "get", "--prefix", "/relman/v1/election", "--sort-by=CREATE", "--limit=1", "--print-value-only")
	for _, m := range []string{"manager1", "manager2"} {
		if strings.Contains(value, m) {
			return m
		}
	}
	t.Fatalf("nobody leads: %q", value)
	return ""
}
