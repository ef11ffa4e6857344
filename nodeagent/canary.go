package nodeagent

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"relman/cluster"
	"relman/release"
)

// A canary is a release that some visitors see beside the active one. Every node
// holds both, so which one a visitor sees is up to him, not to the node that
// answers: his pin says it, and holds for all of his pages while the canary lasts.
// Who has no cookies is asked anew with each page.

// sideSuffix ends the cookie of a visitor while there is a canary: he is to stay on
// his side also when he pauses. What the cookie says is of no use after the canary.
const sideAge = 24 * 60 * 60 // seconds

var sideSuffix = "; Path=/; Max-Age=" + strconv.Itoa(sideAge) + "; HttpOnly; SameSite=Lax"

// split is what visitors are shown while there is a canary.
type split struct {
	active, canary release.ID
	share          int           // of cluster.Whole lots that see the canary; 0: it is for the nodes of a group
	since          release.Epoch // an older pin says nothing about this canary
}

// splitOf is the split of what is active, nil for none.
func splitOf(a cluster.Active) *split {
	c := a.Canary
	if c == nil {
		return nil
	}
	return &split{active: a.Release, canary: c.Release, share: int(c.Share), since: c.Since}
}

// splits is the split, if visitors can be pinned to a side of it: without that, a
// page could be of one release and its parts of the other. nil: all see what is
// shown.
func (h *holdings) splits() *split {
	if h.split == nil || h.pins == nil || h.serving.Pin == cluster.PinOff {
		return nil
	}
	return h.split
}

// tries reports whether a release is the canary: a visitor who sees it gets nothing
// of any other one.
func (h *holdings) tries(id release.ID) bool { return h.split != nil && id == h.split.canary }

// side is the release that a visitor sees, and his lot if there is one. One who
// comes without a pin of this canary's time draws a lot, or sees what the node that
// he has come to shows.
func (s *split) side(p pin, shown release.ID) (id release.ID, lot int) {
	current := p.epoch >= s.since && p.epoch > 0
	switch {
	case s.share == 0 && current && (p.release == s.active || p.release == s.canary):
		return p.release, 0
	case s.share == 0:
		return shown, 0
	case !current || p.lot == 0:
		p.lot = 1 + rand.IntN(int(cluster.Whole))
	}
	if p.lot <= s.share {
		return s.canary, p.lot
	}
	return s.active, p.lot
}

// choose decides which release a new page of a visitor comes from, and the pin that
// he gets with it.
func (v visit) choose(h *holdings, p pin) (visit, error) {
	shown := h.shown.release.ID()
	if v.pinned && p.release == "" { // he is pinned to what is shown
		p = pin{release: shown, epoch: h.shown.epoch}
	}
	id, lot := h.split.side(p, shown)
	if v.h, v.rel = h, h.held(id); v.rel == nil {
		return v, &visitError{http.StatusServiceUnavailable, fmt.Sprintf("this node does not hold release %s of site %s", id, h.pins.site)}
	}
	if lot == 0 {
		v.give = h.pins.value(h.shown.epoch, id)
	} else {
		v.give = h.pins.withLot(h.shown.epoch, id, lot)
	}
	return v, nil
}

// shownOf is what this node shows of what is active: the canary, where that is for
// its group.
func (s *site) shownOf(a cluster.Active) (release.ID, release.Digest) {
	if a.Canary == nil {
		return a.Release, a.Manifest
	}
	return shownBy(s.cfg.Group, a)
}

// shownBy is what the nodes of a group show of what is active.
func shownBy(g release.Group, a cluster.Active) (release.ID, release.Digest) {
	if c := a.Canary; c != nil && c.Group != "" && c.Group == cmp.Or(g, release.DefaultGroup) {
		return c.Release, c.Manifest
	}
	return a.Release, a.Manifest
}

// lacksSide says which side of a canary the node does not hold, "" for none. Of the
// one that it does not show, too, every visitor may ask it for a part of his page.
// It is called with the lock.
func (s *site) lacksSide() string {
	a := s.view.Active.Value
	switch c := a.Canary; {
	case c == nil:
		return ""
	case s.holding(c.Release, c.Manifest) == nil:
		return "does not hold the canary"
	case s.holding(a.Release, a.Manifest) == nil:
		return "does not hold the active release, which others see beside the canary"
	}
	return ""
}
