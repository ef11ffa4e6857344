package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"relman/cluster"
	"relman/release"
)

// Reader is what the API reads. Any manager can answer, whether it leads or not.
type Reader interface {
	Sites(ctx context.Context) ([]release.Site, error)
	// Observe reads all of one site; cluster.ErrNotFound: there is no such site.
	Observe(ctx context.Context, site release.Site) (*cluster.View, error)
	// History reads the last changes of the active release, newest first.
	History(ctx context.Context, site release.Site, limit int) ([]cluster.Active, error)
}

// Bounds of an answer.
const (
	answerWithin   = 10 * time.Second
	defaultHistory = 100
)

// api serves what is in etcd, read-only, as JSON.
type api struct {
	reader  Reader
	manager *Manager
	log     *slog.Logger
}

// NewAPI is the manager's read-only HTTP API:
//
//	GET /v1/sites                 []SiteSummary
//	GET /v1/sites/{site}          SiteDetail
//	GET /v1/sites/{site}/releases []ReleaseDetail, newest first
//	GET /v1/sites/{site}/history  []cluster.Active, newest first; ?limit=N, 100 by default, at most 1,000
//	GET /v1/sites/{site}/rollout  RolloutDetail
//	GET /v1/nodes                 []Node
//	GET /v1/nodes/{node}          Node
//	GET /healthz                  200 while the process lives
//	GET /readyz                   200 when etcd answers
//
// An error is {"error":{"class","text"}}. Metrics are for the caller to serve,
// who knows what else the process counts.
func NewAPI(r Reader, m *Manager) http.Handler {
	a := &api{reader: r, manager: m, log: m.log}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/sites", a.answer(a.sites))
	mux.Handle("GET /v1/sites/{site}", a.answer(ofSite(a, detail)))
	mux.Handle("GET /v1/sites/{site}/releases", a.answer(ofSite(a, releaseDetails)))
	mux.Handle("GET /v1/sites/{site}/rollout", a.answer(ofSite(a, rolloutDetail)))
	mux.Handle("GET /v1/sites/{site}/history", a.answer(a.history))
	mux.Handle("GET /v1/nodes", a.answer(a.nodes))
	mux.Handle("GET /v1/nodes/{node}", a.answer(a.node))
	mux.Handle("GET /healthz", a.answer(a.healthz))
	mux.Handle("GET /readyz", a.answer(a.readyz))
	mux.Handle("/", a.answer(func(r *http.Request) (any, error) {
		return nil, fmt.Errorf("%w: %s", cluster.ErrNotFound, r.URL.Path)
	}))
	return a.readOnly(mux)
}

// readOnly refuses every method that could change something.
func (a *api) readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			a.write(w, http.StatusMethodNotAllowed, errorBody("E_METHOD", r.Method+" is not allowed: this API only reads"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer turns a function into a handler.
func (a *api) answer(get func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		body, err := get(r.WithContext(ctx))
		if err != nil {
			status, class := classify(err)
			if status >= http.StatusInternalServerError {
				a.log.Warn("request not answered", "path", r.URL.Path, "error", err)
			}
			a.write(w, status, errorBody(class, err.Error()))
			return
		}
		a.write(w, http.StatusOK, body)
	})
}

// write sends a JSON value. A client that went away is no error of ours.
func (a *api) write(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		a.log.Error("answer cannot be written", "error", err)
		http.Error(w, `{"error":{"class":"E_INTERNAL","text":"answer cannot be written"}}`, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(raw)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n'))
}

// Classes of errors that only the API has.
const (
	classNotFound    cluster.Class = "E_NOT_FOUND"
	classInvalid     cluster.Class = "E_INVALID"
	classUnavailable cluster.Class = "E_ETCD_UNAVAILABLE"
	classDenied      cluster.Class = "E_DENIED"
	classInternal    cluster.Class = "E_INTERNAL"
)

func classify(err error) (int, cluster.Class) {
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		return http.StatusNotFound, classNotFound
	case errors.Is(err, release.ErrInvalid):
		return http.StatusBadRequest, classInvalid
	case errors.Is(err, cluster.ErrDenied):
		return http.StatusServiceUnavailable, classDenied
	case errors.Is(err, cluster.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, classUnavailable
	default:
		return http.StatusInternalServerError, classInternal
	}
}

func errorBody(c cluster.Class, text string) any {
	return map[string]cluster.ErrorInfo{"error": {Class: c, Text: text}}
}
