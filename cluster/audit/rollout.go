package audit

// judgeRollout notes the rollouts that end without becoming active: they must not
// any more.
func (s *site) judgeRollout(st *step) {
	old := s.rollout
	if st.rollout == nil || old == nil {
		return
	}
	now := st.rollout.now
	if now != nil && now.Flip == old.Flip {
		return // it goes on
	}
	if a := st.active; a != nil && a.now != nil && a.now.Flip == old.Flip {
		return // it has become active
	}
	how := "ended"
	if now != nil {
		how = "replaced"
	}
	s.dead[old.Flip] = ending{st.revision, how}
}

// lookBuffers: I10.
func (s *site) lookBuffers(st *step) {
	if s.rollout == nil || st.rollout == nil && st.active == nil {
		return
	}
	key := ""
	if st.rollout != nil {
		key = st.rollout.key
	} else {
		key = st.active.key
	}
	for _, h := range s.active.needed() {
		if h.Buffer == s.rollout.Buffer {
			s.broken(I10, st, key, "the rollout of %s fills buffer %d, which %s needs", s.rollout.Release, h.Buffer, h.Release)
			return
		}
	}
}
