package nodeagent

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"relman/release"
)

// ErrNotRefusing says that a site obeys etcd, and there is nothing to accept.
var ErrNotRefusing = errors.New("it is not refusing what etcd says")

// AcceptReset has a site obey etcd again whose epoch went back. Somebody has made
// sure that what it says now is to be shown. Another cluster is not accepted so: that
// a node changes hands should not happen by one call.
func (a *Agent) AcceptReset(name release.Site) error {
	a.mu.Lock()
	i := slices.IndexFunc(a.sites, func(s *site) bool { return s.name == name })
	if i < 0 {
		a.mu.Unlock()
		return fmt.Errorf("%w %s", ErrNoSite, name)
	}
	s := a.sites[i]
	a.mu.Unlock()
	return s.acceptReset()
}

// acceptReset forgets which epoch was applied. What is shown is shown on until the
// node holds what etcd says.
func (s *site) acceptReset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refusing == nil:
		return ErrNotRefusing
	case errors.Is(s.refusing, errForeign):
		return fmt.Errorf("%w: to give it to that one, stop its agent, remove sites/*/%s below its --dir, and start it again", s.refusing, stateFile)
	}
	s.log.Warn("obeying etcd again", "refused", s.refusing, "release", s.applied.Release, "epoch", s.applied.Epoch)
	s.applied, s.heard = state{}, nil
	s.front.forgetEpoch()
	s.swap()
	s.poke()
	return nil
}

// answerAccept accepts for one site (?site=).
func (a *Agent) answerAccept(w http.ResponseWriter, r *http.Request) {
	switch err := a.AcceptReset(release.Site(r.URL.Query().Get("site"))); {
	case errors.Is(err, ErrNoSite):
		plain(w, http.StatusNotFound, err.Error())
	case err != nil:
		plain(w, http.StatusConflict, err.Error())
	default:
		plain(w, http.StatusOK, "ok")
	}
}
