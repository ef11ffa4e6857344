package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serveDir serves a directory over the wire, as the web server does that these
// tools fetch from.
func (b *bed) serveDir(ctx context.Context, dir string) (addr string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	b.closers = append(b.closers, func() error {
		err := srv.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	})
	return b.over(ctx, l.Addr().String(), true)
}

// casyncTool keeps chunks in a directory that a web server shows: it cannot
// write to S3. So its publish sends nothing, and says what the chunking costs.
type casyncTool struct{}

func (casyncTool) name() string    { return "casync" }
func (casyncTool) needs() []string { return []string{"casync"} }

func (t casyncTool) open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error) {
	_, _, home, err := nodeDirs(b, s, t.name(), run)
	if err != nil {
		return nil, err
	}
	repo, err := b.place(s.name, t.name(), run, "repo")
	if err != nil {
		return nil, err
	}
	addr, err := b.serveDir(ctx, repo)
	if err != nil {
		return nil, err
	}
	node := filepath.Dir(repo)
	in := func(args ...string) program {
		return program{env: []string{"HOME=" + home}, argv: append([]string{find("casync"), "--without=privileged"}, args...)}
	}
	publish := func(index, dir string) step {
		return runStep(in("make", "--store="+filepath.Join(repo, "store.castr"), filepath.Join(repo, index), dir))
	}
	get := func(index, name, want string, seed ...string) step {
		args := []string{"extract", "--store=http://" + addr + "/store.castr"}
		for _, s := range seed {
			args = append(args, "--seed="+filepath.Join(node, s))
		}
		into := filepath.Join(node, name)
		return fetchStep(in(append(args, "http://"+addr+"/"+index, into)...), into, want)
	}
	return map[cell]step{
		firstPublish: publish("v1.caidx", s.v1), updatePublish: publish("v2.caidx", s.v2), noopPublish: publish("v2.caidx", s.v2),
		firstPrefetch: get("v1.caidx", "v1", s.v1), updatePrefetch: get("v2.caidx", "v2", s.v2, "v1"),
		freshPrefetch: get("v2.caidx", "cold", s.v2),
	}, nil
}

// ostreeTool keeps compressed files in a repository that a web server shows.
// Its publish sends nothing, either.
type ostreeTool struct{}

func (ostreeTool) name() string    { return "ostree" }
func (ostreeTool) needs() []string { return []string{"ostree"} }

func (t ostreeTool) open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error) {
	dir, err := b.place(s.name, t.name(), run)
	if err != nil {
		return nil, err
	}
	in := func(name string, args ...string) program {
		return program{dir: dir, env: []string{"HOME=" + dir}, argv: append([]string{find("ostree"), "--repo=" + filepath.Join(dir, name)}, args...)}
	}
	if err := in("repo", "init", "--mode=archive").run(ctx); err != nil {
		return nil, err
	}
	addr, err := b.serveDir(ctx, filepath.Join(dir, "repo"))
	if err != nil {
		return nil, err
	}
	for _, node := range []string{"node", "cold"} {
		if err := in(node, "init", "--mode=bare-user-only").run(ctx); err != nil {
			return nil, err
		}
		if err := in(node, "remote", "add", "--no-gpg-verify", "origin", "http://"+addr).run(ctx); err != nil {
			return nil, err
		}
	}
	publish := func(build string) step {
		return runStep(in("repo", "commit", "--branch=site", "--tree=dir="+build, "--canonical-permissions"))
	}
	get := func(node, name, want string) step {
		into := filepath.Join(dir, name)
		script := fmt.Sprintf(`"$0" --repo=%s pull origin site && { test -e %s || "$0" --repo=%s checkout -U -H origin:site %s; }`, node, into, node, into)
		return fetchStep(program{dir: dir, env: []string{"HOME=" + dir}, argv: []string{"sh", "-c", script, find("ostree")}}, into, want)
	}
	return map[cell]step{
		firstPublish: publish(s.v1), updatePublish: publish(s.v2), noopPublish: publish(s.v2),
		firstPrefetch: get("node", "v1", s.v1), updatePrefetch: get("node", "v2", s.v2),
		noopPrefetch: get("node", "v2", s.v2), freshPrefetch: get("cold", "cold-v2", s.v2),
	}, nil
}

// rsyncTool fetches from a daemon that has both builds: there is no store. It
// goes by size and time; with checksum by content, into a new tree that shares
// with the old one what is equal.
type rsyncTool struct{ checksum bool }

func (t rsyncTool) name() string {
	if t.checksum {
		return "rsync -c"
	}
	return "rsync"
}

func (rsyncTool) needs() []string { return []string{"rsync"} }

func (t rsyncTool) open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error) {
	dir, err := b.place(s.name, t.name(), run)
	if err != nil {
		return nil, err
	}
	text := "use chroot = no\n"
	if os.Getuid() == 0 {
		text += "uid = 0\ngid = 0\n"
	}
	for name, build := range map[string]string{"v1": s.v1, "v2": s.v2} {
		text += fmt.Sprintf("[%s]\npath = %s\nread only = yes\n", name, build)
	}
	config := filepath.Join(dir, "rsyncd.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	server, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	d, err := program{argv: []string{find("rsync"), "--daemon", "--no-detach", "--config=" + config, "--address=" + host, "--port=" + port}}.start(ctx)
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, d.stop)
	if err := d.until(ctx, func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", server)
		if err == nil {
			err = c.Close()
		}
		return err
	}); err != nil {
		return nil, err
	}
	addr, err := b.over(ctx, server, false)
	if err != nil {
		return nil, err
	}
	get := func(module, name, want string) step {
		args := []string{find("rsync"), "-a", "--delete"}
		if t.checksum {
			args = append(args, "-c", "--link-dest=../v1")
		} else if name != "cold" {
			name = "node" // in place
		}
		into := filepath.Join(dir, name)
		return fetchStep(program{argv: append(args, "rsync://"+addr+"/"+module+"/", into+"/")}, into, want)
	}
	steps := map[cell]step{
		firstPrefetch: get("v1", "v1", s.v1), updatePrefetch: get("v2", "v2", s.v2), noopPrefetch: get("v2", "v2", s.v2),
	}
	if !t.checksum { // without an old tree the two do the same
		steps[freshPrefetch] = get("v2", "cold", s.v2)
	}
	return steps, nil
}
