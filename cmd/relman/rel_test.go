package main

import (
	"strings"
	"testing"

	"relman/cluster"
	"relman/release"
)

func TestResolveRel(t *testing.T) {
	v := fixedView()
	for rel, want := range map[string]release.ID{
		string(rel1): rel1,
		"latest":     rel5,
		"previous":   rel1,
		"42":         rel4, // the whole number, not the beginning of 421
		"000042":     rel4,
		"421":        rel5,
		"42-":        rel4,
		"00042":      rel5, // a beginning is taken as it stands
		"3":          rel3,
		"000001-aa":  rel1,
	} {
		got, err := resolveRel(v, rel)
		if err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", rel, got, err, want)
		}
	}
	for rel, says := range map[string]string{
		"":       "missing",
		"9":      "no release 9",
		"0000":   "4 releases",
		"bbbb":   "no release",
		"000099": "no release",
	} {
		if got, err := resolveRel(v, rel); err == nil || !strings.Contains(err.Error(), says) || failureOf(err).code != exitUsage {
			t.Errorf("%q: %q %v, want a usage error that says %q", rel, got, err, says)
		}
	}
}

func TestResolveRel_nothingThere(t *testing.T) {
	v := &cluster.View{Site: "www"}
	for _, rel := range []string{"latest", "previous"} {
		if got, err := resolveRel(v, rel); err == nil {
			t.Errorf("%s: %s", rel, got)
		}
	}
}

func TestSome(t *testing.T) {
	if got := some([]string{"a", "b"}); got != "a, b" {
		t.Error(got)
	}
	if got := some([]string{"a", "b", "c", "d", "e", "f", "g"}); got != "a, b, c, d, e, and 2 more" {
		t.Error(got)
	}
}
