package objectstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestDelta(t *testing.T) {
	page := strings.Repeat("<p>some text that every page has</p>\n", 2000) + noise(1, 50_000)
	stamped := strings.ReplaceAll(page, "some text", "some more text")
	tests := []struct {
		name, old, new string
		most           int // bytes of the delta; 0: any
	}{
		{"nothing to nothing", "", "", 3},
		{"nothing to something", "", "hello", 0},
		{"something to nothing", "hello", "", 3},
		{"the same", page, page, 10},
		{"one byte", page, page[:70_000] + "x" + page[70_001:], 20},
		{"a stamp of another length", page[:60_000] + "12:00" + page[60_000:], page[:60_000] + "9:00" + page[60_000:], 30},
		{"many stamps", page, stamped, 20_000},
		{"only the end", page, page[100_000:], 20},
		{"only the beginning", page, page[:20_000], 20},
		{"twice", page, page + page, 30},
		{"turned around", noise(2, 5000) + noise(3, 5000), noise(3, 5000) + noise(2, 5000), 50},
		{"nothing in common", noise(4, 50_000), noise(5, 50_000), 50_020},
		{"shorter than a word", "abc", "abd", 0},
	}
	var d differ
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			delta := d.delta(nil, []byte(tt.old), []byte(tt.new))
			got, err := applyDelta(nil, delta, []byte(tt.old), int64(len(tt.new)))
			if err != nil || string(got) != tt.new {
				t.Fatalf("it does not come back: %v", err)
			}
			if tt.most > 0 && len(delta) > tt.most {
				t.Errorf("%d bytes, want at most %d", len(delta), tt.most)
			}
		})
	}
}

// TestDelta_edits makes random edits of random texts.
func TestDelta_edits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d differ
	for range 2000 {
		old := []byte(noise(r.Uint64(), r.IntN(3000)))
		if r.IntN(2) == 0 {
			for i := range old {
				old[i] &= 3 // much repeats
			}
		}
		new := bytes.Clone(old)
		for range r.IntN(8) {
			at, n := r.IntN(len(new)+1), r.IntN(100)
			switch r.IntN(3) {
			case 0:
				new = append(new[:at:at], append([]byte(noise(r.Uint64(), n)), new[at:]...)...)
			case 1:
				new = append(new[:at:at], new[min(at+n, len(new)):]...)
			default:
				copy(new[at:], noise(r.Uint64(), n))
			}
		}
		delta := d.delta(nil, old, new)
		got, err := applyDelta(nil, delta, old, int64(len(new)))
		if err != nil || !bytes.Equal(got, new) {
			t.Fatalf("old %x, new %x: %v", old, new, err)
		}
	}
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte("hello, hello, hello, world"), []byte("hello, hello, dear hello, world"))
	f.Add([]byte(noise(1, 300)), []byte(noise(1, 200)))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		var d differ
		got, err := applyDelta(nil, d.delta(nil, old, new), old, int64(len(new)))
		if err != nil || !bytes.Equal(got, new) {
			t.Fatal(err)
		}
	})
}

func FuzzApplyDelta(f *testing.F) {
	var d differ
	old := []byte(noise(1, 300))
	f.Add(d.delta(nil, old, []byte(noise(1, 200)+"more")), old, int64(204))
	f.Add([]byte{}, []byte{}, int64(0))
	f.Fuzz(func(t *testing.T, delta, old []byte, size int64) {
		if size < 0 || size > maxFrame {
			t.Skip()
		}
		out, err := applyDelta(nil, delta, old, size)
		if err != nil && !errors.Is(err, errDelta) || err == nil && int64(len(out)) != size {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	})
}

func BenchmarkDelta(b *testing.B) {
	old := []byte(strings.Repeat("<p>some text that every page has</p>\n", 20_000) + noise(1, 500_000))
	stamped := bytes.Clone(old)
	for at := 1000; at < len(stamped); at += 20_000 {
		copy(stamped[at:], "2026-11-23")
	}
	var d differ
	delta := d.delta(nil, old, stamped)
	b.Run("make", func(b *testing.B) {
		b.SetBytes(int64(len(stamped)))
		for b.Loop() {
			delta = d.delta(delta[:0], old, stamped)
		}
	})
	b.Run("apply", func(b *testing.B) {
		b.SetBytes(int64(len(stamped)))
		for b.Loop() {
			if _, err := applyDelta(nil, delta, old, int64(len(stamped))); err != nil {
				b.Fatal(err)
			}
		}
	})
}
