package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"relman/release"
)

// Canary is a release that is shown beside the active one, to an audience. Every
// member holds it, also those that do not show it: whoever sees it gets all of each
// page from it, whichever nodes answer.
type Canary struct {
	Release  release.ID     `json:"release"`
	Buffer   int            `json:"buffer"`
	Manifest release.Digest `json:"manifest"`
	Audience
	// Since is the epoch at which it was first shown. A visitor's side is drawn
	// once from then on, also when the share changes.
	Since release.Epoch `json:"since"`
}

// Audience is who sees a canary: a share of the visitors, or whoever comes to the
// nodes of a group. One of the two is set.
type Audience struct {
	Share Share         `json:"share,omitempty"`
	Group release.Group `json:"group,omitempty"`
}

// Share is a part of the visitors in hundredths of a percent, written "2.5%". 0 is
// none.
type Share int

// Whole is the share of all visitors.
const Whole Share = 10000

// ParseAudience reads a share ("5%", "0.25%") or the name of a group.
func ParseAudience(text string) (Audience, error) {
	if strings.HasSuffix(text, "%") {
		share, err := parseShare(text)
		return Audience{Share: share}, err
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return Audience{}, fmt.Errorf("%q: a share of the visitors has a percent sign, such as 5%%", text)
	}
	group, err := release.ParseGroup(text)
	if err != nil {
		return Audience{}, fmt.Errorf("%q is neither a share of the visitors (5%%) nor a group of nodes: %w", text, err)
	}
	return Audience{Group: group}, nil
}

func parseShare(text string) (Share, error) {
	wrong := fmt.Errorf("share %q: give 0.01%% to 99.99%%", text)
	whole, part, _ := strings.Cut(strings.TrimSuffix(text, "%"), ".")
	n, err := strconv.ParseUint(whole, 10, 7)
	if err != nil || len(part) > 2 {
		return 0, wrong
	}
	hundredths, err := strconv.ParseUint((part + "00")[:2], 10, 7)
	if err != nil {
		return 0, wrong
	}
	if s := Share(n*100 + hundredths); s > 0 && s < Whole {
		return s, nil
	}
	return 0, wrong
}

// String is the share as ParseAudience reads it.
func (s Share) String() string {
	return strconv.FormatFloat(float64(s)/100, 'f', -1, 64) + "%"
}

// MarshalText is encoding.TextMarshaler.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(text []byte) error {
	share, err := parseShare(string(text))
	if err != nil {
		return err
	}
	*s = share
	return nil
}

// String is the audience in words.
func (a Audience) String() string {
	if a.Group != "" {
		return "the nodes of group " + string(a.Group)
	}
	return a.Share.String() + " of the visitors"
}

// Validate is an error for an audience that is not exactly one.
func (a Audience) Validate() error {
	if (a.Share == 0) == (a.Group == "") {
		return errors.New("a canary is for a share of the visitors or for a group of nodes")
	}
	return nil
}

// InTheWay is the canary that a request for another release would end unasked, nil
// for none. A rollback is to work whatever there is, and what is only prepared
// changes nothing.
func (v *View) InTheWay(d Desired) *Canary {
	c := v.Active.Value.Canary
	asks := d.Mode == Publish || d.Mode == FlipTo || d.Mode == TryOut
	if !v.Active.Exists() || c == nil || !asks || d.Hold || d.Release == c.Release || d.Release == v.Active.Value.Release {
		return nil
	}
	return c
}

// made is what a request makes the nodes show when it is carried out by a: the
// release whose claims have to stand. Taking a canary back makes nothing.
func (a Active) made(mode Kind) (Held, bool) {
	switch mode {
	case TryOut:
		return Held{Release: a.Canary.Release, Buffer: a.Canary.Buffer}, true
	case EndCanary:
		return Held{}, false
	}
	return Held{Release: a.Release, Buffer: a.Buffer}, true
}

// takesBack reports whether a request only undoes: it needs no release that is
// fit to be shown anew.
func (d Desired) takesBack() bool { return d.Mode == Abort || d.Mode == EndCanary }

// Needed are the releases that the nodes must go on holding: what is active, what
// was before, and a canary.
func (a Active) Needed() []Held {
	all := []Held{{Release: a.Release, Buffer: a.Buffer}}
	if a.Previous != nil {
		all = append(all, *a.Previous)
	}
	if c := a.Canary; c != nil {
		all = append(all, Held{Release: c.Release, Buffer: c.Buffer})
	}
	return all
}
