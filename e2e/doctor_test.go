package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestDoctor: of a cluster of real processes that is well nothing bad is said;
// who dies is named.
func TestDoctor(t *testing.T) {
	patient(t)
	t.Parallel()
	l := newLab(t)
	l.manager(t, "m1")
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		l.agent(t, n)
	}
	l.waitNodes(t, nodes)
	l.publish(t, generatedSite(t, 1))
	doctor := func(want int, says ...string) error {
		r := run(t, l.env, programs(t).relman, "doctor")
		if r.code != want {
			return fmt.Errorf("exit %d, want %d\n%s%s", r.code, want, r.stdout, r.stderr)
		}
		for _, s := range says {
			if !strings.Contains(r.stdout, s) {
				return fmt.Errorf("it does not say %q:\n%s", s, r.stdout)
			}
		}
		t.Logf("exit %d\n%s", r.code, r.stdout)
		return nil
	}
	eventually(t, 30*time.Second, "it is well", func() error {
		return doctor(0, "ok    etcd: 3 members, ", "ok    manager: m1 ", "ok    www: 2 nodes as they should be", "ok    nodes: 2 of 2 that live are ready")
	})
	l.etcd[0].kill()
	l.agents["n2"].kill()
	l.managers["m1"].kill()
	eventually(t, time.Minute, "who died is named", func() error {
		return doctor(10, "bad   etcd: member e0 does not answer at http://", "bad   manager: none leads", "bad   www: n2 has no live session")
	})
	l.storeProcess.kill()
	if err := doctor(3, "bad   store: it cannot be asked"); err != nil {
		t.Error(err)
	}
	l.etcd[1].kill()
	eventually(t, time.Minute, "etcd has no majority", func() error {
		return doctor(3, "bad   etcd: no member knows of a leader")
	})
}
