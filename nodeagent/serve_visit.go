package nodeagent

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"relman/nodeagent/siterules"
)

// visit is one request with the release that answers it, acquired.
type visit struct {
	h       *holdings
	rel     *Release
	path    string   // of the URL, without a pin
	pin     string   // in the path, "" for none
	pinned  bool     // the visitor has a pin of this site
	give    string   // the pin that he gets with a page; "": that of what is shown
	preview bool     // to a release that may never have been active
	keep    bool     // the visitor keeps the pin that he has
	most    int64    // bytes of answers that may be kept; 0: this one is not for everybody
	old     *Release // what is retained of the release that he is pinned to; not acquired
}

// visitError says why a request has no release that may answer it.
type visitError struct {
	code int
	text string
}

func (e *visitError) Error() string { return e.text }

// visit decides which release answers.
//
// What belongs to a page comes from the page's release, for as long as this node
// holds it: a visitor who is pinned gets that. A new page comes from what is
// active, and pins anew, so that he sees a flip with his next click and every page
// has all of the time until the second flip after it to load its parts. A pin
// in the path or in a header is obeyed for everything: somebody chose it.
//
// A pin to an epoch that this node has not heard of makes it ask etcd now: a
// visitor never sees what he has seen the successor of.
func (f *Front) visit(r *http.Request) (v visit, err error) {
	value, rest := pinOf(r)
	inPath := len(rest) != len(r.URL.Path)
	v.path, v.keep = rest, inPath || len(r.Header[pinHeader]) > 0
	if inPath {
		v.pin = value
	}
	h := f.holdings.Load()
	if h.shown == nil {
		return v, &visitError{http.StatusServiceUnavailable, fmt.Sprintf("no release of site %s is active on this node yet", f.site)}
	}
	var p pin
	if value != "" && h.pins != nil {
		if value == h.pin {
			v.pinned = true // to what is shown
		} else if p, err = h.pins.read(value); err == nil {
			v.pinned, v.preview = true, p.preview()
		}
	}
	if inPath && !v.pinned {
		return v, &visitError{http.StatusNotFound, "404 page not found"}
	}
	if v.pinned && p.epoch > h.shown.epoch {
		never := f.catchUp(r.Context(), p.epoch)
		h = f.holdings.Load()
		if never && !v.preview && !inPath { // a pin to what etcd has forgotten is none
			v.pinned, v.keep, p = false, false, pin{}
		}
	}
	if h.shown == nil {
		return v, &visitError{http.StatusServiceUnavailable, fmt.Sprintf("no release of site %s is active on this node yet", f.site)}
	}
	behind := p.epoch > h.shown.epoch
	if h.splits() != nil && !v.keep && !v.preview && !behind && navigates(r, rest) {
		return v.choose(h, p)
	}
	if p.release != "" && (v.preview || v.keep || behind || !navigates(r, rest)) {
		if v.rel = h.held(p.release); v.rel != nil {
			v.h, v.keep = h, true
			return v, nil
		}
		v.old = h.kept(p.release)
		if v.preview || behind || h.opening || h.tries(p.release) {
			return v, &visitError{http.StatusServiceUnavailable, fmt.Sprintf("this node does not hold release %s of site %s", p.release, f.site)}
		}
	}
	// What he was judged by: a swap that comes now is for the next request.
	if h.shown.release.acquire() {
		v.h, v.rel = h, h.shown.release
		return v, nil
	}
	if v.h, v.rel = f.hold(); v.rel == nil {
		return v, &visitError{http.StatusServiceUnavailable, fmt.Sprintf("no release of site %s is active on this node yet", f.site)}
	}
	return v, nil
}

// navigates reports whether a request is for a new page, and not for a part of
// one. Browsers say so; of others, what looks like a page is one.
func navigates(r *http.Request, path string) bool {
	if dest := r.Header["Sec-Fetch-Dest"]; len(dest) > 0 {
		return dest[0] == "document"
	}
	return pageLike(path)
}

