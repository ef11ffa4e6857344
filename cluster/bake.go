package cluster

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"relman/release"
)

// Bake is how a release is looked at after its flip, and what has the leader go
// back to the one before. A flip writes into Active what the policy says then, so
// that nodes and leaders know the same of it, whoever leads by the end.
type Bake struct {
	// Seconds is how long it bakes; 0: it does not.
	Seconds int `json:"bake_s"`
	// Probes are what every node asks its own server.
	Probes []Probe `json:"probes,omitempty"`
	// MostBadNodes may say that the release is bad without its going back: a
	// number, or a percentage of the members, rounded down.
	MostBadNodes string `json:"max_bad_nodes"`
	// Most5xx and Most404 are by how many percent points the share of such
	// answers may be above that of the release before, on one node; 0: they are not
	// looked at.
	Most5xx float64 `json:"max_5xx"`
	Most404 float64 `json:"max_404"`
	// LeastAnswers is how many answers a node has to have given out of each of the
	// two releases before their shares are compared.
	LeastAnswers int `json:"min_answers"`
}

// Probe is one request, and what its answer has to be.
type Probe struct {
	Path string `json:"path"`           // with a query, if it has one
	Host string `json:"host,omitempty"` // "": a name that stands for the site
	// Status is that of the answer; 0: 200. A redirection is an answer, it is not
	// followed.
	Status int    `json:"status,omitempty"`
	Text   string `json:"text,omitempty"` // is somewhere in the body
}

// Bounds of a bake. What it says is a part of each flip, and stays short.
const (
	LeastBake   = 5 * time.Second
	MostBake    = 24 * time.Hour
	MostProbes  = 20
	mostProbed  = 200 // bytes of a probe's path, text or host
	mostAnswers = 1_000_000_000
)

// BakeReport is what a node says of the release that bakes.
type BakeReport struct {
	Epoch release.Epoch `json:"epoch"`
	// Good says that all probes have been right.
	Good bool `json:"good,omitempty"`
	// Bad is what was wrong, "" while nothing is. A node that has said it once does
	// not take it back.
	Bad string `json:"bad,omitempty"`
}

// defaultBake is that of a new site: what it wants once it is turned on. Any
// visitor can cause answers of 404, so these are not looked at unasked.
func defaultBake() Bake { return Bake{MostBadNodes: "0", Most5xx: 1, LeastAnswers: 100} }

// Time is Seconds as a duration.
func (b Bake) Time() time.Duration { return time.Duration(b.Seconds) * time.Second }

