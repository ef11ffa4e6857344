package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// webServer is a web server that is not relman's, with the configuration that
// deploy/ has for it.
type webServer struct {
	program string // and its Debian package
	pkg     string
	// start runs it for the directory of a site and returns what it serves at addr.
	start func(t testing.TB, program, dir, site, addr, admin string)
}

var webServers = map[string]webServer{
	"nginx":                    {"nginx", "nginx-light", startNginx("../deploy/nginx/relman.conf")},
	"Apache":                   {"apache2", "apache2", startApache},
	"Caddy":                    {"caddy", "caddy", startCaddy},
	"nginx, links and no more": {"nginx", "nginx-light", startNginx("testdata/nginx-plain.conf")},
}

// TestServers: a hundred flips under load behind other web servers, each from
// the directories of its node's agent, with what deploy/ says. nginx also pins. The
// control is what is usually done: nginx that follows a link, and no more.
func TestServers(t *testing.T) {
	flips := envCount(t, "RELMAN_FLIPS")
	if flips == 0 {
		t.Skip("with RELMAN_FLIPS only: make e2e-servers")
	}
	for name, server := range webServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pins := name == "nginx"
			control := server.pkg == "nginx-light" && !pins
			program := find(t, server.program, server.pkg)
			l, nodes := visited(t)
			if err := errors.Join(os.Chmod(filepath.Dir(l.dir), 0o755), os.Chmod(l.dir, 0o755)); err != nil { //nolint:gosec // the servers run as somebody else
				t.Fatal(err)
			}
			addrs := map[string]string{}
			for i, port := range freePorts(t, len(nodes)) {
				n := nodes[i]
				addrs[n] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
				dir := filepath.Join(l.dir, "web-"+n)
				if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the same
					t.Fatal(err)
				}
				server.start(t, program, dir, filepath.Join(l.dir, n, "sites", "www"), addrs[n], l.admins[n])
				eventually(t, 20*time.Second, name+" answers", func() error { return shows(addrs[n]) })
			}
			base := devFrontOf(t, nodes, addrs, l.admins)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer stop()
				l.flipTimes(t, int(flips))
			}()
			pinned, bare := crowd(ctx, base, 24, 8, 1<<40)
			<-done
			t.Logf("%s: %d flips", name, flips)
			if pins {
				t.Logf("with cookies:    %s", pinned)
			} else {
				t.Logf("it does not pin: %s", pinned)
			}
			t.Logf("without cookies: %s", bare)
			if control {
				if pinned.hashedMissing.Load()+bare.hashedMissing.Load() == 0 || pinned.mixed.Load() == 0 {
					t.Error("the control missed no asset or mixed no page: this run proves nothing")
				}
				return
			}
			for _, c := range []*pageCounts{pinned, bare} {
				if c.pages.Load() < flips {
					t.Errorf("only %d pages were loaded", c.pages.Load())
				}
				if n := c.hashedMissing.Load() + c.plainMissing.Load() + c.wrong.Load() + c.bad.Load(); n > 0 {
					t.Errorf("%s", strings.Join(c.examples, "\n"))
				}
			}
			if pins && pinned.mixed.Load() > 0 {
				t.Errorf("mixed pages:\n%s", strings.Join(pinned.examples, "\n"))
			}
		})
	}
}

// flipTimes publishes and rolls back, one after the other.
func (l *lab) flipTimes(t *testing.T, flips int) {
	tick := time.NewTicker(flipEvery)
	defer tick.Stop()
	for n := 2; n < flips+2 && t.Context().Err() == nil; n++ {
		<-tick.C
		if n%3 == 0 {
			l.relman(t, "rollback", "--no-freeze", "-q")
		} else {
			l.publishPages(t, n)
		}
	}
}

