package nodeagent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"relman/cluster"
)

func get(t testing.TB, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func TestAgent_metricsAndHealth(t *testing.T) {
	n := newNode(t)
	n.etcd.setMember(cluster.MemberOut)
	n.start()
	admin := n.agent.AdminHandler()
	n.until("says why it is not ready", func() error {
		if code, body := get(t, admin, "/readyz"); code != 503 || body != "site www: put out\n" {
			return fmt.Errorf("%d %q", code, body)
		}
		return nil
	})
	if code, body := get(t, admin, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	n.etcd.setMember(cluster.MemberIn)
	b := firstBuild()
	n.rollOut(b)
	n.rollOut(b.with("index.html", "two"))
	if code, body := get(t, admin, "/readyz"); code != 200 || body != "ready\n" {
		t.Errorf("%d %q", code, body)
	}
	reg := prometheus.NewRegistry()
	for _, c := range n.agent.Collectors() {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	_, text := get(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "/metrics")
	for _, line := range []string{
		`relman_node_epoch{site="www"} 2`,
		`relman_node_ready{site="www"} 1`,
		`relman_watch_missed_total 0`,
		`relman_prefetch_seconds_count 2`,
		fmt.Sprintf(`relman_fill_files_total{how="fetch"} %d`, len(b)+1),
		fmt.Sprintf(`relman_fill_files_total{how="link"} %d`, len(b)-1),
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
}

// TestNode_progress: a long fill tells how far it is.
func TestNode_progress(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	goOn := make(chan struct{})
	proceed := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(proceed) // before the node is halted
	n.setPoint(func(name string) error {
		if name == "node.mid-fetch" {
			<-goOn
		}
		return nil
	})
	// Frames are drawn at once, the contents of one after each other.
	r := n.publish(b.with("a/1", "one").with("a/2", "two"))
	n.etcd.startRollout(r.Manifest.ID())
	n.until("tells", func() error {
		p := n.status().Preparing
		if p == nil || p.Release != r.Manifest.ID() || p.Total != r.Manifest.Bytes || p.Done <= 0 || p.Done >= p.Total {
			return fmt.Errorf("%+v of %d", p, r.Manifest.Bytes)
		}
		return nil
	})
	proceed()
	n.claimed()
	n.until("is done", func() error {
		if p := n.status().Preparing; p != nil {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}
