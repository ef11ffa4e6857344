package release

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestDigest_spellings(t *testing.T) {
	d := Sum(nil)
	if d.Hex() != emptySum || d.String() != "sha256:"+emptySum {
		t.Fatalf("digest of nothing is %s", d)
	}
	for _, s := range []string{d.Hex(), d.String()} {
		if got, err := ParseDigest(s); err != nil || got != d {
			t.Errorf("ParseDigest(%q) = %s, %v", s, got, err)
		}
	}
	if d.IsZero() || !(Digest{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestParseDigest_refuses(t *testing.T) {
	for _, s := range []string{
		"", "sha256:", emptySum[:63], emptySum + "0", strings.ToUpper(emptySum), "SHA256:" + emptySum,
		"sha256:sha256:" + emptySum, "md5:" + emptySum, " " + emptySum, emptySum + "\n", "g" + emptySum[1:],
	} {
		if d, err := ParseDigest(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseDigest(%q) = %s, %v, want ErrInvalid", s, d, err)
		}
	}
}

func TestDigest_inJSON(t *testing.T) {
	d := Sum([]byte("x"))
	b, err := json.Marshal(map[string]Digest{"d": d})
	if err != nil || string(b) != `{"d":"`+d.String()+`"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var back map[string]Digest
	if err := json.Unmarshal(b, &back); err != nil || back["d"] != d {
		t.Fatalf("%v, %v", back, err)
	}
	if err := d.UnmarshalText([]byte("sha256:zz")); !errors.Is(err, ErrInvalid) || d != Sum([]byte("x")) {
		t.Errorf("a bad text changed the digest to %s, error %v", d, err)
	}
}
