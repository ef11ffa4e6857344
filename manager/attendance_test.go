package manager

import (
	"testing"
	"time"

	"relman/release"
)

// TestAttendance_stepped: a clock that is set, while a node is silent, makes no wait
// shorter or longer.
func TestAttendance_stepped(t *testing.T) {
	v := siteView(dead("web-1"))
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		a := newAttendance()
		a.note(v, now)
		was := a.silentUntil(v, "web-1").Sub(now)
		a.stepped(by)
		a.note(v, now.Add(by))
		if got := a.silentUntil(v, release.NodeID("web-1")).Sub(now.Add(by)); got != was {
			t.Errorf("set by %v: it is waited for %v, not %v", by, got, was)
		}
	}
}

// TestClockStep: what passes is no step.
func TestClockStep(t *testing.T) {
	before := time.Now()
	after := before.Add(time.Minute) // both of its readings
	if got := clockStep(before, after); got != 0 {
		t.Errorf("nobody has set the clock, and it says %v", got)
	}
	// Without a monotonic reading, nothing is known of steps.
	if got := clockStep(before.Round(0), after.Round(0).Add(time.Hour)); got != 0 {
		t.Errorf("%v", got)
	}
}
