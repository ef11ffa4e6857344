package manager

import (
	"reflect"
	"testing"
	"time"

	"relman/cluster"
)

// TestMind: it does what a keeper would do, and remembers what it has seen.
func TestMind(t *testing.T) {
	v, now := siteView(), now
	f := cluster.Fence{Key: "election/m", Create: 7}
	m, seen := NewMind(), newAttendance()
	for i := range 3 {
		now = now.Add(time.Duration(i) * time.Second)
		seen.note(v, now)
		want := decideSeeing(v, seen, now)
		txns, until := m.Next(f, v, now)
		if w, ok := want.(wait); ok {
			if len(txns) > 0 || !until.Equal(w.until) {
				t.Errorf("look %d: %d transactions, until %v; want to wait until %v", i, len(txns), until, w.until)
			}
			continue
		}
		if len(txns) != len(want.steps(f, v)) {
			t.Errorf("look %d: %d transactions for %T", i, len(txns), want)
		}
	}
	if !reflect.DeepEqual(m.seen, seen) {
		t.Errorf("it has seen %+v, a keeper %+v", m.seen, seen)
	}
}
