package manager

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"relman/cluster"
)

// TestMetrics: what a leader counts during a publish, and that it forgets what
// it saw when it leads no more.
func TestMetrics(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, stop := w.manager("m1")
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(m.Collectors()...)
		w.nodes(3, time.Second)
		dies := w.node("web-9", time.Second)
		w.until("web-9 has entered", func(v *cluster.View) bool { return v.Entered() == 4 })
		w.put(cluster.StatusKey("web-1", www), cluster.Status{State: cluster.NodeServing})
		w.put(cluster.StatusKey("web-2", www), cluster.Status{State: "dreaming"})
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		dies()
		synctest.Wait()
		expect(t, registry, `
			relman_manager_leader 1
			relman_site_epoch{site="www"} 1
			relman_rollout_in_flight{site="www"} 0
			relman_flips_total{kind="publish",site="www"} 1
			relman_flip_seconds_count 1
			relman_rollout_seconds_count 1
			relman_rollout_seconds_sum 1
			relman_nodes{site="www",state="serving"} 1
			relman_nodes{site="www",state="other"} 1
			relman_nodes{site="www",state="silent"} 1
			relman_nodes{site="www",state="dead"} 1
			relman_nodes{site="www",state="syncing"} 0`)
		w.setFault(func(txn cluster.Txn) error {
			if strings.HasPrefix(txn.Name, "start") && w.lastTouch("/refused").revision == 0 {
				w.put("/refused", "once")
				return &cluster.Refusal{Guard: cluster.Guard{Class: cluster.ClassActiveMoved}}
			}
			return nil
		})
		w.publish(2)
		synctest.Wait()
		expect(t, registry, `relman_rollout_in_flight{site="www"} 1
			relman_refusals_total{class="E_ACTIVE_MOVED"} 1`)
		stop()
		expect(t, registry, `relman_manager_leader 0
			relman_flips_total{kind="publish",site="www"} 1`)
		for _, gauge := range []string{"relman_site_epoch", "relman_nodes", "relman_rollout_in_flight"} {
			if strings.Contains(exposition(t, registry), gauge+"{") {
				t.Errorf("%s is still told without a leadership", gauge)
			}
		}
	})
}

func exposition(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// expect looks for lines of the text exposition.
func expect(t *testing.T, g prometheus.Gatherer, lines string) {
	t.Helper()
	text := exposition(t, g)
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		if line = strings.TrimSpace(line); !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
}
