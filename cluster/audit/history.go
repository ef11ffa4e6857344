package audit

import "relman/release"

// keptEpochs is how many epochs the history has at least.
const keptEpochs = 1000

// judgeResults: I15. A request that was answered with success is not told
// otherwise later.
func (s *site) judgeResults(st *step) {
	for _, r := range st.results {
		if was, is := s.results[r.name]; is && was.State == "active" && r.now != nil && r.now.lost() {
			s.broken(I15, st, r.key, "the request was answered with success, epoch %d, and now is %s", was.Epoch, r.now.State)
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