// TestServers_answers: what the configurations in deploy/ answer to, from the
// directory of a node that shows one release and holds two others.
func TestServers_answers(t *testing.T) {
	const (
		hashed  = "/assets/app.3f9ac1d2.js"
		old     = "/assets/app.0a1b2c3d.js"
		coming  = "/assets/app.9f8e7d6c.js"
		forever = "public, max-age=31536000, immutable"
		dated   = "/img/20240101.png" // not a hash
	)
	site := t.TempDir()
	for dir := site; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the servers run as somebody else
			t.Fatal(err)
		}
	}
	ids := []string{"000001-aaaaaaaaaaa1", "000002-bbbbbbbbbbb2", "000003-ccccccccccc3"}
	for k, files := range []map[string]string{
		{"index.html": "old", "gone.html": "old", "style.css": "old", "gone.css": "old", old: "old"},
		{"index.html": "now", "about.html": "now", "docs/index.html": "now", "404.html": "nothing here", "style.css": "now", hashed: "now", dated: "now", "_redirects": "/a /b", "_headers": "/a", "_relman.toml": ""},
		{"index.html": "next", "secret.html": "next", "style.css": "next", "secret.css": "next", coming: "next"},
	} {
		tree := filepath.Join(site, "buffers", strconv.Itoa(k))
		for name, text := range files {
			to := filepath.Join(tree, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), 0o644)); err != nil { //nolint:gosec // the same
				t.Fatal(err)
			}
		}
		named := filepath.Join(site, "releases", ids[k])
		if err := errors.Join(os.MkdirAll(named, 0o755), os.MkdirAll(filepath.Join(site, "held"), 0o755), //nolint:gosec // the same
			os.Symlink("../../buffers/"+strconv.Itoa(k), filepath.Join(named, "tree")),
			os.Symlink("../buffers/"+strconv.Itoa(k), filepath.Join(site, "held", strconv.Itoa(k))),
			os.Symlink("buffers/"+strconv.Itoa(k), filepath.Join(site, []string{"previous", "current", "next"}[k]))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("releases/"+ids[1], filepath.Join(site, "active")); err != nil {
		t.Fatal(err)
	}
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, "ready")
	}))
	t.Cleanup(ready.Close)
	tests := []struct {
		path, pin, dest string
		code            int
		body            string
		cache           string // "" for any
		nginx           bool   // nginx alone: it takes a pin
	}{
		{"/", "", "document", 200, "now", "no-cache", false},
		{"/", ids[0], "document", 200, "now", "no-cache", false},
		{"/index.html", "", "", 200, "now", "no-cache", false},
		{"/about", "", "document", 200, "now", "no-cache", false},
		{"/docs/", "", "document", 200, "now", "no-cache", false},
		{"/docs", "", "document", 0, "", "", false}, // to /docs/
		{"/none", "", "document", 404, "nothing here", "", false},
		{"/gone.html", "", "document", 404, "nothing here", "", false},
		{"/secret.html", "", "document", 404, "nothing here", "", false},
		{"/_redirects", "", "document", 404, "", "", false},
		{"/_headers", ids[1], "document", 404, "", "", false},
		{"/_relman.toml", "", "document", 404, "", "", false},
		{"/style.css", "", "style", 200, "now", "no-cache", false},
		{"/none.css", "", "style", 404, "", "no-store", false},
		{"/secret.css", "", "style", 404, "", "no-store", false},
		{hashed, "", "script", 200, "now", forever, false},
		{old, "", "script", 200, "old", forever, false},
		{coming, "", "script", 200, "next", forever, false},
		{dated, "", "image", 200, "now", "no-cache", false},
		{"/readyz", "", "", 200, "ready", "", false},
		{"/style.css", ids[0], "style", 200, "old", "no-cache", true},
		{"/style.css", ids[2], "style", 200, "next", "no-cache", true}, // another node has flipped before
		{"/style.css", ids[1], "style", 200, "now", "no-cache", true},
		{"/style.css", "../../etc", "style", 200, "now", "no-cache", true},
		{"/gone.css", ids[0], "style", 200, "old", "no-cache", true},
		{"/gone.css", "", "style", 404, "", "no-store", true},
	}
	for name, server := range webServers {
		if strings.Contains(name, "no more") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := find(t, server.program, server.pkg)
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(t, 1)[0]))
			server.start(t, program, t.TempDir(), site, addr, strings.TrimPrefix(ready.URL, "http://"))
			type answer struct {
				code         int
				head         http.Header
				status, body string
			}
			get := func(path, pin, dest string) (a answer, err error) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
				if err != nil {
					return a, err
				}
				if pin != "" {
					req.Header.Set("Cookie", "relman="+pin)
				}
				if dest != "" {
					req.Header.Set("Sec-Fetch-Dest", dest)
				}
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					return a, err
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				return answer{resp.StatusCode, resp.Header, resp.Status, string(body)}, err
			}
			eventually(t, 20*time.Second, name+" answers", func() error {
				_, err := get("/", "", "document")
				return err
			})
			for _, c := range tests {
				if c.nginx && name != "nginx" {
					continue
				}
				got, err := get(c.path, c.pin, c.dest)
				if err != nil {
					t.Fatal(err)
				}
				if c.code == 0 {
					if got.code/100 != 3 || !strings.HasSuffix(got.head.Get("Location"), c.path+"/") {
						t.Errorf("%s: %s to %q", c.path, got.status, got.head.Get("Location"))
					}
					continue
				}
				if got.code != c.code || c.body != "" && got.body != c.body {
					t.Errorf("%s with pin %q: %s %.60q, not %d %q", c.path, c.pin, got.status, got.body, c.code, c.body)
				}
				if cache := strings.Join(got.head.Values("Cache-Control"), " and "); c.cache != "" && cache != c.cache {
					t.Errorf("%s: Cache-Control %q, not %q", c.path, cache, c.cache)
				}
				page := c.dest == "document" && c.code != 0 // also that for what is not there
				if cookie := got.head.Get("Set-Cookie"); name == "nginx" && strings.HasPrefix(cookie, "relman="+ids[1]+";") != page && c.path != "/index.html" {
					t.Errorf("%s as %q sets the cookie %q", c.path, c.dest, cookie)
				}
			}
		})
	}
}

