package nodeagent

import (
	"fmt"
	"strings"
	"testing"

	"relman/cluster"
	"relman/release"
)

// TestNext: the steps of a round, in their order.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		name                      string
		active, previous, rollout string
		claims, trees, want       string // claims "": none are known
	}{
		{"a start reads its claims", "b@1", "a@0", "", "", "a b -", "learn"},
		{"what is not true goes first", "b@1", "a@0", "c@2", "a b z", "- b -", "lower 0 2"},
		{"then what is active", "b@1", "a@0", "c@2", "- - -", "- - -", "fetch b"},
		{"then the claims", "b@1", "a@0", "", "- - -", "b a -", "enter a b -"},
		{"a rollout", "b@1", "a@0", "c@2", "a b z", "z a b", "retract, fetch c"},
		{"a rollout that is held", "b@1", "a@0", "c@2", "a b -", "c a b", "claim"},
		{"the way back", "b@1", "a@0", "", "- b -", "b - -", "fetch a"},
		{"nothing", "b@1", "a@0", "c@2", "a b c", "c a b", "rest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Standing{View: view(c.active, c.previous, c.rollout), Trees: ids(c.trees), Known: c.claims != ""}
			s.View.Member.Value = cluster.MemberIn
			s.Claims = append(ids(c.claims), make([]release.ID, 3)...)[:3]
			s.Claiming = strings.ContainsAny(c.claims, "abcz")
			if got := inWords(Next(s)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestNext_more: what the operator's program and a swap that failed keep a node from.
func TestNext_more(t *testing.T) {
	base := func() *Standing {
		s := &Standing{View: view("b@1", "a@0", "c@2"), Trees: ids("a b c"), Claims: ids("a b -"), Claiming: true, Known: true}
		s.View.Member.Value = cluster.MemberIn
		return s
	}
	never := func(release.ID) bool { return false }
	for _, c := range []struct {
		name    string
		change  func(*Standing)
		want    string
		entered bool
	}{
		{"it has not passed", func(s *Standing) { s.May = never }, "vet", true},
		{"nor of a node that does not count yet", func(s *Standing) { s.May, s.Claiming, s.Claims = never, false, ids("- - -") }, "vet", false},
		{"it is not shown", func(s *Standing) { s.Unshown = true }, "show", false},
		{"what it still shows is damaged", func(s *Standing) { s.Shown, s.Trees = "a", ids("- b c") }, "lower 0", false},
		{"and lowered", func(s *Standing) { s.Shown, s.Trees, s.Claims = "a", ids("- b c"), ids("- b -") }, "fetch a", false},
		{"one that is out need not pass", func(s *Standing) { s.May, s.View.Member.Value = never, cluster.MemberOut }, "rest", false},
		{"nothing keeps it", func(*Standing) {}, "claim", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := base()
			c.change(s)
			if m := Next(s); inWords(m) != c.want || m.Entered != c.entered {
				t.Errorf("%s, entered %v, want %s, %v", inWords(m), m.Entered, c.want, c.entered)
			}
		})
	}
}

// inWords is a move in words.
func inWords(m Move) string {
	switch m.Do {
	case Lower:
		return strings.ReplaceAll(strings.Trim("lower "+fmt.Sprint(m.Buffers), "]"), "[", "")
	case Fetch:
		if m.Retract {
			return "retract, fetch " + string(m.Release)
		}
		return "fetch " + string(m.Release)
	case Enter:
		text := "enter"
		for _, id := range m.Claims {
			if id == "" {
				id = "-"
			}
			text += " " + string(id)
		}
		return text
	}
	return string(m.Do)
}

// TestStanding_Obeys: an epoch does not go back.
func TestStanding_Obeys(t *testing.T) {
	s := &Standing{View: view("b@1", "a@0", ""), Release: "b", Epoch: 7}
	if !s.Obeys() {
		t.Error("it does not obey what it shows")
	}
	s.Epoch = 8
	if s.Obeys() {
		t.Error("it goes back to epoch 7")
	}
	s.Epoch, s.Release = 7, "a"
	if s.Obeys() {
		t.Error("it takes another release with the same epoch")
	}
}