// MostBad is how many of so many members may say that a release is bad.
func (b Bake) MostBad(members int) (int, error) {
	wrong := fmt.Errorf("bake.max_bad_nodes is %q, it can be a number from 0 or a percentage from 1%% to 100%%", b.MostBadNodes)
	number, percent := strings.CutSuffix(b.MostBadNodes, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || percent && (n < 1 || n > 100) {
		return 0, wrong
	}
	if percent {
		n = members * n / 100
	}
	return n, nil
}

// faults lists what is wrong with a bake.
func (b Bake) faults() (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if t := b.Time(); t != 0 && (t < LeastBake || t > MostBake) {
		wrong("bake.bake_s is %d, it can be 0, or %d to %d", b.Seconds, int(LeastBake/time.Second), int(MostBake/time.Second))
	}
	if _, err := b.MostBad(1); err != nil {
		wrong("%v", err)
	}
	for _, r := range []struct {
		field string
		most  float64
	}{{"max_5xx", b.Most5xx}, {"max_404", b.Most404}} {
		if !(r.most >= 0 && r.most <= 100) {
			wrong("bake.%s is %v, it can be 0 to 100 percent points", r.field, r.most)
		}
	}
	if b.LeastAnswers < 1 || b.LeastAnswers > mostAnswers {
		wrong("bake.min_answers is %d, it can be 1 to %d", b.LeastAnswers, mostAnswers)
	}
	if len(b.Probes) > MostProbes {
		wrong("bake.probes are %d, there can be %d", len(b.Probes), MostProbes)
	}
	for i, p := range b.Probes {
		if why := p.fault(); why != "" {
			wrong("bake.probes[%d]%s", i, why)
		}
	}
	return all
}

// fault is what is wrong with a probe, "" for nothing: its field, and why.
func (p Probe) fault() string {
	u, err := url.ParseRequestURI(p.Path)
	switch {
	case err != nil || !strings.HasPrefix(p.Path, "/") || strings.HasPrefix(p.Path, "//") || u.Host != "" || len(p.Path) > mostProbed:
		return fmt.Sprintf(".path is %q, it has to be the path of a URL, of at most %d bytes", p.Path, mostProbed)
	case p.Host != "" && !isHostName(p.Host):
		return fmt.Sprintf(".host is %q, it has to be a host's name", p.Host)
	case p.Status != 0 && (p.Status < http.StatusOK || p.Status > 599):
		return fmt.Sprintf(".status is %d, it can be 200 to 599", p.Status)
	case len(p.Text) > mostProbed || !utf8.ValidString(p.Text):
		return fmt.Sprintf(".text has to be UTF-8, of at most %d bytes", mostProbed)
	}
	return ""
}

func isHostName(s string) bool {
	return len(s) <= mostProbed && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// Wants is the status that the answer has to have.
func (p Probe) Wants() int {
	if p.Status == 0 {
		return http.StatusOK
	}
	return p.Status
}

// ParseProbe reads "/path", "/path 301" or "//host/path 200 some text".
func ParseProbe(s string) (Probe, error) {
	where, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	p := Probe{Path: where}
	if host, ok := strings.CutPrefix(where, "//"); ok {
		name, path, _ := strings.Cut(host, "/")
		p.Host, p.Path = name, "/"+path
	}
	status, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if status != "" {
		var err error
		if p.Status, err = strconv.Atoi(status); err != nil {
			return Probe{}, fmt.Errorf("probe %q: behind the path comes the status, and behind that the text", s)
		}
	}
	p.Text = strings.TrimSpace(text)
	if why := p.fault(); why != "" {
		return Probe{}, fmt.Errorf("probe %q: %s", s, strings.TrimPrefix(why, "."))
	}
	return p, nil
}

// String is the probe as ParseProbe reads it.
func (p Probe) String() string {
	s := p.Path
	if p.Host != "" {
		s = "//" + p.Host + p.Path
	}
	if p.Status != 0 || p.Text != "" {
		s += " " + strconv.Itoa(p.Wants())
	}
	return strings.TrimSpace(s + " " + p.Text)
}

// Bakes reports whether what became active in this way is looked at. The way back
// is not: there is nothing behind it.
func (k Kind) Bakes() bool { return slices.Contains([]Kind{Publish, FlipTo, Promote}, k) }

// Baking reports whether what is active is still looked at, and goes back when
// it turns out to be bad.
func (v *View) Baking() bool {
	a := v.Active.Value
	return v.Active.Exists() && a.Bake != nil && a.Previous != nil && v.Confirmed.Value != uint64(a.Epoch) && v.Baked.Value != uint64(a.Epoch)
}

// BakeEnd is when the leader ends the bake of what is active, if nothing is bad and
// every live node has said so.
func (a Active) BakeEnd() time.Time {
	if a.Bake == nil {
		return time.Time{}
	}
	return a.Since().Add(a.Bake.Time())
}

// Tasted says what the members that have entered say of what bakes; each list
// is sorted.
type Tasted struct {
	Good   []release.NodeID // all probes have been right so far
	Bad    []release.NodeID
	Silent []release.NodeID // live, and have said neither yet
	Of     int              // members
	Over   bool             // more are bad than may be
}

// Tasted looks what they say of the epoch that is active.
func (v *View) Tasted() Tasted {
	a := v.Active.Value
	nodes := v.EnteredNodes()
	t := Tasted{Of: len(nodes)}
	for _, n := range nodes {
		b, says := v.Status[n].Bake, false
		if says = b != nil && b.Epoch == a.Epoch; says && b.Bad != "" {
			t.Bad = append(t.Bad, n)
		} else if says && b.Good {
			t.Good = append(t.Good, n)
		} else if _, live := v.Live[n]; live {
			t.Silent = append(t.Silent, n)
		}
	}
	if a.Bake != nil {
		most, err := a.Bake.MostBad(t.Of)
		t.Over = err == nil && len(t.Bad) > most
	}
	return t
}

// EndBake writes down that what v shows as active has baked for its time: it
// stays. Whoever waits for the bake hears of it, and no revert of it commits any more.
func EndBake(f Fence, v *View) Txn {
	a := v.Active
	return Txn{
		Name: fmt.Sprintf("end the bake of %s of %s", a.Value.Release, v.Site),
		Guards: []Guard{
			f.guard(),
			unchanged(ActiveKey(v.Site), a.Mod, ClassActiveMoved),
			unchanged(BakedKey(v.Site), v.Baked.Mod, ClassConflict),
		},
		Ops: []Op{putBare(BakedKey(v.Site), strconv.FormatUint(uint64(a.Value.Epoch), 10))},
	}
}
