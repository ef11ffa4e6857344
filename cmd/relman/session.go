package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/user"
	"strings"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// session is a connection to a cluster, for one site.
type session struct {
	client *cluster.Client
	site   release.Site
	store  objectstore.Store // nil until openStore
	url    string            // of the store, "" for the one that the cluster names
	at     string            // its URL, whoever named it, from openStore on
	log    *slog.Logger
	by     string // who asks
}

// connect connects to etcd and finds the site. Close it.
func (a *app) connect(ctx context.Context) (*session, error) {
	if a.cfg.Site != "" { // before anything is asked
		if _, err := release.ParseSite(a.cfg.Site); err != nil {
			return nil, usageError(err)
		}
	}
	cfg, err := a.clusterConfig()
	if err != nil {
		return nil, err
	}
	if !a.cfg.Verbose {
		cfg.Log = nil // what goes wrong comes back as an error
	}
	client, err := cluster.Dial(ctx, cfg)
	if err != nil {
		return nil, a.dialError(err, cfg.Endpoints)
	}
	site, err := resolveSite(ctx, client, a.cfg.Site)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return newSession(client, site, a.cfg.Store, cfg.Log), nil
}

// dialError adds what to do about an etcd that nobody named.
func (a *app) dialError(err error, endpoints []string) error {
	f := failureOf(err)
	if from, _ := a.settings.origin("endpoints"); f.class == classEtcdUnavailable && from == originDefault {
		return f.withHint("start a cluster here with `relman dev`, or name one with --endpoints (asked: %s)", strings.Join(endpoints, ","))
	}
	return f
}

// newSession is a session on a connection that there is; log may be nil.
func newSession(c *cluster.Client, site release.Site, storeURL string, log *slog.Logger) *session {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &session{client: c, site: site, url: storeURL, log: log, by: whoami()}
}

func (s *session) close() { _ = s.client.Close() } // nothing is under way any more

// openStore opens the store that was named, or the cluster's.
func (s *session) openStore(ctx context.Context) error {
	if s.store != nil {
		return nil
	}
	info, err := s.client.Info(ctx)
	if err != nil && (s.url == "" || !errors.Is(err, cluster.ErrNotFound)) {
		if errors.Is(err, cluster.ErrNotFound) {
			return usagef("the cluster does not know where its objects are").
				withHint("name the store with --store, or once and for all with `relman admin bucket init --store URL`")
		}
		return err
	}
	st, err := openStore(ownCredentials(info), s.url)
	if err != nil {
		return err
	}
	s.store, s.at = objectstore.Retry(st, s.log), cmp.Or(s.url, info.Store)
	return nil
}

// ownCredentials takes the credentials out of a cluster's entry unless they are
// for a store on this machine: nobody else's are to stand in etcd.
func ownCredentials(info cluster.Info) cluster.Info {
	if !loopbackStore(info.Store) {
		info.AccessKey, info.SecretKey = "", ""
	}
	return info
}

// loopbackStore reports whether a store is reached on this machine only.
func loopbackStore(store string) bool {
	u, err := url.Parse(store)
	if err != nil {
		return false
	}
	endpoint, err := url.Parse(u.Query().Get("endpoint"))
	return err == nil && isLoopback(endpoint.Host)
}

// resolveSite is the site that was named, or the only one.
func resolveSite(ctx context.Context, c *cluster.Client, name string) (release.Site, error) {
	sites, err := c.Sites(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, s := range sites {
		if string(s) == name {
			return s, nil
		}
		names = append(names, string(s))
	}
	have := "the cluster has no site yet"
	if len(names) > 0 {
		have = "the cluster has " + strings.Join(names, ", ")
	}
	switch {
	case name != "":
		return "", usagef("there is no site %s: %s", name, have).withHint("`relman admin site add %s` makes it", name)
	case len(sites) == 0:
		return "", usagef("%s", have).withHint("`relman admin site add NAME` makes one")
	case len(sites) > 1:
		return "", usagef("which site? %s", have).withHint("name one with -s SITE or RELMAN_SITE")
	}
	return sites[0], nil
}

// clusterConfig says how to reach etcd.
func (a *app) clusterConfig() (cluster.Config, error) {
	c := cluster.Config{Endpoints: a.endpoints(), Log: a.logger()}
	var err error
	if c.TLS, err = tlsConfig(a.cfg); err != nil {
		return c, err
	}
	c.Username, c.Password, err = a.password()
	return c, err
}

// endpoints are those that were configured, else those of a `relman dev` that
// runs here, else the usual one.
func (a *app) endpoints() []string {
	if len(a.cfg.Endpoints) > 0 {
		return a.cfg.Endpoints
	}
	if found, ok := devEndpoint(); ok {
		return []string{found}
	}
	return []string{devEtcdURL}
}

// tlsConfig is nil where nothing asks for TLS.
func tlsConfig(c config) (*tls.Config, error) {
	if c.CACert == "" && c.Cert == "" && c.Key == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if (c.Cert == "") != (c.Key == "") {
		return nil, configError("--cert and --key go together")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, configError("client certificate: %v", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, configError("cacert: %v", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, configError("cacert: %s holds no certificate", c.CACert)
		}
	}
	return t, nil
}

// password is the etcd user and its password. A password is never a flag: it
// stands in a file, or in the environment; etcdctl's user:password is
// understood there.
func (a *app) password() (name, password string, err error) {
	name, password = a.cfg.User, os.Getenv("RELMAN_PASSWORD")
	if before, after, ok := strings.Cut(name, ":"); ok {
		if from, _ := a.settings.origin("user"); from != originEnv {
			return "", "", configError("user: only the name; the password comes from RELMAN_PASSWORD or --password-file")
		}
		name, password = before, after
	}
	switch file := a.cfg.PasswordFile; {
	case name == "" && file != "":
		return "", "", configError("password-file: whose password? name the etcd user with --user")
	case name == "":
		return "", "", nil // with a client certificate its CN is the user
	case file != "":
		if password, err = readSecret(file); err != nil {
			return "", "", configError("password-file: %v", err)
		}
	case password == "":
		password = os.Getenv("ETCDCTL_PASSWORD")
	}
	return name, password, nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s has mode %04o: others can read it; chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	return strings.TrimRight(string(raw), "\r\n"), err
}

// whoami is who asks, as history shows it: user@host.
func whoami() string {
	name := fmt.Sprintf("uid-%d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := shortHostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
