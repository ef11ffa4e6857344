package nodeagent

import (
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"relman/release"
)

// Server answers for all sites of a node. It routes by host: the names given
// to SetHosts, <site>.localhost, and for any other name the site that was
// added first.
type Server struct {
	log *slog.Logger

	mu     sync.Mutex // held to change routes
	routes atomic.Pointer[routes]
}

// routes is never changed once it is in use.
type routes struct {
	fronts []*Front // in the order in which they were added
	sites  map[release.Site]*Front
	hosts  map[string]release.Site
}

// NewServer has no sites yet. A nil log discards.
func NewServer(log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{log: log}
	s.routes.Store(&routes{})
	return s
}

// Add adds a site. One that is there already is replaced.
func (s *Server) Add(f *Front) {
	s.change(func(r *routes) {
		r.sites = maps.Clone(r.sites)
		if r.sites == nil {
			r.sites = map[release.Site]*Front{}
		}
		old := r.sites[f.site]
		r.sites[f.site] = f
		var fronts []*Front
		for _, o := range r.fronts {
			if o == old {
				o, f = f, nil
			}
			fronts = append(fronts, o)
		}
		if f != nil {
			fronts = append(fronts, f)
		}
		r.fronts = fronts
		for _, o := range fronts {
			o.share.Store(int64(mostKept / len(fronts)))
		}
	})
}

// SetHosts says which host names stand for which sites, in place of what was
// said before.
func (s *Server) SetHosts(hosts map[string]release.Site) {
	s.change(func(r *routes) {
		r.hosts = make(map[string]release.Site, len(hosts))
		for name, site := range hosts {
			r.hosts[hostname(name)] = site
		}
	})
}

// change replaces the routes by a changed copy. f replaces what is inside of
// it and changes none of it.
func (s *Server) change(f func(*routes)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.routes.Load()
	f(&next)
	s.routes.Store(&next)
}

// ServeHTTP answers with a file of the release that the named site shows.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.routes.Load().front(r.Host)
	if f == nil {
		unavailable(w, "this node has no site yet")
		return
	}
	f.serve(w, r, s.log)
}

// front finds the site for a host, nil when there are none at all.
func (r *routes) front(host string) *Front {
	host = hostname(host)
	if site, ok := r.hosts[host]; ok && r.sites[site] != nil {
		return r.sites[site]
	}
	if site, ok := strings.CutSuffix(host, ".localhost"); ok && r.sites[release.Site(site)] != nil {
		return r.sites[release.Site(site)]
	}
	if len(r.fronts) == 0 {
		return nil
	}
	return r.fronts[0]
}

// hostname is a host without port and final dot, in lower case.
func hostname(host string) string {
	if strings.IndexByte(host, ':') >= 0 {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
