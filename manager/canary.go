package manager

import (
	"slices"
	"time"

	"relman/cluster"
	"relman/release"
)

// beside keeps what is active, with a canary at its side or, when that is to end,
// without one.
func beside(a *cluster.Active, v *cluster.View, r cluster.Readiness) {
	d, old := v.Desired.Value, v.Active.Value
	a.Release, a.Buffer, a.Manifest, a.Previous = old.Release, old.Buffer, old.Manifest, old.Previous
	if d.Mode == cluster.EndCanary {
		a.Quorum = cluster.Quorum{} // it needs none
		if a.Message = "ends the canary " + string(d.Release); d.Message != "" {
			a.Message += ": " + d.Message
		}
		return
	}
	a.Canary = &cluster.Canary{
		Release:  d.Release,
		Buffer:   r.Buffer,
		Manifest: v.Releases[d.Release].Value.Manifest,
		Audience: d.Canary,
		Since:    a.Epoch,
	}
	if c := old.Canary; c != nil && c.Release == d.Release && c.Buffer == r.Buffer {
		a.Canary.Since = c.Since
	}
}

// alreadySo is the result of a request for what is so, nil for any other.
func alreadySo(v *cluster.View, now time.Time) *cluster.Result {
	d, a := v.Desired.Value, v.Active.Value
	switch {
	case !v.Active.Exists():
		return nil
	case d.Mode == cluster.TryOut && a.Canary != nil && a.Canary.Release == d.Release && a.Canary.Audience == d.Canary:
		return &cluster.Result{State: cluster.StateCanary, Release: d.Release, Epoch: a.Epoch, At: now}
	case a.Release == d.Release && !d.Hold && a.Unseen(now) && !d.ActivateTime(now).Equal(a.ActivateAt):
		return nil // it is to be shown at another time
	case a.Release == d.Release:
		return &cluster.Result{State: cluster.StateActive, Release: d.Release, Epoch: a.Epoch, At: now}
	}
	return nil
}

// wrongCanary is why a request about a canary cannot be carried out, nil for no
// reason.
func wrongCanary(v *cluster.View) *cluster.ErrorInfo {
	d, a := v.Desired.Value, v.Active.Value
	if c := v.InTheWay(d); c != nil {
		return refuse(cluster.ClassConflict, "%s has a canary, %s: promote it or end it first", v.Site, c.Release)
	}
	switch d.Mode {
	case cluster.TryOut:
		switch err := d.Canary.Validate(); {
		case err != nil:
			return refuse(cluster.ClassConflict, "%v", err)
		case !v.Active.Exists():
			return refuse(cluster.ClassActiveMoved, "%s has nothing active yet that a canary could be shown beside", v.Site)
		case v.OnTrial():
			return refuse(cluster.ClassActiveMoved, "%s is on trial: it has to be confirmed before a canary is shown beside it", a.Release)
		case v.Baking():
			return refuse(cluster.ClassActiveMoved, "%s bakes until %s: a canary can be shown beside it after that, or after `relman confirm`", a.Release, a.BakeEnd().Format(time.RFC3339))
		case d.Canary.Group != "" && !hasGroup(v, d.Canary.Group):
			return refuse(cluster.ClassQuorum, "%s has no node of group %s", v.Site, d.Canary.Group)
		}
	case cluster.Promote, cluster.EndCanary:
		if d.Mode == cluster.Promote && a.Release == d.Release {
			return nil // it has been done
		}
		if a.Canary == nil || a.Canary.Release != d.Release {
			return refuse(cluster.ClassActiveMoved, "%s is not a canary of %s", d.Release, v.Site)
		}
	}
	return nil
}

// hasGroup reports whether a node of a group counts.
func hasGroup(v *cluster.View, g release.Group) bool {
	return slices.ContainsFunc(v.Claims, func(c cluster.Claim) bool { return c.Group == g })
}

// noRoom is the result of a request that needs a buffer where every buffer is
// needed: of a release that nodes lack while a canary is shown.
func noRoom(v *cluster.View, now time.Time) cluster.Result {
	d, c := v.Desired.Value, v.Active.Value.Canary
	r := cluster.Result{State: cluster.StateRefused, Release: d.Release, At: now}
	switch {
	case c != nil && c.Release == d.Release:
		late := v.Ready(c.Buffer, c.Release).Late
		var names []string
		for _, n := range late {
			names = append(names, string(n))
		}
		r.State = cluster.StateFailed
		r.Error = refuse(cluster.ClassNotReady, "not every node holds the canary %s any more: %s", d.Release, fewOf(names))
		r.Error.Nodes = late[:min(len(late), maxNamed)]
	case c != nil:
		r.Error = refuse(cluster.ClassConflict, "the canary %s has the buffer that %s would be prepared in: promote it or end it first, or have a policy of %d buffers", c.Release, d.Release, v.Policy.Value.Buffers+1)
	default: // only an edit by hand leads here
		r.Error = refuse(cluster.ClassPolicyChanged, "no buffer is free for %s", d.Release)
	}
	return r
}
