package main

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
	nodes []frontNode
	next  atomic.Uint64
	via   http.RoundTripper
}

// frontNode is one node behind the front.
type frontNode struct {
	url   *url.URL
	ready func() bool
}

// newFront is the handler of the front.
func newFront(nodes []frontNode, log *slog.Logger) http.Handler {
	f := &front{nodes: nodes, via: &http.Transport{
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       idleTimeout,
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
		refused = append(refused, fmt.Sprintf("%s: %v", n.url.Host, err))
	}
	return nil, errors.New(strings.Join(refused, "; "))
}

func (f *front) try(r *http.Request, n frontNode) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = n.url.Host
	return f.via.RoundTrip(r)
}

// inTurn lists the nodes from the next one on, those that are ready first.
func (f *front) inTurn() []frontNode {
	first := f.next.Add(1)
	var ready, others []frontNode
	for i := range f.nodes {
		n := f.nodes[(first+uint64(i))%uint64(len(f.nodes))]
		if n.ready() {
			ready = append(ready, n)
		} else {
			others = append(others, n)
		}
	}
	return append(ready, others...)
}
