package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"relman/nodeagent"
)

// Bounds of every HTTP server of relman. There is none on writing: a large file
// over a slow line takes its time.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	finishTimeout  = 5 * time.Second // for requests in flight, once it is told to stop
)

// serveHTTP answers on l until ctx ends; then it accepts nothing more and gives
// the requests in flight some seconds to finish.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	return runHTTP(ctx, newHTTP(h, log), l, 1, log)
}

// serveSites is serveHTTP for the sites of a node.
func serveSites(ctx context.Context, l net.Listener, sites *nodeagent.Server, log *slog.Logger) error {
	s := newHTTP(sites, log)
	return runHTTP(ctx, s, sites.Quicken(s, l), runtime.GOMAXPROCS(0), log)
}

func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// finisher is a listener that answers some requests itself, which the server does not
// know of.
type finisher interface {
	Finish(ctx context.Context) error // waits for them
}

// runHTTP has some goroutines accept connections until ctx ends.
func runHTTP(ctx context.Context, s *http.Server, l net.Listener, accepting int, log *slog.Logger) error {
	ended := make(chan error, accepting)
	for range accepting {
		go func() { ended <- s.Serve(l) }()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := s.Shutdown(limit); err != nil {
		log.Warn("requests cut off", "addr", l.Addr().String(), "error", err)
		_ = s.Close() // its error would be that of the listener, which is closed
	} else if q, is := l.(finisher); is {
		if err := q.Finish(limit); err != nil {
			log.Warn("answers cut off", "addr", l.Addr().String(), "error", err)
		}
	}
	for range accepting {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
	}
	return nil
}

// listen listens on addr for HTTP. The kernel keeps a connection to itself until
// its first request is there, or for a second: it is answered at once then,
// instead of after a sleep. And it does not probe silent connections (which would
// be three more system calls for each): whoever says nothing between requests is
// given up after idleTimeout, and one who takes no more of an answer by TCP.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1, Control: deferAccept}
	l, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

func deferAccept(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, 1) // it works without, too
	})
}

// listenNear is listen, on a free port if the one that was asked for is taken.
func listenNear(ctx context.Context, addr string, log *slog.Logger) (net.Listener, error) {
	l, err := listen(ctx, addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	log.Warn("port is taken, using a free one", "addr", addr)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return listen(ctx, net.JoinHostPort(host, "0"))
}

// httpURL is how a client on this host reaches a listener: one that listens on
// every address is reached on the loopback one.
func httpURL(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "http://" + a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// newRegistry counts what every Go process counts.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// register adds the metrics of a part.
func register(r prometheus.Registerer, cs []prometheus.Collector) error {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// withMetrics adds /metrics to a handler.
func withMetrics(h http.Handler, g prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.Handle("/", h)
	return mux
}

// withProfiles adds /debug/pprof/ to a handler. Whoever can ask for a profile can
// keep a processor busy: nobody gets it without having asked.
func withProfiles(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("/", h)
	return mux
}
