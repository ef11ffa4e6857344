package manager

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"relman/cluster"
	"relman/release/hook"
)

// metrics are what one manager counts. What it sees of sites is shown only
// while it leads, so that a follower does not repeat what was true once.
type metrics struct {
	leader   prometheus.Gauge
	epoch    *prometheus.GaugeVec
	inFlight *prometheus.GaugeVec
	nodes    *prometheus.GaugeVec
	flips    *prometheus.CounterVec
	refusals *prometheus.CounterVec
	flip     prometheus.Histogram
	rollout  prometheus.Histogram

	sweeps     *prometheus.CounterVec
	sweptBytes prometheus.Counter
	sweptAt    prometheus.Gauge

	hooks *prometheus.CounterVec
}

func newMetrics() *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, first, factor float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(first, factor, n),
		})
	}
	m := &metrics{
		leader:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "relman_manager_leader", Help: "1 while this manager leads."}),
		epoch:    gauge("relman_site_epoch", "Epoch of the active release, as the leader sees it.", "site"),
		inFlight: gauge("relman_rollout_in_flight", "1 while a rollout is in flight.", "site"),
		nodes:    gauge("relman_nodes", "Nodes that want the site, by what they say they do; dead: a member without a live session.", "site", "state"),
		flips:    counter("relman_flips_total", "Flips that this manager committed.", "site", "kind"),
		refusals: counter("relman_refusals_total", "Transactions refused, by the guard that did not hold.", "class"),
		flip:     histogram("relman_flip_seconds", "Time from sending a flip to its commit.", 0.0005, 2, 15),
		rollout:  histogram("relman_rollout_seconds", "Time from a rollout's start to its flip.", 0.05, 2, 18),

		sweeps:     counter("relman_sweep_runs_total", "Sweeps of the store by this manager: done, failed, or busy when somebody else was at work.", "result"),
		sweptBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "relman_sweep_deleted_bytes_total", Help: "Bytes that this manager's sweeps removed from the store."}),
		hooks:      counter("relman_manager_hook_runs_total", "Runs of the operator's program by this manager: done or failed.", "hook", "result"),

		sweptAt: prometheus.NewGauge(prometheus.GaugeOpts{Name: "relman_sweep_last_success_timestamp_seconds", Help: "When this manager swept the store last; 0: it has not."}),
	}
	for _, result := range []string{"done", "busy", "failed"} {
		m.sweeps.WithLabelValues(result)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.leader, m.epoch, m.inFlight, m.nodes, m.flips, m.refusals, m.flip, m.rollout, m.sweeps, m.sweptBytes, m.sweptAt, m.hooks}
}

// hasHook shows a program's counts before its first run, so that the first
// failure is seen as a change.
func (m *metrics) hasHook(h *hook.Hook) {
	for _, result := range []string{"done", "failed"} {
		m.hooks.WithLabelValues(string(h.Kind), result)
	}
}

// hookRan counts a run of a program.
func (m *metrics) hookRan(h *hook.Hook, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.hooks.WithLabelValues(string(h.Kind), result).Inc()
}

// The states of relman_nodes beside cluster.NodeState.
const (
	nodeDead   = "dead"   // no live session
	nodeSilent = "silent" // live, without a status
	nodeOther  = "other"  // a state that this program does not know
)

// nodeStates are all values of the label, so that a series goes to 0 instead
// of staying at what it was.
func nodeStates() []string {
	return []string{
		string(cluster.NodeJoining), string(cluster.NodeSyncing), string(cluster.NodeServing),
		string(cluster.NodePreparing), string(cluster.NodeWaiting), string(cluster.NodeRefusing), string(cluster.NodeDraining), string(cluster.NodeOut), nodeDead, nodeSilent, nodeOther,
	}
}

// observed shows what the leader sees of a site.
func (m *metrics) observed(v *cluster.View) {
	site := string(v.Site)
	m.epoch.WithLabelValues(site).Set(float64(v.Active.Value.Epoch))
	inFlight := 0.0
	if v.Rollout.Exists() {
		inFlight = 1
	}
	m.inFlight.WithLabelValues(site).Set(inFlight)
	counts := countNodes(v)
	for _, s := range nodeStates() {
		m.nodes.WithLabelValues(site, s).Set(counts[s])
	}
}

func countNodes(v *cluster.View) map[string]float64 {
	known := map[string]bool{}
	for _, s := range nodeStates() {
		known[s] = true
	}
	counts := map[string]float64{}
	for _, n := range nodesOf(v) {
		state := nodeDead
		if _, live := v.Live[n]; live {
			state = nodeSilent
			if s, ok := v.Status[n]; ok {
				state = string(s.State)
			}
		}
		if !known[state] {
			state = nodeOther
		}
		counts[state]++
	}
	return counts
}

// committed counts a transaction of an action that has committed.
func (m *metrics) committed(v *cluster.View, a action, took time.Duration) {
	f, ok := a.(flip)
	if !ok {
		return
	}
	m.flips.WithLabelValues(string(v.Site), string(f.active.Kind)).Inc()
	m.flip.Observe(took.Seconds())
	if preparing(v) {
		m.rollout.Observe(f.active.At.Sub(v.Rollout.Value.Started).Seconds())
	}
}

// forget ends what only a leader shows.
func (m *metrics) forget() {
	m.leader.Set(0)
	m.epoch.Reset()
	m.inFlight.Reset()
	m.nodes.Reset()
}
