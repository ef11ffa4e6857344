package nodeagent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an agent counts.
type metrics struct {
	agent   *Agent
	bytes   prometheus.Counter
	useless prometheus.Counter
	damaged prometheus.Counter
	seconds prometheus.Histogram
	files   *prometheus.CounterVec

	epoch, ready, missed *prometheus.Desc
}

func newMetrics(a *Agent) *metrics {
	return &metrics{
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
		epoch: prometheus.NewDesc("relman_node_epoch",
			"Epoch applied, by site.", []string{"site"}, nil),
		ready: prometheus.NewDesc("relman_node_ready",
			"1 when the node is in, and serves what is active, by site.", []string{"site"}, nil),
		missed: prometheus.NewDesc("relman_watch_missed_total",
			"Changes in etcd that a watch should have told of and did not.", nil, nil),
	}
}

// Collectors are the agent's metrics and those of its server.
func (a *Agent) Collectors() []prometheus.Collector {
	m := a.metrics
	return append([]prometheus.Collector{m, m.bytes, m.useless, m.damaged, m.seconds, m.files}, a.server.Collectors()...)
}

// Describe names the metrics that are read when they are asked for.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.epoch
	ch <- m.ready
	ch <- m.missed
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
	}
}
