package nodeagent

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"relman/release"
)

// AdminHandler answers for the node itself, on a listener of its own:
// /healthz, the process lives; /readyz, the node may take traffic; POST
// /v1/verify, it reads all that it holds; POST /v1/accept-reset, it obeys etcd
// again; /v1/contact, for its peers.
func (a *Agent) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ok, why := a.Ready(); !ok {
			plain(w, http.StatusServiceUnavailable, why)
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /v1/contact", a.gate.answerContact)
	// A page that somebody looks at on the same network cannot ask for these.
	protect := http.NewCrossOriginProtection()
	mux.Handle("POST /v1/verify", protect.Handler(http.HandlerFunc(a.answerVerify)))
	mux.Handle("POST /v1/accept-reset", protect.Handler(http.HandlerFunc(a.answerAccept)))
	return mux
}

// VerifyAnswer is a line of the answer to POST /v1/verify. Lines of progress
// come every second, the last line has a result or an error.
type VerifyAnswer struct {
	Files    int64 `json:"files"` // read so far
	Bytes    int64 `json:"bytes"`
	AllBytes int64 `json:"all_bytes"`

	Sites []Verified `json:"sites,omitempty"`
	Error string     `json:"error,omitempty"`
	Done  bool       `json:"done"`
}

const verifyLineEvery = time.Second

// answerVerify verifies one site (?site=), or all. It ends when whoever asked is
// gone: asked again it begins anew.
func (a *Agent) answerVerify(w http.ResponseWriter, r *http.Request) {
	site := release.Site(r.URL.Query().Get("site"))
	var progress VerifyProgress
	var sites []Verified
	var err error
	ctx, done := r.Context(), make(chan struct{})
	go func() {
		defer close(done)
		sites, err = a.Verify(ctx, site, &progress)
	}()
	tick := time.NewTicker(verifyLineEvery)
	defer tick.Stop()
	begun := false
	line := func(answer VerifyAnswer) {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		answer.Files, answer.Bytes, answer.AllBytes = progress.Files.Load(), progress.Bytes.Load(), progress.AllBytes.Load()
		_ = json.NewEncoder(w).Encode(answer)     // fails when the client is gone, and so does the verification
		_ = http.NewResponseController(w).Flush() // the same
	}
	for {
		select {
		case <-tick.C:
			line(VerifyAnswer{})
			continue
		case <-done:
		}
		switch {
		case errors.Is(err, ErrVerifying):
			plain(w, http.StatusConflict, err.Error())
		case errors.Is(err, ErrNoSite):
			plain(w, http.StatusNotFound, err.Error())
		case err != nil && !begun:
			plain(w, http.StatusServiceUnavailable, err.Error())
		case err != nil:
			line(VerifyAnswer{Error: err.Error(), Done: true})
		default:
			line(VerifyAnswer{Sites: sites, Done: true})
		}
		return
	}
}
