package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// swapTime is the flag --swap-at: when nodes are to show what is flipped to.
type swapTime struct {
	in time.Duration // after the flip; 0: see at
	at time.Time     // zero: at once
}

// Type names the flag's values in the help.
func (s *swapTime) Type() string { return "time" }

func (s *swapTime) String() string {
	switch {
	case s.in > 0:
		return "+" + s.in.String()
	case !s.at.IsZero():
		return s.at.Format(time.RFC3339Nano)
	}
	return ""
}

// Set reads "+2s" or "2026-11-22T12:00:00Z".
func (s *swapTime) Set(text string) error {
	if after, ok := strings.CutPrefix(text, "+"); ok {
		in, err := time.ParseDuration(after)
		switch {
		case err != nil:
			return fmt.Errorf("%q is no duration: +2s, or +5m30s", text)
		case in < time.Millisecond:
			return fmt.Errorf("%q is not after the flip: leave the flag out to swap at once", text)
		case in > cluster.MostAhead:
			return fmt.Errorf("%q is more than %v after the flip", text, cluster.MostAhead)
		}
		*s = swapTime{in: in}
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%q is neither a time after the flip, as +2s, nor one as 2026-11-22T12:00:00Z", text)
	}
	switch ahead := time.Until(at); {
	case ahead <= 0:
		return fmt.Errorf("%s has passed %s ago", text, tookText(-ahead))
	case ahead > cluster.MostAhead:
		return fmt.Errorf("%s is %s ahead: it can be %v at most, since all nodes hold both releases until then", text, tookText(ahead), cluster.MostAhead)
	}
	*s = swapTime{at: at.UTC()}
	return nil
}

// scheduledText says when nodes show what was flipped to, "" for at once.
func scheduledText(d cluster.Desired, a cluster.Active) string {
	switch {
	case !a.ActivateAt.IsZero():
		return ", shown from " + clockText(a.ActivateAt)
	case !d.SwapAt.IsZero() && d.SwapAt.Before(a.At):
		return ", shown at once: it was ready after " + clockText(d.SwapAt)
	}
	return ""
}

// clockText is a time with its milliseconds.
func clockText(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// wrongClocks are the nodes whose times say nothing, as far as is known: they say so
// themselves, or have swapped before the flip.
func wrongClocks(v *cluster.View) []release.NodeID {
	s, _ := v.Skew()
	all := append(v.WrongClocks(), s.Off...)
	slices.Sort(all)
	return slices.Compact(all)
}

// wrongClocksText names them: "n4 (1h0m0s behind)".
func wrongClocksText(v *cluster.View, nodes []release.NodeID) string {
	var all []string
	for _, n := range nodes {
		all = append(all, string(n)+" ("+clockErrorText(v.Status[n])+")")
	}
	return some(all)
}

// clockErrorText says how wrong a clock is.
func clockErrorText(st cluster.Status) string {
	off := time.Duration(st.ClockErrorMS) * time.Millisecond
	switch {
	case off > 0:
		return tookText(off) + " ahead"
	case off < 0:
		return tookText(-off) + " behind"
	}
	return "behind"
}

// skewText is a skew in a table, "" where none was measured.
func skewText(s *cluster.Skew) string {
	if s == nil {
		return ""
	}
	text := fmt.Sprintf("%.1f ms", s.MS)
	if len(s.Off) > 0 {
		text += " without " + some(s.Off)
	}
	return text
}

// wrongClocks are the nodes of all sites whose clocks differ from the leader's.
func (c *checkup) wrongClocks() map[release.NodeID]cluster.Status {
	wrong := map[release.NodeID]cluster.Status{}
	for _, s := range c.sites {
		if s.view == nil {
			continue
		}
		for _, n := range s.view.WrongClocks() {
			wrong[n] = s.view.Status[n]
		}
	}
	return wrong
}

// comparable are the nodes of whose clocks nothing is known but what they answered.
func (c *checkup) comparable() []nodeCheckup {
	wrong := c.wrongClocks()
	return slices.DeleteFunc(slices.Clone(c.nodes), func(n nodeCheckup) bool {
		_, is := wrong[n.node]
		return is
	})
}

// diagnoseWrongClocks says which nodes' clocks differ from the leader's. When most
// do, it is the leader's.
func diagnoseWrongClocks(c *checkup) (all []finding) {
	wrong := c.wrongClocks()
	const do = "set it by NTP: scheduled flips and the times in the history go by it"
	if len(wrong) > 1 && 2*len(wrong) > len(c.nodes) {
		return append(all, warn("clock", "the leading manager's differs from that of %d of %d nodes", len(wrong), len(c.nodes)).todo("%s", do))
	}
	for _, n := range slices.Sorted(maps.Keys(wrong)) {
		all = append(all, warn(string(n), "its clock is %s: it shows scheduled flips as soon as they come", clockErrorText(wrong[n])).todo("%s", do))
	}
	return all
}
