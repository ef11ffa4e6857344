package cluster

import (
	"errors"
	"fmt"
	"testing"
)

// TestFlip_aLateCopy: a copy of a flip that comes when its request was refused
// and the reason for that is gone does not carry the request out after all.
func TestFlip_aLateCopy(t *testing.T) {
	w := newWorld(t, dial(t))
	w.del(RolloutKey(w.site)) // a flip that needs no rollout: nothing else would stop it
	v := w.view()
	late := Flip(w.fence, v, w.next(v))
	w.put(FreezeKey(w.site), encode(Freeze{By: "op"}))
	_ = w.refused(late, ClassFrozen)
	if _, err := w.c.Commit(t.Context(), End(w.fence, w.view(), Result{State: StateRefused, At: day})); err != nil {
		t.Fatal(err)
	}
	w.del(FreezeKey(w.site))
	_ = w.refused(late, ClassConflict)
}

func TestUncertain(t *testing.T) {
	refused := func(g Guard) error { return fmt.Errorf("try: %w", &Refusal{Txn: "t", Guard: g}) }
	for _, c := range []struct {
		what    string
		err     error
		unknown bool // an earlier copy's outcome; the transaction has a mark
		want    bool // ErrUnknown
	}{
		{"success", nil, true, false},
		{"no earlier copy", refused(absent("k", ClassFrozen)), false, false},
		{"a freeze can be lifted", refused(absent("k", ClassFrozen)), true, true},
		{"a claim can come back", refused(everyValueIs("k", "R", ClassNotReady)), true, true},
		{"a key that is gone can be absent again", refused(unchanged("k", 0, ClassRolloutChanged)), true, true},
		{"a revision never comes back", refused(unchanged("k", 7, ClassActiveMoved)), true, false},
		{"leadership never comes back", refused(Fence{"k", 7}.guard()), true, false},
		{"another error", ErrDenied, true, false},
	} {
		if err := uncertain(c.err, c.unknown, false); errors.Is(err, ErrUnknown) != (c.unknown && RefusedBy(c.err) != "") {
			t.Errorf("%s, without a mark: %v", c.what, err)
		}
		err := uncertain(c.err, c.unknown, true)
		if errors.Is(err, ErrUnknown) != c.want || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
