package nodeagent

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"relman/release"
)

// Front is what a node shows of one site. Showing another release is one store
// to one pointer: a request loads it once and ends on what it found.
type Front struct {
	site        release.Site
	shown       atomic.Pointer[shown]
	unconfirmed atomic.Bool
	traffic     traffic
	poke        func() // has the agent look at what is suspect; it does not wait
}

// shown is a release with the epoch at which it became active, and the headers
// that say so, made once and shared by all responses.
type shown struct {
	release *Release
	epoch   release.Epoch
	idText  []string
	epText  []string
}

// NewFront is a site that shows nothing yet, and is not confirmed.
func NewFront(site release.Site) *Front {
	f := &Front{site: site, poke: func() {}}
	f.unconfirmed.Store(true)
	return f
}

// Site is the site's name.
func (f *Front) Site() release.Site { return f.site }

// Show makes every request from now on see r; nil shows nothing. It returns
// the release shown before, nil for none, for the caller to close: requests
// that began on it still end on it.
func (f *Front) Show(r *Release, epoch release.Epoch) (before *Release) {
	var now *shown
	if r != nil {
		now = &shown{r, epoch, []string{string(r.ID())}, []string{strconv.FormatUint(uint64(epoch), 10)}}
	}
	if old := f.shown.Swap(now); old != nil && old.release != r {
		return old.release
	}
	return nil
}

// SetConfirmed says whether the node knows that what it shows is active. While
// it does not, responses carry "Relman-State: unconfirmed".
func (f *Front) SetConfirmed(yes bool) { f.unconfirmed.Store(!yes) }

// Shown is the release that is shown and its epoch, "" and 0 for none.
func (f *Front) Shown() (release.ID, release.Epoch) {
	s := f.shown.Load()
	if s == nil {
		return "", 0
	}
	return s.release.ID(), s.epoch
}

// hold takes what is shown and keeps it open until release is called on its
// release; nil when nothing is shown.
func (f *Front) hold() *shown {
	for {
		s := f.shown.Load()
		if s == nil || s.release.acquire() {
			return s
		}
		// It was closed between the two lines, so something else is shown by
		// now. A release that is closed while it is shown is a programming
		// error; then there is nothing to show.
		if f.shown.Load() == s {
			return nil
		}
	}
}

// headers says which release answers.
func (f *Front) headers(h http.Header, s *shown) {
	h["Relman-Release"] = s.idText
	h["Relman-Epoch"] = s.epText
	if f.unconfirmed.Load() {
		h["Relman-State"] = []string{"unconfirmed"}
	}
	h["X-Content-Type-Options"] = []string{"nosniff"}
}
