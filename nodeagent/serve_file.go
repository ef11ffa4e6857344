package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"relman/nodeagent/siterules"
	"relman/release"
)

// serve answers one request out of one release.
func (f *Front) serve(rw http.ResponseWriter, r *http.Request, log *slog.Logger) {
	w := &counted{ResponseWriter: rw, traffic: &f.traffic}
	defer w.end()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed, "only GET and HEAD are answered here")
		return
	}
	if f.gate != nil && f.gate.policy == Stop && f.gate.fenced() {
		unavailable(w, "this node is cut off from etcd: other nodes may show another release")
		return
	}
	if f.startPreview(w, r) {
		return
	}
	v, err := f.visit(r)
	if refused, ok := errors.AsType[*visitError](err); ok {
		if refused.code == http.StatusServiceUnavailable {
			unavailable(w, refused.text)
		} else {
			w.Header().Set("Cache-Control", "no-store")
			plain(w, refused.code, refused.text)
		}
		return
	}
	f.answer(w, r, &v, v.rel, log)
}

// answer answers out of the visitor's release, and gives it back.
func (f *Front) answer(w http.ResponseWriter, r *http.Request, v *visit, rel *Release, log *slog.Logger) {
	defer f.release(rel, log)
	redirects, headers, err := rel.siteRules()
	if err != nil {
		f.fail(w, rel, err, log)
		return
	}
	site := siterules.Site{Redirects: redirects, Policy: v.h.policy}
	out := site.Answer(rel.has, siterules.Request{Path: v.path, Query: r.URL.RawQuery, Asset: wantsAsset(r)})
	// What the release lacks, or lacked until what it had was given up for others.
	from, file := rel, release.File{}
	if name := strings.TrimPrefix(v.path, "/"); out.Status != http.StatusOK || v.old != nil {
		other := v.lost(name)
		if other == nil && out.Status == http.StatusNotFound && isAsset(r, v.path) {
			other = v.asset(r.Context(), name, f)
		}
		if other == nil && out.Status == http.StatusNotFound && f.unconfirmed.Load() && hashed(name) {
			// A node that has just started may not know the page that it is of.
			unavailable(w, "this node does not know yet what is active")
			return
		}
		if other != nil {
			defer f.release(other, log)
			from, out = other, siterules.Outcome{Status: http.StatusOK, File: name}
		}
	}
	head := w.Header()
	f.headers(head, v.h, from)
	if out.File != "" {
		file, _ = from.files.Lookup(out.File)
	}
	switch {
	case out.Location != "":
		v.noCache(head)
		head["Location"] = []string{v.prefix(out.Location)}
		headers.Apply(v.path, head)
		v.limit(head)
		w.WriteHeader(out.Status)
	case out.Status == http.StatusOK:
		v.cache(head, from, file)
		forAll := v.h.splits() == nil || !isPage(file) // while there is a canary, nobody gets a page without his pin
		if from == v.h.shown.release && forAll && !v.keep && !v.preview && v.old == nil && head["Relman-State"] == nil &&
			site.Shows(rel.has, v.path) == out.File {
			v.most = f.share.Load()
		}
		err = from.file(w, r, v, file, headers)
	default:
		err = from.page(w, r, v, out.Status, file, headers)
	}
	if err != nil {
		f.fail(w, from, err, log)
	}
}

// isActive asks etcd whether a release has become active that this node does not show
// yet.
func (f *Front) isActive(ctx context.Context, h *holdings, r *Release) bool {
	f.catchUp(ctx, h.shown.epoch+1)
	return r.public.Load()
}

// release gives a release back.
func (f *Front) release(r *Release, log *slog.Logger) {
	if err := r.release(); err != nil {
		log.Warn("release not closed", "site", f.site, "error", err)
	}
}

// fail answers where a file cannot be read. Nothing has been written.
func (f *Front) fail(w http.ResponseWriter, r *Release, err error, log *slog.Logger) {
	f.broken(r, err, log)
	head := w.Header()
	clear(head)
	if isScarce(err) { // of this process; another node may have what it takes
		unavailable(w, "this node is short of memory or of files that it may open")
		return
	}
	head["Cache-Control"] = notStored
	plain(w, http.StatusInternalServerError, "the file cannot be read on this node")
}

// cache says how long an answer may be kept, and pins a visitor to whom a page
// is given.
func (v *visit) cache(head http.Header, rel *Release, f release.File) {
	if v.preview {
		v.noCache(head)
		return
	}
	if v.h.forever(rel, f.Path) {
		head["Cache-Control"] = immutable
		return
	}
	v.noCache(head)
	if isPage(f) {
		v.pinTo(head)
	}
}

