package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// startServers starts nginx, once for each way in which it is measured.
func (s *serving) startServers(ctx, limited context.Context) error {
	site := filepath.Join(s.dir, relmanNode, "sites", string(relmanSite))
	static := fmt.Sprintf("location / { root %s; gzip_static on; }", filepath.Join(site, "current"))
	shipped, err := os.ReadFile("deploy/nginx/relman.conf")
	if err != nil {
		return fmt.Errorf("%w: run this at the top of the repository", err)
	}
	idle := func(c serveCell) bool { return !c.Flips }
	for _, n := range []struct {
		name      string
		takesPart func(serveCell) bool
		conf      func(addr string) string
	}{
		{nginxName, everywhere, func(addr string) string {
			return fmt.Sprintf("server { listen %s; open_file_cache off; %s }", addr, static)
		}},
		{nginxOpen, idle, func(addr string) string {
			return fmt.Sprintf("server { listen %s; open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; %s }", addr, static)
		}},
		{nginxShipped, func(c serveCell) bool { return !c.Flips && !c.Gzip }, func(addr string) string {
			return strings.NewReplacer("/var/lib/relman/sites/www", site, "listen 80;", "listen "+addr+";", "127.0.0.1:9180", s.admin).Replace(string(shipped))
		}},
	} {
		addr, err := freeAddr(ctx)
		if err != nil {
			return err
		}
		d, err := s.startNginx(ctx, n.conf(addr))
		if err != nil {
			return err
		}
		if err := d.until(limited, func(ctx context.Context) error { return reaches(ctx, addr) }); err != nil {
			return err
		}
		s.servers = append(s.servers, &webServer{n.name, addr, d.pid(), n.takesPart})
	}
	return nil
}

func (s *serving) startNginx(ctx context.Context, conf string) (*daemon, error) {
	dir, err := os.MkdirTemp(s.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 { // its workers have to get into the temporary directory
		user = "user root;"
	}
	// nginx would close a connection after a thousand requests; relman does not.
	text := fmt.Sprintf(`daemon off;
%[2]s
pid %[1]s/pid;
error_log %[1]s/error.log;
worker_processes auto;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    access_log off;
    sendfile on;
    keepalive_requests 100000000;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    %[3]s
}
`, dir, user, conf)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	d, err := program{argv: []string{find("nginx"), "-c", file, "-p", dir, "-e", filepath.Join(dir, "error.log")}}.start(ctx)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, d.stop)
	return d, nil
}

func reaches(ctx context.Context, addr string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return errors.Join(c.Close())
}
