// Package front is a small load balancer: requests go to nodes in turn. `relman
// dev` has one, and tests. It promises that a request is answered while some node
// answers, and no more: who runs a site has a real one.
package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// front sends requests to the nodes in turn, as a load balancer does. A node
// that is not ready is left out; one that refuses is followed by the next.
type front struct {
	nodes []Node
	next  atomic.Uint64
	via   http.RoundTripper
}

// Node is one node behind the front.
type Node struct {
	URL   *url.URL
	Ready func() bool // asked for every request
}

// New is the handler of a front.
func New(nodes []Node, log *slog.Logger) http.Handler {
	f := &front{nodes: nodes, via: &http.Transport{
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       2 * time.Minute,
		ResponseHeaderTimeout: 30 * time.Second,
		DisableCompression:    true, // what a node says goes through as it is
	}}
	return &httputil.ReverseProxy{
		Transport: f,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host // nodes route by it
			r.Out.URL.Scheme = "http"
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				log.Warn("no node answers", "path", r.URL.Path, "error", err)
			}
			http.Error(w, "no node answers: "+err.Error(), http.StatusBadGateway)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// RoundTrip asks the nodes in turn until one answers with anything but "I
// have nothing to show".
func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	tries := f.inTurn()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		tries = tries[:1] // its body can be sent once
	}
	var refused []string
	for i, n := range tries {
		resp, err := f.try(r, n)
		if err == nil && (resp.StatusCode != http.StatusServiceUnavailable || i == len(tries)-1) {
			return resp, nil
		}
		if err == nil {
			err = errors.New(resp.Status)
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // keeps the connection
			resp.Body.Close()
		}
		if r.Context().Err() != nil {
			return nil, err
		}
		refused = append(refused, fmt.Sprintf("%s: %v", n.URL.Host, err))
	}
	return nil, errors.New(strings.Join(refused, "; "))
}

func (f *front) try(r *http.Request, n Node) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = n.URL.Host
	return f.via.RoundTrip(r)
}

// inTurn lists the nodes from the next one on, those that are ready first.
func (f *front) inTurn() []Node {
	first := f.next.Add(1)
	var ready, others []Node
	for i := range f.nodes {
		n := f.nodes[(first+uint64(i))%uint64(len(f.nodes))]
		if n.Ready() {
			ready = append(ready, n)
		} else {
			others = append(others, n)
		}
	}
	return append(ready, others...)
}
