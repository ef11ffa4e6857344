package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newHTTPWire is a server behind a wire; it answers with as many bytes as it
// got.
func newHTTPWire(t *testing.T, rate float64) (*wire, string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	w := newWire(rate)
	p, err := newProxy(t.Context(), w, strings.TrimPrefix(srv.URL, "http://"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return w, "http://" + p.addr()
}

func echo(t *testing.T, url string, body io.Reader, want int) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || len(got) != want {
		t.Fatalf("%d bytes came back of %d: %v", len(got), want, err)
	}
}

func TestProxy_counts(t *testing.T) {
	w, url := newHTTPWire(t, 0)
	const size = 300_000
	// A body that looks like a request is none; the third is sent in chunks.
	echo(t, url, strings.NewReader("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 27)
	echo(t, url, bytes.NewReader(make([]byte, size)), size)
	echo(t, url, io.MultiReader(bytes.NewReader(make([]byte, size))), size)
	got := w.crossed()
	if got.Requests != 3 {
		t.Errorf("%d requests were counted of 3", got.Requests)
	}
	const most = 2*size + 5_000 // heads, and the marks of chunks
	if got.Up < 2*size+27 || got.Up > most || got.Down < 2*size+27 || got.Down > most {
		t.Errorf("up %d, down %d bytes were counted; sent were %d each way, and heads", got.Up, got.Down, 2*size+27)
	}
	if d := w.crossed().since(got); d != (crossed{}) {
		t.Errorf("%+v crossed while nothing was sent", d)
	}
}

// TestProxy_other: what is not HTTP is counted in bytes alone, and passes.
func TestProxy_other(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	w := newWire(0)
	p, err := newProxy(t.Context(), w, strings.TrimPrefix(srv.URL, "http://"), false)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + p.addr())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if got := w.crossed(); got.Requests != 0 || got.Up == 0 || got.Down == 0 {
		t.Errorf("counted were %+v", got)
	}
}

// TestProxy_shapes: at 40 Mbit/s 500,000 bytes take 0.1 s each way.
func TestProxy_shapes(t *testing.T) {
	const size = 500_000
	_, url := newHTTPWire(t, 40e6)
	began := time.Now()
	echo(t, url, bytes.NewReader(make([]byte, size)), size)
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("%d bytes up and down took %v, a line takes 200 ms", size, took)
	}
}

func TestLane_wait(t *testing.T) {
	l := &lane{rate: 1e6} // a byte in a microsecond
	now := time.Now()
	for i, step := range []struct {
		at   time.Duration
		n    int
		want time.Duration
	}{
		{0, 5_000, 0}, // the slack
		{0, 10_000, 10 * time.Millisecond},
		{0, 10_000, 20 * time.Millisecond},                              // another connection waits behind it
		{20 * time.Millisecond, 1_000, 1 * time.Millisecond},            // in time
		{time.Second, 8_000, 3 * time.Millisecond},                      // an idle line saves no more than the slack
		{time.Second + 3*time.Millisecond, 500, 500 * time.Microsecond}, // to the end
	} {
		if got := l.wait(now.Add(step.at), step.n); got != step.want {
			t.Errorf("step %d: %d bytes wait %v, want %v", i, step.n, got, step.want)
		}
	}
	if got := (&lane{}).wait(now, 1<<40); got != 0 {
		t.Errorf("without a rate bytes wait %v", got)
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]float64{"": 0, "1Gbit": 1e9, "100Mbit": 100e6, "2.5Mbit": 2.5e6} {
		if got, err := parseRate(in); err != nil || got != want {
			t.Errorf("%q is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"fast", "Mbit", "-1Mbit", "100"} {
		if _, err := parseRate(in); err == nil {
			t.Errorf("%q is a rate", in)
		}
	}
}
