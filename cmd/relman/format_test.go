package main

import (
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{bytesText(0), "0 B"},
		{bytesText(1023), "1023 B"},
		{bytesText(1 << 10), "1.0 KiB"},
		{bytesText(1153434), "1.1 MiB"},
		{bytesText(20 << 30), "20.0 GiB"},
		{bytesText(3 << 50), "3072.0 TiB"},
		{countText(0), "0"},
		{countText(999), "999"},
		{countText(8431), "8,431"},
		{countText(1234567), "1,234,567"},
		{countText(-1000), "-1,000"},
		{plural(1, "pack"), "1 pack"},
		{plural(1200, "file"), "1,200 files"},
		{tookText(800 * time.Microsecond), "0.8ms"},
		{tookText(2400 * time.Millisecond), "2.4s"},
		{tookText(72*time.Second + 300*time.Millisecond), "1m12s"},
		{agoText(time.Time{}, at), "-"},
		{agoText(at.Add(time.Second), at), "0s ago"},
		{agoText(at.Add(-90*time.Second), at), "1m ago"},
		{agoText(at.Add(-47*time.Hour), at), "47h ago"},
		{agoText(at.Add(-72*time.Hour), at), "3d ago"},
		{worded("ready", "4/4 nodes"), "ready      4/4 nodes"},
		{worded("NOT FLIPPED", "www stays"), "NOT FLIPPED  www stays"},
		{printable("a\x1b[31mb\n\u0085"), "a·[31mb; ·"},
		{printable(""), "-"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
