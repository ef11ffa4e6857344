package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestServeHTTP_finishes: a request that has begun when the server is told to
// stop gets its whole answer.
func TestServeHTTP_finishes(t *testing.T) {
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-goOn
		_, _ = io.WriteString(w, "whole")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serveHTTP(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	type answer struct {
		body string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		body, _, err := page(httpURL(l.Addr()))
		answered <- answer{body, err}
	}()
	<-began
	stop()
	eventually(t, "nothing more is accepted", func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil
		}
		return fmt.Errorf("a connection was accepted: %w", c.Close())
	})
	select {
	case err := <-served:
		t.Errorf("it did not wait for the request: %v", err)
	default:
	}
	close(goOn)
	if a := <-answered; a.body != "whole" || a.err != nil {
		t.Errorf("%q %v", a.body, a.err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestNotReadyAfter(t *testing.T) {
	stops := make(chan struct{})
	h := notReadyAfter(stops, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	if got := ask("/readyz"); got != 200 {
		t.Errorf("before: %d", got)
	}
	close(stops)
	if got := ask("/readyz"); got != 503 {
		t.Errorf("after: %d", got)
	}
	if got := ask("/healthz"); got != 200 {
		t.Errorf("it still lives: %d", got)
	}
}

func TestHTTPURL(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80",
		"0.0.0.0:80":   "http://127.0.0.1:80",
		"[::]:80":      "http://127.0.0.1:80",
		"[::1]:80":     "http://[::1]:80",
	} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := httpURL(a); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestListenNear(t *testing.T) {
	first, err := listenNear(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listenNear(t.Context(), first.Addr().String(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if first.Addr().String() == second.Addr().String() {
		t.Errorf("both listen on %s", first.Addr())
	}
}
