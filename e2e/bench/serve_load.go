package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// loaded is one measurement of one server. Times are microseconds.
type loaded struct {
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes"` // of bodies and heads
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	Most     float64 `json:"max_us"`
	Errors   int64   `json:"errors"` // of connections, and statuses above 399
	CPU      float64 `json:"cpu_us"` // of the server's processes, for each request
}

func (m loaded) rate() float64 {
	if m.Seconds == 0 {
		return 0
	}
	return float64(m.Requests) / m.Seconds
}

// wrkScript has wrk say what it counted in a form for programs.
const wrkScript = `function done(s, l, r)
  io.write(string.format('\n{"requests":%d,"seconds":%.6f,"bytes":%d,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,"errors":%d}\n',
    s.requests, s.duration / 1e6, s.bytes, l:percentile(50), l:percentile(99), l.max,
    s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout))
end
`

// load lets wrk ask a server for one file for a while.
func (s *serving) load(ctx context.Context, w *webServer, c serveCell, d time.Duration) (loaded, error) {
	args := []string{find("wrk"), "-t1", "-c32", fmt.Sprintf("-d%ds", int(d.Seconds())), "-s", s.script}
	if c.Close {
		args = append(args, "-H", "Connection: close")
	}
	if c.Gzip {
		args = append(args, "-H", "Accept-Encoding: gzip")
	}
	was, err := processorTime(w.pid)
	if err != nil {
		return loaded{}, err
	}
	out, err := program{argv: append(args, "http://"+w.addr+"/"+servedPath(c.Size, c.Gzip))}.output(ctx)
	if err != nil {
		return loaded{}, err
	}
	is, err := processorTime(w.pid)
	if err != nil {
		return loaded{}, err
	}
	var m loaded
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil {
		return loaded{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if m.Requests == 0 {
		return loaded{}, fmt.Errorf("%s, %s: wrk got no answer: %s", w.name, c, out)
	}
	m.CPU = float64((is - was).Microseconds()) / float64(m.Requests)
	return m, nil
}

// processorTime is what a process and its children have taken.
func processorTime(pid int) (time.Duration, error) {
	u, err := usageOf(pid)
	if err != nil {
		return 0, err
	}
	sum := u.cpu
	for _, child := range childrenOf(pid) {
		if u, err := usageOf(child); err == nil {
			sum += u.cpu
		}
	}
	return sum, nil
}

// profile has the agent write down where its time goes, for each cell.
func (s *serving) profile(ctx context.Context, dir string, cells []serveCell, say func(string, ...any)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range cells {
		if c.Flips {
			continue
		}
		const long = 6 * time.Second
		name := filepath.Join(dir, strings.NewReplacer(" ", "", ",", "-").Replace(c.String())+".pprof")
		ended := make(chan error, 1)
		go func() { ended <- s.fetchProfile(ctx, name, long-2*time.Second) }()
		m, err := s.load(ctx, s.servers[0], c, long)
		if perr := <-ended; err == nil {
			err = perr
		}
		if err != nil {
			return err
		}
		say("profile of %s at %.0f requests/s: %s", c, m.rate(), name)
	}
	return nil
}

func (s *serving) fetchProfile(ctx context.Context, name string, d time.Duration) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.admin, int(d.Seconds())), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile: %s: %s", resp.Status, raw)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(name, raw, 0o644)
}