// pinTo pins a visitor to the release of the page that he is given.
func (v *visit) pinTo(head http.Header) {
	switch {
	case v.keep || v.preview:
	case v.give != "":
		head["Set-Cookie"] = []string{pinCookie + "=" + v.give + sideSuffix}
	case v.h.pin != "" && v.h.splits() == nil:
		head["Set-Cookie"] = []string{pinCookie + "=" + v.h.pin + v.h.pins.suffix}
	}
}

// limit makes sure that no cache gives an answer to others that was chosen for this
// visitor, whatever the site says of it, and that one without a word is asked for anew.
func (v *visit) limit(head http.Header) {
	switch {
	case v.preview:
		head["Cache-Control"] = notStored
	case v.keep || v.h != nil && v.h.splits() != nil:
		head["Cache-Control"] = forOne
	case head["Cache-Control"] == nil:
		head["Cache-Control"] = revalidated
	}
}

// Values of headers that are shared by all responses.
var (
	immutable   = []string{"public, max-age=31536000, immutable"}
	revalidated = []string{"no-cache"}
	notStored   = []string{"no-store"}
	forOne      = []string{"private, no-cache"}
	byCookie    = []string{"Cookie"}
	noIndex     = []string{"noindex"}
)

// noCache is for what may be another content next time: the name of a file says
// nothing about it. A client has to ask whether what it has is still right, or a
// page and its style sheet could come from two releases. The answer is a cheap
// 304. Which release answers depends on the visitor's pin.
func (v *visit) noCache(head http.Header) {
	switch {
	case v.preview:
		head["Cache-Control"] = notStored
		head["X-Robots-Tag"] = noIndex
		head["Relman-Preview"] = v.rel.idText
	default:
		head["Cache-Control"] = revalidated
	}
	if v.h.pin != "" {
		head["Vary"] = byCookie
	}
}

func isPage(f release.File) bool {
	switch path.Ext(f.Path) {
	case ".html", ".htm", ".xhtml":
		return true
	}
	return false
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

// file answers with a file: whole, a range of it, or that it has not changed.
func (r *Release) file(w http.ResponseWriter, req *http.Request, v *visit, f release.File, headers *siterules.Headers) error {
	w, file, a, err := r.content(w, req, f, v.most > 0 && req.Header["Range"] == nil)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	h := w.Header()
	h["Content-Type"] = []string{cmp.Or(f.Type, mediaType(f.Path))}
	headers.Apply(v.path, h)
	if !v.h.forever(r, f.Path) {
		v.limit(h)
	}
	if a != nil {
		a.heads(h, f)
		v.h.answers.keep(v.path, f, a, v.most)
	}
	http.ServeContent(w, sameDate(req, f), "", time.Unix(f.MTime, 0), file)
	return nil
}

// sameDate leaves a date out by which a client asks for what has changed since, unless
// it is the file's own: after a rollback, files are older than they were.
func sameDate(req *http.Request, f release.File) *http.Request {
	since := req.Header["If-Modified-Since"]
	if len(since) == 0 {
		return req
	}
	if t, err := http.ParseTime(since[0]); err == nil && t.Unix() == f.MTime {
		return req
	}
	other := *req
	other.Header = req.Header.Clone()
	other.Header.Del("If-Modified-Since")
	return &other
}

// page answers with a status that says that there is nothing, and the page that
// the release has for that, if it has one and a page was asked for. That an asset is
// not there no cache may keep: it may be there with the next release, or on the next
// node.
func (r *Release) page(w http.ResponseWriter, req *http.Request, v *visit, status int, f release.File, headers *siterules.Headers) error {
	h := w.Header()
	v.noCache(h)
	asset := isAsset(req, v.path)
	if f.Path == "" || asset {
		headers.Apply(v.path, h)
		if v.limit(h); asset {
			h["Cache-Control"] = notStored
		}
		plain(w, status, fmt.Sprintf("%d %s", status, strings.ToLower(cmp.Or(notFoundText(status), http.StatusText(status)))))
		return nil
	}
	file, err := r.open(f)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	h["Content-Type"] = []string{cmp.Or(f.Type, mediaType(f.Path))}
	v.pinTo(h) // it has parts like any other page
	headers.Apply(v.path, h)
	v.limit(h)
	h["Content-Length"] = []string{strconv.FormatInt(f.Size, 10)}
	w.WriteHeader(status)
	if req.Method != http.MethodHead {
		_, _ = io.CopyN(w, file, f.Size) // fails when the client is gone; it sees a body that is too short
	}
	return nil
}

func notFoundText(status int) string {
	if status == http.StatusNotFound {
		return "page not found"
	}
	return ""
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
