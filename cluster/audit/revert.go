package audit

import "strings"

// judgeRevert: I17. The leader goes back by itself only from what was made active so:
// on trial, and the time is over, or to bake, and that has not ended. Both end in the
// history, and not by a clock: what has been confirmed, or has baked, stays.
func (s *site) judgeRevert(st *step, old, a *active) {
	if a.Kind != "revert" {
		return
	}
	broken := func(format string, args ...any) { s.broken(I17, st, st.active.key, format, args...) }
	if old == nil || old.Previous == nil {
		broken("it reverts to %s, and there is none to go back to", &a.held)
		return
	}
	lapsed := old.ConfirmBy != nil && !a.At.Before(*old.ConfirmBy)
	bakes := old.Bake != nil && s.baked != old.Epoch
	switch {
	case a.Release != old.Previous.Release:
		broken("it reverts to %s, the release before was %s", a.Release, old.Previous.Release)
	case s.confirmed == old.Epoch:
		broken("it reverts epoch %d, which has been confirmed", old.Epoch)
	case !lapsed && !bakes && old.Bake != nil:
		broken("it reverts epoch %d, which has baked", old.Epoch)
	case !lapsed && !bakes:
		broken("it reverts epoch %d, which neither bakes nor was on trial until then", old.Epoch)
	case !st.judgesBad(old):
		broken("it reverts %s, and does not bar it", old.Release)
	}
}

// judgesBad reports whether a step judges what was active to be bad.
func (st *step) judgesBad(old *active) bool {
	for _, v := range st.verdicts {
		if v.name == string(old.Release) && v.now != nil && strings.HasPrefix(v.now.text, "bad ") {
			return true
		}
	}
	return false
}
