package cluster

import (
	"time"

	"relman/release"
)

// MostAhead is how far ahead a scheduled flip may be: while one is pending, every
// node holds two releases of which it shows the older.
const MostAhead = time.Hour

// ActivateTime is when the nodes are to show what is flipped to now, zero for at
// once. A time that has passed meanwhile is at once.
func (d Desired) ActivateTime(now time.Time) time.Time {
	at := d.SwapAt
	if d.SwapInMS > 0 {
		at = now.Add(time.Duration(d.SwapInMS) * time.Millisecond)
	}
	if !at.After(now) {
		return time.Time{}
	}
	return at
}

// Pending reports whether nodes are still to wait at a time before they show the
// release.
func (a Active) Pending(now time.Time) bool { return a.ActivateAt.After(now) }

// Unseen reports whether no node with a good clock shows the release yet at a time:
// those whose clocks are a little ahead show it a little earlier.
func (a Active) Unseen(at time.Time) bool { return a.Pending(at.Add(MaxClockError)) }

// Since is when nodes are to show the release: at the flip, or when it was
// scheduled for.
func (a Active) Since() time.Time {
	if a.ActivateAt.After(a.At) {
		return a.ActivateAt
	}
	return a.At
}

// Schedule makes a the flip from old that is to take effect at a time, zero for at
// once.
//
// What a takes the place of while it is still pending was shown by hardly anybody:
// the release to keep, and to go back to, is the one before that. A flip to what is
// still shown changes nothing that a visitor sees, and needs no schedule. One to what
// is pending gives it another time.
func (a Active) Schedule(old Entry[Active], at time.Time) Active {
	a.ActivateAt, a.Before, a.Previous = at, old.Value.Epoch, nil
	if old.Exists() {
		a.Previous = &Held{Release: old.Value.Release, Buffer: old.Value.Buffer}
		if old.Value.Unseen(a.At) {
			a.Before = old.Value.Before
			switch p := old.Value.Previous; {
			case a.Release == old.Value.Release:
				a.Previous = p
			case p == nil || a.Before == 0 && p.Release == a.Release: // nothing is shown yet
			case p.Release == a.Release:
				a.ActivateAt = time.Time{}
			default:
				a.Previous = p
			}
		}
	}
	if a.ActivateAt.IsZero() {
		a.Before = 0
	}
	return a
}

// WaitsAt is what a node shows that has applied an epoch, while a is pending by its
// clock: what is still shown, nil for nothing, with its epoch. It is false for a
// node that is beyond that: it shows a.
func (a Active) WaitsAt(now time.Time, applied release.Epoch) (*Held, release.Epoch, bool) {
	if !a.Pending(now) || applied > a.Before {
		return nil, 0, false
	}
	if a.Before == 0 {
		return nil, 0, true
	}
	return a.Previous, a.Before, true
}
