package nodeagent

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// traffic counts what one site was asked for.
type traffic struct {
	requests [6]atomic.Uint64 // by class of the status code
	bytes    atomic.Uint64    // of bodies
	broken   atomic.Uint64    // requests for a file that is not as it was verified
	missing  atomic.Uint64    // requests answered with 404
	away     atomic.Uint64    // requests answered with 503
}

// counted counts a response. It hands files on as they come, so that the
// kernel still sends them without a copy (sendfile).
type counted struct {
	http.ResponseWriter
	traffic *traffic
	code    int
}

// WriteHeader notes the status code.
func (c *counted) WriteHeader(code int) {
	if c.code == 0 {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// Write counts a piece of the body.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.traffic.bytes.Add(uint64(n))
	return n, err
}

// ReadFrom counts a body that comes from a file.
func (c *counted) ReadFrom(r io.Reader) (n int64, err error) {
	if rf, ok := c.ResponseWriter.(io.ReaderFrom); ok {
		n, err = rf.ReadFrom(r)
	} else {
		n, err = io.Copy(struct{ io.Writer }{c.ResponseWriter}, r)
	}
	c.traffic.bytes.Add(uint64(n))
	return n, err
}

// Unwrap lets http.ResponseController through.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// end counts the request.
func (c *counted) end() {
	class := c.code / 100
	if class < 1 || class >= len(c.traffic.requests) {
		class = 2 // nothing was written: net/http answers 200
	}
	c.traffic.requests[class].Add(1)
	switch c.code {
	case http.StatusNotFound:
		c.traffic.missing.Add(1)
	case http.StatusServiceUnavailable:
		c.traffic.away.Add(1)
	}
}

// Collectors are the server's metrics.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{&trafficCollector{
		server: s,
		requests: prometheus.NewDesc("relman_http_requests_total",
			"Requests answered, by site and class of the status code.", []string{"site", "code"}, nil),
		bytes: prometheus.NewDesc("relman_http_response_bytes_total",
			"Bytes of the bodies sent, by site.", []string{"site"}, nil),
		broken: prometheus.NewDesc("relman_http_broken_files_total",
			"Requests for a file that could not be opened as it was verified, by site.", []string{"site"}, nil),
	}}
}

// trafficCollector reads the counters of all sites that the server has.
type trafficCollector struct {
	server                  *Server
	requests, bytes, broken *prometheus.Desc
}

// Describe names the metrics.
func (c *trafficCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.requests
	ch <- c.bytes
	ch <- c.broken
}

// Collect reads them.
func (c *trafficCollector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.server.routes.Load().fronts {
		site := string(f.site)
		for class := 2; class < len(f.traffic.requests); class++ {
			n := float64(f.traffic.requests[class].Load())
			ch <- prometheus.MustNewConstMetric(c.requests, prometheus.CounterValue, n, site, strconv.Itoa(class)+"xx")
		}
		ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.CounterValue, float64(f.traffic.bytes.Load()), site)
		ch <- prometheus.MustNewConstMetric(c.broken, prometheus.CounterValue, float64(f.traffic.broken.Load()), site)
	}
}
