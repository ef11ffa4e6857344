package nodeagent

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"relman/cluster"
	"relman/nodeagent/siterules"
	"relman/release"
)

// Front is what a node shows of one site. Showing another release is one store
// to one pointer: a request loads it once and ends on what it found.
type Front struct {
	site        release.Site
	mu          sync.Mutex // held to change holdings
	holdings    atomic.Pointer[holdings]
	unconfirmed atomic.Bool
	traffic     traffic
	share       atomic.Int64 // bytes of answers that it may keep
	gate        *gate        // nil in tests: never cut off

	poke    func()                                                      // has the agent look at what is suspect; it does not wait
	catchUp func(ctx context.Context, epoch release.Epoch) (never bool) // shows what is active now, if that can be learned soon
}

// holdings are what a node can answer with. They are never changed once they
// are in use.
type holdings struct {
	shown  *shown     // nil: nothing
	others []*Release // verified, too, the newest first
	olds   []*Release // what is retained of releases that are not held any more, the newest first

	opening bool // the node has just started: it has more than this

	split   *split // nil: there is no canary
	serving cluster.Serving
	policy  siterules.Policy
	pins    *pins  // nil: nobody is pinned
	pin     string // of what is shown

	answers *answers // given while these were the holdings
}

// shown is a release with the epoch at which it became active, and the headers
// that say so, made once and shared by all responses.
type shown struct {
	release *Release
	epoch   release.Epoch
	epText  []string
}

// NewFront is a site that shows nothing yet, and is not confirmed.
func NewFront(site release.Site) *Front {
	f := &Front{site: site, poke: func() {}, catchUp: func(context.Context, release.Epoch) bool { return false }}
	f.holdings.Store(&holdings{serving: cluster.DefaultServing(), answers: &answers{}})
	f.share.Store(mostKept)
	f.unconfirmed.Store(true)
	return f
}

// Site is the site's name.
func (f *Front) Site() release.Site { return f.site }

// change replaces the holdings by a changed copy.
func (f *Front) change(do func(h *holdings)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.holdings.Load()
	do(&next)
	next.pin, next.answers = "", &answers{}
	if next.shown != nil && next.pins != nil && next.serving.Pin != cluster.PinOff {
		next.pin = next.pins.value(next.shown.epoch, next.shown.release.ID())
	}
	f.holdings.Store(&next)
}

// Show makes every request from now on see r; nil shows nothing. It returns
// the release shown before, nil for none, for the caller to close: requests
// that began on it still end on it.
func (f *Front) Show(r *Release, epoch release.Epoch) (before *Release) {
	return f.show(r, epoch, nil)
}

// show is Show beside a canary.
func (f *Front) show(r *Release, epoch release.Epoch, s *split) (before *Release) {
	f.change(func(h *holdings) {
		h.split = s
		if h.shown != nil && h.shown.release != r {
			before = h.shown.release
		}
		h.shown = nil
		if r != nil {
			h.shown = &shown{r, epoch, []string{strconv.FormatUint(uint64(epoch), 10)}}
		}
	})
	return before
}

// reopened shows on what is shown, opened anew.
func (f *Front) reopened(r *Release) {
	f.change(func(h *holdings) { h.shown = &shown{r, h.shown.epoch, h.shown.epText} })
}

// forgetEpoch shows on what is shown, as if it had never become active: any
// epoch is newer.
func (f *Front) forgetEpoch() {
	f.change(func(h *holdings) {
		if h.shown != nil {
			h.shown = &shown{h.shown.release, 0, []string{"0"}}
		}
	})
}

// Hold says which verified releases the node has, shown or not, and of which it
// has something. Assets that the one shown lacks are answered out of them, and
// visitors who are pinned to one.
func (f *Front) Hold(rs, olds []*Release) {
	rs, olds = slices.Clone(rs), slices.Clone(olds)
	slices.SortFunc(rs, newest)
	slices.SortFunc(olds, newest)
	f.change(func(h *holdings) { h.others, h.olds = rs, olds })
}

// setOpening says whether what the node has is still being looked at.
func (f *Front) setOpening(yes bool) { f.change(func(h *holdings) { h.opening = yes }) }

// Serve says how the site is served. Without a secret nobody is pinned.
func (f *Front) Serve(s cluster.Serving, secret cluster.Secret) {
	f.change(func(h *holdings) { h.serving, h.policy, h.pins = s, policyOf(s), newPins(f.site, s, secret) })
}

// SetConfirmed says whether the node knows that what it shows is active. While
// it does not, responses carry "Relman-State: unconfirmed".
func (f *Front) SetConfirmed(yes bool) { f.unconfirmed.Store(!yes) }

// Shown is the release that is shown and its epoch, "" and 0 for none.
func (f *Front) Shown() (release.ID, release.Epoch) {
	s := f.holdings.Load().shown
	if s == nil {
		return "", 0
	}
	return s.release.ID(), s.epoch
}

// hold takes what is shown and keeps it open until release is called on it; nil
// when nothing is shown.
func (f *Front) hold() (*holdings, *Release) {
	for {
		h := f.holdings.Load()
		if h.shown == nil {
			return h, nil
		}
		if h.shown.release.acquire() {
			return h, h.shown.release
		}
		// It was closed between the two lines, so something else is shown by
		// now. A release that is closed while it is shown is a programming
		// error; then there is nothing to show.
		if f.holdings.Load() == h {
			return h, nil
		}
	}
}

// held is a release that is verified on this node, acquired; nil for none.
func (h *holdings) held(id release.ID) *Release {
	if h.shown != nil && h.shown.release.ID() == id && h.shown.release.acquire() {
		return h.shown.release
	}
	for _, r := range h.others {
		if r.ID() == id && r.acquire() {
			return r
		}
	}
	return nil
}

// all are the releases in which an asset may be, the newest first.
func (h *holdings) all() []*Release {
	if len(h.olds) == 0 {
		return h.others
	}
	return append(slices.Clone(h.others), h.olds...)
}

// kept is what is retained of a release, nil for nothing.
func (h *holdings) kept(id release.ID) *Release {
	for _, r := range h.olds {
		if r.ID() == id {
			return r
		}
	}
	return nil
}

// headers says which release answers, and what the node shows.
func (f *Front) headers(head http.Header, h *holdings, r *Release) {
	head["Relman-Release"] = r.idText
	head["Relman-Epoch"] = h.shown.epText
	switch {
	case f.gate != nil && f.gate.fenced():
		head["Relman-State"] = []string{"fenced"}
	case f.unconfirmed.Load():
		head["Relman-State"] = []string{"unconfirmed"}
	}
	head["X-Content-Type-Options"] = []string{"nosniff"}
}
