package audit

import (
	"slices"

	"relman/release"
)

// keptEpochs is how many epochs the history has at least.
const keptEpochs = 1000

// judgeResults: I15. A request that was answered with success is not told
// otherwise later, nor is (I11) one that has ended without it.
func (s *site) judgeResults(st *step) {
	for _, r := range st.results {
		was, is := s.results[r.name]
		switch {
		case !is || r.now == nil:
		case was.State == "active" && r.now.lost():
			s.broken(I15, st, r.key, "the request was answered with success, epoch %d, and now is %s", was.Epoch, r.now.State)
		case was.lost() && r.now.State == "active":
			s.broken(I11, st, r.key, "the request was %s, and now is answered with success", was.State)
		}
	}
}

// lookReleases: I14. What is shown, or was before, is registered, and with the
// manifest that nodes go by.
func (s *site) lookReleases(st *step) {
	look := func(key string, id release.ID) {
		r, is := s.releases[id]
		shown, isShown := s.active.manifests()[id]
		switch {
		case !is:
			s.broken(I14, st, key, "%s is needed and not registered", id)
		case isShown && shown != r.Manifest:
			s.broken(I14, st, key, "%s is shown with the manifest %s, and registered with %s", id, shown, r.Manifest)
		}
	}
	changed := func(id release.ID) int {
		return slices.IndexFunc(st.releases, func(r named[record]) bool { return r.name == string(id) })
	}
	for _, h := range s.active.needed() {
		if st.active != nil {
			look(st.active.key, h.Release)
		} else if i := changed(h.Release); i >= 0 {
			look(st.releases[i].key, h.Release)
		}
	}
}

// judgeHistory: I15. What is in the history stays, as it was.
func (s *site) judgeHistory(st *step) {
	for _, h := range st.history {
		epoch := epochOf(h.name)
		was, is := s.history[epoch]
		switch {
		case !is:
		case h.now == nil:
			if !s.trimmed(epoch) {
				s.broken(I15, st, h.key, "epoch %d was deleted from the history, at epoch %d", epoch, s.active.epoch())
			}
		case !h.now.same(&was):
			s.broken(I15, st, h.key, "history is rewritten: epoch %d was %s", epoch, was.Release)
		}
	}
}

// trimmed reports whether an epoch is too old to be kept.
func (s *site) trimmed(e release.Epoch) bool { return e+keptEpochs <= s.active.epoch() }

// same reports whether two values are of the same flip; what is measured later
// may differ.
func (a *active) same(b *active) bool {
	return a.held == b.held && a.Epoch == b.Epoch && a.Flip == b.Flip && a.Request == b.Request && a.Kind == b.Kind
}

// lookHistory: I15. What became active, and what was answered so, is in the
// history.
func (s *site) lookHistory(st *step) {
	if a := st.active; a != nil && a.now != nil && !st.astray {
		if h, is := s.history[a.now.Epoch]; !is || !h.same(a.now) {
			s.broken(I15, st, a.key, "epoch %d became active, and the history does not have it", a.now.Epoch)
		}
	}
	for _, r := range st.results {
		if r.now == nil || r.now.State != "active" || s.trimmed(r.now.Epoch) {
			continue
		}
		h, is := s.history[r.now.Epoch]
		if !is || r.now.Release != "" && !h.shows(r.now.Release) {
			s.broken(I15, st, r.key, "the request was answered with success, and the history does not have %s at epoch %d", r.now.Release, r.now.Epoch)
		}
	}
}

// shows reports whether a release is shown, to all or to some.
func (a *active) shows(id release.ID) bool {
	return a.Release == id || a.Canary != nil && a.Canary.Release == id
}
