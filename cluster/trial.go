package cluster

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"relman/release"
)

// OnTrial reports whether what is active goes back by itself when nobody
// confirms it.
func (v *View) OnTrial() bool {
	a := v.Active.Value
	return v.Active.Exists() && !a.ConfirmBy.IsZero() && a.Previous != nil && v.Confirmed.Value != uint64(a.Epoch)
}

// Confirm ends the trial of what v shows as active: it stays.
func Confirm(v *View) Txn {
	a := v.Active
	return Txn{
		Name: fmt.Sprintf("confirm %s of %s", a.Value.Release, v.Site),
		Guards: []Guard{
			unchanged(ActiveKey(v.Site), a.Mod, ClassActiveMoved),
			unchanged(ConfirmedKey(v.Site), v.Confirmed.Mod, ClassConflict),
		},
		Ops: []Op{putBare(ConfirmedKey(v.Site), strconv.FormatUint(uint64(a.Value.Epoch), 10))},
	}
}

// Confirm ends the trial of what v shows as active: it stays. A *Refusal means
// that something else is active by now, or that somebody else was first.
func (c *Client) Confirm(ctx context.Context, v *View) error {
	_, err := c.Commit(ctx, Confirm(v))
	return err
}

// Revert is T7 without a request: the release that v shows as active was on
// trial or baked, and did not pass: nodes say so, if it was for nodes. It goes back to
// the previous one, which every member still holds, and bars the other one. Whatever was
// asked for meanwhile goes on.
func Revert(f Fence, v *View, a Active, why string, nodes ...release.NodeID) Txn {
	bad := v.Active.Value
	a.Leader = f.Create
	t := Txn{
		Name: fmt.Sprintf("revert %s from %s to %s", v.Site, bad.Release, a.Release),
		Guards: []Guard{
			f.guard(),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
			unchanged(ConfirmedKey(v.Site), v.Confirmed.Mod, ClassConflict),
			unchanged(BakedKey(v.Site), v.Baked.Mod, ClassConflict),
			freezeGuard(v, Desired{Mode: Rollback}),
			absent(VerdictKey(v.Site, a.Release), ClassYanked),
			created(ReleaseKey(v.Site, a.Release), v.Releases[a.Release].Create, ClassReleaseGone),
			created(ReleaseKey(v.Site, bad.Release), v.Releases[bad.Release].Create, ClassReleaseGone),
			unchanged(ConfigKey(v.Site), v.Policy.Mod, ClassPolicyChanged),
			unchanged(RosterKey(v.Site), v.Roster.Mod, ClassRosterChanged),
			everyValueIs(ClaimsPrefix(v.Site, a.Buffer), string(a.Release), ClassNotReady),
		},
	}
	t.Guards = append(t.Guards, v.liveGuards(a.Buffer, a.Release)...)
	history := put(HistoryKey(v.Site, a.Epoch), a)
	t.Ops = []Op{
		history,
		putBare(VerdictKey(v.Site, bad.Release), string(Bad)+" "+why),
		put(ResultKey(v.Site, bad.Request), Result{
			State: StateReverted, Release: bad.Release, Epoch: bad.Epoch, Changed: true, At: a.At,
			Error: &ErrorInfo{Class: ClassReverted, Text: why, Nodes: nodes},
		}),
		put(ActiveKey(v.Site), a),
	}
	t.Mark = &history
	return t
}

// ConfirmTime is when a flip at a time has to be confirmed, zero for never.
func (d Desired) ConfirmTime(flip time.Time) time.Time {
	if d.ConfirmSeconds <= 0 {
		return time.Time{}
	}
	return flip.Add(time.Duration(d.ConfirmSeconds) * time.Second)
}
