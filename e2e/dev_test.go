package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// dev is a running `relman dev`.
type dev struct {
	*process
	state string
	Ready devReady
	env   []string // lets other commands find it
}

type devReady struct {
	Etcd, Store, Front, Manager string
	Nodes                       []string
}

// startDev starts the embedded default on a state directory and waits until
// it says that it is ready.
func startDev(t testing.TB, state string, args ...string) *dev {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")
	args = append([]string{"dev", "--state", state, "--ready-file", ready, "--free-ports"}, args...)
	d := &dev{process: start(t, "relman dev", nil, programs(t).relman, args...), state: state}
	eventually(t, time.Minute, "relman dev is ready", func() error {
		select {
		case <-d.done:
			t.Fatalf("relman dev ended: %v\n%s", d.err, d.output())
		default:
		}
		b, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &d.Ready)
	})
	d.env = []string{"ETCDCTL_ENDPOINTS=" + d.Ready.Etcd}
	return d
}

// relman runs a command against the cluster; it has to succeed.
func (d *dev) relman(t testing.TB, args ...string) result {
	t.Helper()
	return must(t, d.env, programs(t).relman, args...)
}

// try runs a command against the cluster.
func (d *dev) try(t testing.TB, args ...string) result {
	t.Helper()
	return run(t, d.env, programs(t).relman, args...)
}

// siteDir is where node i (from 0) keeps a site.
func (d *dev) siteDir(i int, site string) string {
	return filepath.Join(d.state, "nodes", fmt.Sprintf("node-%d", i+1), "sites", site)
}