// pageLike: a path that has no extension, or that of a page.
func pageLike(p string) bool { return !siterules.LooksLikeAsset(p) }

// prefix is an address of the site for a visitor with a pin in the path.
func (v *visit) prefix(location string) string {
	if v.pin != "" && strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		return "/" + pinPath + v.pin + location
	}
	return location
}

// wantsAsset: the client says that it wants a part of a page.
func wantsAsset(r *http.Request) bool {
	dest := r.Header["Sec-Fetch-Dest"]
	if len(dest) == 0 {
		return false
	}
	switch dest[0] {
	case "document", "iframe", "frame", "empty":
		return false
	}
	return true
}

// isAsset reports whether a request is for a part of a page: an answer that is a
// page would be of no use.
func isAsset(r *http.Request, path string) bool {
	return wantsAsset(r) || !pageLike(path)
}

// lost finds a path in what is retained of the visitor's release, acquired; nil
// for none: then it is what the release had in common with what is shown.
func (v *visit) lost(name string) *Release {
	if v.old == nil || name == "" || siterules.IsControl(name) {
		return nil
	}
	if _, ok := v.old.files.Lookup(name); ok && v.old.acquire() {
		return v.old
	}
	return nil
}

// asset finds a path that the visitor's release lacks in the others that the
// node holds, the newest first, acquired; nil for none. A hash in the name says
// which content is meant, and nobody guesses it, so it may be that of a release
// which is not active yet; of a name that only looks like one that has to be known
// to be active, elsewhere at least. Anything else is found for visitors who are
// pinned, and only in what was active before: what a release removed is gone for
// everybody else, and what is not released yet is not shown.
func (v *visit) asset(ctx context.Context, name string, f *Front) *Release {
	exact := hashed(name)
	if !exact && !v.pinned || siterules.IsControl(name) {
		return nil
	}
	sure := surelyHashed(name)
	for _, r := range v.h.all() {
		later := r.ID().Seq() >= v.h.shown.release.ID().Seq()
		if r == v.rel || !exact && later {
			continue
		}
		_, has := r.files.Lookup(name)
		shows := has && (!later || sure || r.public.Load() || f.isActive(ctx, v.h, r))
		if shows && r.acquire() {
			return r
		}
	}
	return nil
}

// forever reports whether a path never has another content: its name says so,
// and no release that the node holds contradicts.
func (h *holdings) forever(rel *Release, name string) bool {
	if !hashed(name) {
		return false
	}
	f, _ := rel.files.Lookup(name)
	for _, r := range h.others {
		if other, ok := r.files.Lookup(name); ok && other.Digest != f.Digest {
			return false
		}
	}
	return true
}

// startPreview turns a link to a preview into a cookie, and the link into one
// without the token: it would leave this site in a Referer otherwise. It reports
// whether the request was such a link.
func (f *Front) startPreview(w http.ResponseWriter, r *http.Request) bool {
	if !strings.Contains(r.URL.RawQuery, previewQuery+"=") {
		return false
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !q.Has(previewQuery) {
		return false
	}
	token := q.Get(previewQuery)
	q.Del(previewQuery)
	cookie := pinCookie + "="
	if token == "off" {
		cookie += "; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
	} else {
		h := f.holdings.Load()
		var p pin
		err := errPin
		if h.pins != nil {
			p, err = h.pins.read(token)
		}
		if err != nil || !p.preview() {
			w.Header().Set("Cache-Control", "no-store")
			plain(w, http.StatusForbidden, "this preview has expired, or is not for this site: `relman preview` makes a new one")
			return true
		}
		left := strconv.Itoa(max(1, int(time.Until(p.until)/time.Second)))
		cookie += token + "; Path=/; Max-Age=" + left + "; HttpOnly; SameSite=Lax"
	}
	head := w.Header()
	head.Set("Set-Cookie", cookie)
	head.Set("Cache-Control", "no-store")
	head.Set("Location", "?"+q.Encode()) // the same path, on the same host
	w.WriteHeader(http.StatusFound)
	return true
}
