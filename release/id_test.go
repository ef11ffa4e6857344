package release

import (
	"errors"
	"strings"
	"testing"
)

func TestParseSite(t *testing.T) {
	for s, good := range map[string]bool{
		"www": true, "a": true, "0": true, "docs-linux": true, "a--b-": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "A": false, "a.b": false, "a_b": false, "a/b": false, "a b": false, "ä": false,
		"a\x00": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		got, err := ParseSite(s)
		if good && (err != nil || got != Site(s)) {
			t.Errorf("ParseSite(%q) = %q, %v", s, got, err)
		}
		if !good && (!errors.Is(err, ErrInvalid) || got != "") {
			t.Errorf("ParseSite(%q) = %q, %v, want ErrInvalid", s, got, err)
		}
	}
}

func TestNamesSayWhatTheyAre(t *testing.T) {
	_, site := ParseSite("X")
	_, node := ParseNodeID("X")
	_, group := ParseGroup("X")
	for what, err := range map[string]error{"site": site, "node id": node, "group": group} {
		if err == nil || !strings.Contains(err.Error(), what+` "X"`) {
			t.Errorf("error %v does not name a %s", err, what)
		}
	}
	if _, err := ParseGroup(string(DefaultGroup)); err != nil {
		t.Errorf("the default group is refused: %v", err)
	}
}

func TestNewID_roundTrip(t *testing.T) {
	d := Sum([]byte("x"))
	for _, seq := range []uint64{1, 42, 999_999, 1_000_000, maxSeq} {
		id := NewID(seq, d)
		back, err := ParseID(string(id))
		if err != nil || back != id {
			t.Errorf("ParseID(%q) = %q, %v", id, back, err)
		}
		if id.Seq() != seq {
			t.Errorf("%q has seq %d, want %d", id, id.Seq(), seq)
		}
		if !id.Names(d) || id.Names(Sum([]byte("y"))) {
			t.Errorf("%q does not name its manifest, or names another", id)
		}
	}
	if got := NewID(42, d); got != "000042-2d711642b726" {
		t.Errorf("NewID = %q", got)
	}
}

func TestParseID_refuses(t *testing.T) {
	for _, s := range []string{
		"", "-", "000042", "000042-", "-3f9ac1d2e4b5", "42-3f9ac1d2e4b5", "0000042-3f9ac1d2e4b5",
		"000000-3f9ac1d2e4b5", "000042-3F9AC1D2E4B5", "000042-3f9ac1d2e4b", "000042-3f9ac1d2e4b55",
		"000042-3f9ac1d2e4bg", "00004x-3f9ac1d2e4b5", "+00042-3f9ac1d2e4b5", "000042-3f9ac1d2e4b5\n",
		" 000042-3f9ac1d2e4b5", "000042_3f9ac1d2e4b5", "000042-3f9ac1-2e4b5", "1000000000000000000-3f9ac1d2e4b5",
		"../042-3f9ac1d2e4b5", "000042-../../../../",
	} {
		if id, err := ParseID(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseID(%q) = %q, %v, want ErrInvalid", s, id, err)
		}
	}
}

func TestID_ofNothing(t *testing.T) {
	for _, id := range []ID{"", "x", "12-3f9ac1d2e4b5", "000042"} {
		if id.Names(Digest{}) {
			t.Errorf("%q names a manifest", id)
		}
	}
	for _, id := range []ID{"", "x", "12-3f9ac1d2e4b5", "-", "99999999999999999999-3f9ac1d2e4b5"} {
		if n := id.Seq(); n != 0 {
			t.Errorf("%q has seq %d", id, n)
		}
	}
}
