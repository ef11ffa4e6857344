package nodeagent

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"relman/release"
)

const (
	indexPage    = "index.html"
	notFoundPage = "404.html"
)

// serve answers one request out of one release: the one shown when it began.
func (f *Front) serve(rw http.ResponseWriter, r *http.Request, log *slog.Logger) {
	w := &counted{ResponseWriter: rw, traffic: &f.traffic}
	defer w.end()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered here")
		return
	}
	s := f.hold()
	if s == nil {
		unavailable(w, fmt.Sprintf("no release of site %s is active on this node yet", f.site))
		return
	}
	defer func() {
		if err := s.release.release(); err != nil {
			log.Warn("release not closed", "site", f.site, "error", err)
		}
	}()
	f.headers(w.Header(), s)
	if err := s.release.answer(w, r); err != nil {
		f.broken(s.release, err, log)
		plain(w, http.StatusInternalServerError, "the file cannot be read on this node")
	}
}

// broken notes that a file could not be served. The release becomes suspect,
// and the agent examines and repairs it; no request waits for that.
func (f *Front) broken(r *Release, err error, log *slog.Logger) {
	f.traffic.broken.Add(1)
	if file, ok := errors.AsType[*fileError](err); ok && !isScarce(err) {
		if r.doubt() {
			f.poke()
		}
		if _, told := r.told.LoadOrStore(file.path, true); told {
			return
		}
	}
	log.Error("file not served", "site", f.site, "release", r.ID(), "error", err)
}

// answer answers with a file, a redirect or the page for what is not there.
// After an error nothing has been written.
func (r *Release) answer(w http.ResponseWriter, req *http.Request) error {
	name, ok := strings.CutPrefix(req.URL.Path, "/")
	if !ok {
		return r.notFound(w, req)
	}
	if name == "" || strings.HasSuffix(name, "/") {
		name += indexPage
	}
	if f, ok := r.manifest.Lookup(name); ok {
		return r.file(w, req, f)
	}
	if _, ok := r.manifest.Lookup(name + "/" + indexPage); ok {
		redirect(w, req, path.Base(name)+"/")
		return nil
	}
	return r.notFound(w, req)
}

// file answers with a file: whole, a range of it, or that it has not changed.
func (r *Release) file(w http.ResponseWriter, req *http.Request, f release.File) error {
	file, err := r.open(f)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	h := w.Header()
	h["Etag"] = []string{`"` + hex.EncodeToString(f.Digest[:]) + `"`}
	h["Content-Type"] = []string{cmp.Or(f.Type, mediaType(f.Path))}
	// The name of a file says nothing about its content: a client has to ask
	// whether what it has is still right, or a page and its style sheet could
	// come from two releases. The answer is a cheap 304.
	h["Cache-Control"] = []string{"no-cache"}
	http.ServeContent(w, req, "", time.Unix(f.MTime, 0), file)
	return nil
}

// notFound answers with the release's own page for that, if it has one.
func (r *Release) notFound(w http.ResponseWriter, req *http.Request) error {
	f, ok := r.manifest.Lookup(notFoundPage)
	if !ok {
		w.Header()["Cache-Control"] = []string{"no-cache"}
		plain(w, http.StatusNotFound, "404 page not found")
		return nil
	}
	file, err := r.open(f)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	h := w.Header()
	h["Content-Type"] = []string{cmp.Or(f.Type, mediaType(f.Path))}
	h["Content-Length"] = []string{strconv.FormatInt(f.Size, 10)}
	h["Cache-Control"] = []string{"no-cache"}
	w.WriteHeader(http.StatusNotFound)
	if req.Method != http.MethodHead {
		_, _ = io.CopyN(w, file, f.Size) // fails when the client is gone; it sees a body that is too short
	}
	return nil
}

// redirect sends the client to a neighbour of the path that it asked for. The
// address is relative, so that it can never lead to another host, and the
// client asks again next time: a later release may have a file there.
func redirect(w http.ResponseWriter, req *http.Request, to string) {
	u := url.URL{Path: to, RawQuery: req.URL.RawQuery}
	h := w.Header()
	h["Location"] = []string{u.String()}
	h["Cache-Control"] = []string{"no-cache"}
	w.WriteHeader(http.StatusPermanentRedirect)
}

// unavailable says that this node has nothing to show.
func unavailable(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Cache-Control", "no-store")
	plain(w, http.StatusServiceUnavailable, text)
}

// plain answers with one line of text.
func plain(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // fails when the client is gone
}