func shows(addr string) error {
	resp, err := client.Get("http://" + addr + "/" + pagePath(0))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// find finds a server's program, or skips the test.
func find(t testing.TB, name, pkg string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		if program = "/usr/sbin/" + name; !exists(program) {
			skip(t, fmt.Sprintf("%s is missing: apt-get install %s", name, pkg))
		}
	}
	return program
}

// deployed is a configuration out of deploy/, with some of what it says
// replaced. All of that has to be there.
func deployed(t testing.TB, file string, replace ...string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%s does not say %q", file, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

const shippedSite, shippedAdmin = "/var/lib/relman/sites/www", "127.0.0.1:9180"

func writeConfig(t testing.TB, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // for a server of somebody else
		t.Fatal(err)
	}
	return file
}

func startNginx(file string) func(t testing.TB, program, dir, site, addr, admin string) {
	return func(t testing.TB, program, dir, site, addr, admin string) {
		t.Helper()
		conf := deployed(t, file, shippedSite, site, "listen 80;", "listen "+addr+";", shippedAdmin, admin)
		writeConfig(t, filepath.Join(dir, "relman.conf"), conf)
		main := writeConfig(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
worker_processes 2;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    include %[1]s/relman.conf;
}
`, dir))
		graceful(t, start(t, "nginx", nil, program, "-c", main, "-p", dir))
	}
}

// graceful stops a server that has children of its own before the test kills
// what is left.
func graceful(t testing.TB, p *process) {
	t.Cleanup(func() { p.stop(t) })
}

func startApache(t testing.TB, program, dir, site, addr, admin string) {
	t.Helper()
	conf := deployed(t, "../deploy/apache/relman.conf", shippedSite, site, "<VirtualHost *:80>", "<VirtualHost "+addr+">", shippedAdmin, admin)
	var modules strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "mime", "dir", "rewrite", "headers", "proxy", "proxy_http", "setenvif"} {
		fmt.Fprintf(&modules, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	main := writeConfig(t, filepath.Join(dir, "apache.conf"), fmt.Sprintf(`ServerName localhost
ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/pid
Listen %[2]s
User www-data
Group www-data
ErrorLog /dev/stderr
%[3]s
TypesConfig /etc/mime.types
%[4]s`, dir, addr, modules.String(), conf))
	graceful(t, start(t, "apache2", nil, program, "-D", "FOREGROUND", "-f", main))
}

func startCaddy(t testing.TB, program, dir, site, addr, admin string) {
	t.Helper()
	conf := deployed(t, "../deploy/caddy/Caddyfile", shippedSite, site, ":80 {", "http://"+addr+" {", shippedAdmin, admin)
	main := writeConfig(t, filepath.Join(dir, "Caddyfile"), "{\n\tadmin off\n}\n"+conf)
	graceful(t, start(t, "caddy", []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, program, "run", "--config", main, "--adapter", "caddyfile"))
}
