package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"relman/cluster"
	"relman/release"
)

// serving is a node with two releases, and the servers that show them.
type serving struct {
	*relmanRun
	servers  []*webServer
	admin    string
	releases [2]release.ID
	shown    int    // of the releases
	script   string // what wrk says at the end
}

// webServer is one of those that are compared.
type webServer struct {
	name string
	addr string
	pid  int
	// takesPart says in which cells it is measured.
	takesPart func(serveCell) bool
}

// The servers. nginx is what relman is compared with: a plain server of one
// directory. The others say what its own configuration costs.
const (
	nginxName    = "nginx"
	nginxOpen    = "nginx, open_file_cache"
	nginxShipped = "nginx, deploy/nginx"
)

// openServing starts a cluster with one node, publishes two releases, and
// starts nginx on the directory of the node.
func openServing(ctx context.Context, b *bed) (*serving, error) {
	s := &serving{relmanRun: &relmanRun{bed: b, dir: filepath.Join(b.dir, "serve")}}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	s.script = filepath.Join(s.dir, "report.lua")
	if err := os.WriteFile(s.script, []byte(wrkScript), 0o644); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, 8*startLimit)
	defer cancel()
	if err := s.startCluster(ctx, limited); err != nil {
		return nil, err
	}
	if err := s.publish(limited); err != nil {
		return nil, err
	}
	if err := s.startServers(ctx, limited); err != nil {
		return nil, err
	}
	for i := range s.releases { // variants are looked at before they are sent
		if err := s.flipTo(limited, s.releases[i]); err != nil {
			return nil, err
		}
		s.shown = i
		if err := s.agent.until(limited, func(ctx context.Context) error { return s.check(ctx, i) }); err != nil {
			return nil, err
		}
	}
	return s, s.calm(limited)
}

func (s *serving) startCluster(ctx, limited context.Context) error {
	if err := s.startEtcd(ctx, limited); err != nil {
		return err
	}
	store := fmt.Sprintf("s3://%s/serve?endpoint=http://%s&region=%s&path-style=true", bucket, s.s3, region)
	if err := s.relman(s.direct, "admin", "site", "add", string(relmanSite), "--store", store).run(limited); err != nil {
		return err
	}
	if err := s.lead(ctx); err != nil {
		return err
	}
	sites, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	if s.admin, err = freeAddr(ctx); err != nil {
		return err
	}
	s.agent, err = s.relman(s.direct, "agent", "--node-id", relmanNode, "--dir", filepath.Join(s.dir, relmanNode),
		"--addr", sites, "--admin-addr", s.admin, "--pprof").start(ctx)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.agent.stop)
	s.servers = []*webServer{{relmanName, sites, s.agent.pid(), everywhere}}
	if err := s.watch.Follow(limited, relmanSite, func(v *cluster.View) bool { return v.Entered() == 1 }); err != nil {
		return fmt.Errorf("the node does not enter: %w: %s", err, s.agent.said.String())
	}
	return nil
}

func everywhere(serveCell) bool { return true }

// publish publishes both builds.
func (s *serving) publish(ctx context.Context) error {
	for i := range s.releases {
		dir := filepath.Join(s.dir, fmt.Sprintf("v%d", i+1))
		if err := writeServed(dir, i); err != nil {
			return err
		}
		if err := s.relman(s.direct, "publish", dir, "-s", string(relmanSite)).run(ctx); err != nil {
			return err
		}
		v, err := s.watch.Observe(ctx, relmanSite)
		if err != nil {
			return err
		}
		s.releases[i] = v.Active.Value.Release
	}
	return nil
}

// servedPath is the file of a cell: the smallest is a page, which sets a pin;
// the next a script with a hash in its name, which is the same in both
// releases; the largest some data.
func servedPath(size int, gzip bool) string {
	name := map[int]string{1 << 10: "page%s.html", 16 << 10: "assets/app%s.3f9ac1d2.js", 1 << 20: "data/table%s.csv"}[size]
	if gzip {
		return fmt.Sprintf(name, "-z")
	}
	return fmt.Sprintf(name, "")
}

