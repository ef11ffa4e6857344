package nodeagent

import (
	"github.com/prometheus/client_golang/prometheus"

	"relman/release/hook"
)

// metrics are what an agent counts.
type metrics struct {
	agent   *Agent
	bytes   prometheus.Counter
	useless prometheus.Counter
	damaged prometheus.Counter
	seconds prometheus.Histogram
	files   *prometheus.CounterVec
	hooks   *prometheus.CounterVec

	catchUps *prometheus.CounterVec

	epoch, ready, missed, variants, variantBytes *prometheus.Desc
}

// The results of relman_hook_runs_total.
const (
	hookDone    = "done"
	hookFailed  = "failed"
	hookSkipped = "skipped"
)

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		agent: a,
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "relman_prefetch_bytes_total",
			Help: "Bytes of files drawn from the store."}),
		useless: prometheus.NewCounter(prometheus.CounterOpts{Name: "relman_prefetch_delta_failures_total",
			Help: "Files that were fetched as a whole because their delta was of no use."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{Name: "relman_verify_damaged_files_total",
			Help: "Files that a verification found not to be as they were verified when they were written."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "relman_prefetch_seconds",
			Help: "Time from wanting a release to holding it.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}),
		files: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relman_fill_files_total",
			Help: "Files of filled buffers, by where they came from: keep, link, copy, fetch."}, []string{"how"}),
		catchUps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relman_catch_ups_total",
			Help: "Questions to etcd that a visitor's pin to a later epoch made necessary, by outcome: answered, failed."}, []string{"outcome"}),
		hooks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relman_hook_runs_total",
			Help: "Runs of the operator's programs: done, failed, or skipped when a newer epoch came first."}, []string{"hook", "result"}),
		epoch: prometheus.NewDesc("relman_node_epoch",
			"Epoch applied, by site.", []string{"site"}, nil),
		ready: prometheus.NewDesc("relman_node_ready",
			"1 when the node is in, and serves what is active, by site.", []string{"site"}, nil),
		variants: prometheus.NewDesc("relman_variants",
			"Compressed variants of files that the node has made and sends, by site.", []string{"site"}, nil),
		variantBytes: prometheus.NewDesc("relman_variants_bytes",
			"Their bytes on the disk, by site.", []string{"site"}, nil),
		missed: prometheus.NewDesc("relman_watch_missed_total",
			"Changes in etcd that a watch should have told of and did not.", nil, nil),
	}
	for _, h := range []*hook.Hook{a.cfg.Verify, a.cfg.PostFlip} {
		if h != nil { // a series that is there before the first failure can be watched
			m.hooks.WithLabelValues(string(h.Kind), hookDone)
			m.hooks.WithLabelValues(string(h.Kind), hookFailed)
		}
	}
	return m
}

// ran counts a run of a program.
func (m *metrics) ran(h *hook.Hook, err error) {
	result := hookDone
	if err != nil {
		result = hookFailed
	}
	m.hooks.WithLabelValues(string(h.Kind), result).Inc()
}

// Collectors are the agent's metrics and those of its server.
func (a *Agent) Collectors() []prometheus.Collector {
	m := a.metrics
	return append([]prometheus.Collector{m, m.bytes, m.useless, m.damaged, m.seconds, m.files, m.catchUps, m.hooks}, a.server.Collectors()...)
}

// Describe names the metrics that are read when they are asked for.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.epoch
	ch <- m.ready
	ch <- m.missed
	ch <- m.variants
	ch <- m.variantBytes
}

// Collect reads them.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(m.missed, prometheus.CounterValue, float64(m.agent.reg.MissedEvents()))
	m.agent.mu.Lock()
	defer m.agent.mu.Unlock()
	for _, s := range m.agent.sites {
		ready := 0.0
		if s.ready() == "" {
			ready = 1
		}
		s.mu.Lock()
		epoch := s.applied.Epoch
		s.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(m.ready, prometheus.GaugeValue, ready, string(s.name))
		ch <- prometheus.MustNewConstMetric(m.epoch, prometheus.GaugeValue, float64(epoch), string(s.name))
		count, bytes := s.variants.size()
		ch <- prometheus.MustNewConstMetric(m.variants, prometheus.GaugeValue, float64(count), string(s.name))
		ch <- prometheus.MustNewConstMetric(m.variantBytes, prometheus.GaugeValue, float64(bytes), string(s.name))
	}
}