// servedBody is that file in one of the releases: text of two digits for each
// byte, where it is to be sent compressed. What is sent then is as long as the
// file is otherwise, or nearly.
func servedBody(size int, gzip bool, version int) []byte {
	if size == 16<<10 {
		version = 0
	}
	seed := [32]byte{byte(version), byte(size >> 10)}
	if gzip {
		size = size * 7 / 8
	} else {
		size /= 2
	}
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b) // it never fails
	return []byte(hex.EncodeToString(b))
}

// filler is how many pages the site has besides, which nobody asks for.
const filler = 5000

// writeServed writes a build.
func writeServed(dir string, version int) error {
	for i := range filler {
		name := filepath.Join(dir, fmt.Sprintf("docs/%02d/page%d.html", i%100, i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, fmt.Appendf(nil, "<h1>%d</h1>", i), 0o644)); err != nil {
			return err
		}
	}
	for _, size := range serveSizes {
		for _, packed := range []bool{false, true} {
			body, name := servedBody(size, packed, version), filepath.Join(dir, servedPath(size, packed))
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, body, 0o644)); err != nil {
				return err
			}
			if !packed {
				continue
			}
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
			if err != nil {
				return err
			}
			if _, err := z.Write(body); err != nil {
				return err
			}
			if err := z.Close(); err != nil {
				return err
			}
			if err := os.WriteFile(name+".gz", b.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// check asks every server for every file in every way, and compares.
func (s *serving) check(ctx context.Context, version int) error {
	plain := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	for _, w := range s.servers {
		for _, c := range allServeCells {
			if c.Close || c.Flips || !w.takesPart(c) {
				continue
			}
			if err := w.check(ctx, plain, c, version); err != nil {
				return fmt.Errorf("%s, %s: %w", w.name, c, err)
			}
		}
	}
	return nil
}

func (w *webServer) check(ctx context.Context, plain *http.Transport, c serveCell, version int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addr+"/"+servedPath(c.Size, c.Gzip), nil)
	if err != nil {
		return err
	}
	if c.Gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := plain.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body io.Reader = resp.Body
	if c.Gzip {
		if resp.Header.Get("Content-Encoding") != "gzip" {
			return errors.New("it is not sent compressed")
		}
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	got, err := io.ReadAll(body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Equal(got, servedBody(c.Size, c.Gzip, version))) {
		err = fmt.Errorf("answer %s with wrong content", resp.Status)
	}
	return err
}

// calm waits until the agent has nothing to do any more.
func (s *serving) calm(ctx context.Context) error {
	return s.agent.until(ctx, func(context.Context) error {
		was, err := usageOf(s.agent.pid())
		if err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
		is, err := usageOf(s.agent.pid())
		if err == nil && is.cpu-was.cpu > 20*time.Millisecond {
			err = errors.New("the agent is busy")
		}
		return err
	})
}

// flipTo makes a release active that the node holds.
func (s *serving) flipTo(ctx context.Context, id release.ID) error {
	v, err := s.watch.Observe(ctx, relmanSite)
	if err != nil || v.Active.Value.Release == id {
		return err
	}
	d := cluster.Desired{Request: cluster.NewRequestID(), Mode: cluster.FlipTo, Release: id, By: "bench", At: time.Now().UTC().Truncate(time.Second)}
	if _, err := s.watch.Ask(ctx, v, d); err != nil {
		return err
	}
	return s.watch.Follow(ctx, relmanSite, func(v *cluster.View) bool {
		return v.Active.Value.Release == id && v.Status[relmanNode].Epoch == v.Active.Value.Epoch
	})
}

// flipEachSecond makes one release active and then the other, from half a second
// on, until stop is called, which waits for the last flip.
func (s *serving) flipEachSecond(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		next := time.NewTimer(time.Second / 2)
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-next.C:
				next.Reset(time.Second)
			}
			s.shown = 1 - s.shown
			if err := s.flipTo(context.WithoutCancel(ctx), s.releases[s.shown]); err != nil {
				ended <- fmt.Errorf("flip: %w", err)
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-ended
	}
}
