package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"relman/cluster"
	"relman/release"
)

// TestProgress_lines: elsewhere than on a terminal, a line every few seconds,
// and seldom one that says nothing new.
func TestProgress_lines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, false)
		p.begin("uploading", bytesRate)
		p.set(1<<20, 4<<20, "10 of 40 files")
		time.Sleep(7 * time.Second) // one line, and one that would say the same
		p.set(2<<20, 4<<20, "20 of 40 files")
		time.Sleep(3 * time.Second)
		p.note("something else")
		time.Sleep(33 * time.Second) // the same again, but for so long
		p.end()
		want := `
uploading     25%  1.0 MiB of 4.0 MiB  341.3 KiB/s  9s left  10 of 40 files  3s
uploading     50%  2.0 MiB of 4.0 MiB  227.6 KiB/s  9s left  20 of 40 files  9s
something else
uploading     50%  2.0 MiB of 4.0 MiB  52.5 KiB/s  39s left  20 of 40 files  39s
`
		if got := "\n" + out.String(); got != want {
			t.Errorf("got:%s\nwant:%s", got, want)
		}
	})
}

// TestProgress_bar: on a terminal, one line that is drawn anew and leaves no
// trace.
func TestProgress_bar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, true)
		p.begin("preparing", nodesDone)
		p.set(1, 4, "1/4 ready\x1b[2J")
		time.Sleep(150 * time.Millisecond)
		p.begin("converging", nodesDone) // ends what was before
		time.Sleep(150 * time.Millisecond)
		p.end()
		p.end()
		const clear = "\r\x1b[K"
		want := clear + "preparing  [======                  ]   25%  1/4 ready·[2J  0s" + clear + clear + "converging   0s" + clear
		if got := out.String(); got != want {
			t.Errorf("%q\nwant\n%q", got, want)
		}
	})
}

func TestStuckText(t *testing.T) {
	v := fixedView()
	if got, want := stuckText(v, v.Ready(2, rel4)), " (web-3: disk full, needs 1.2 GiB\x1b[0m, has 0.3, web-4: no live session)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	fine := cluster.Readiness{Ready: []release.NodeID{"web-1"}, Late: []release.NodeID{"web-2"}}
	if got := stuckText(v, fine); got != ", waiting for web-2" {
		t.Errorf("%q", got)
	}
	fine.Ready = nil
	if got := stuckText(v, fine); got != "" {
		t.Errorf("%q", got)
	}
}

func TestCut(t *testing.T) {
	if got := cut("häßlich", 3); got != "häß" {
		t.Error(got)
	}
	if got := cut("a", 3); got != "a" {
		t.Error(got)
	}
}

func TestProgress_silent(t *testing.T) {
	p := newProgress(nil, false)
	p.begin("uploading", bytesRate)
	p.set(1, 2, "")
	p.note("x")
	p.end()
}

func TestUI_report(t *testing.T) {
	var out bytes.Buffer
	u := &ui{report: &out, last: &out, progress: newProgress(nil, false)}
	u.step("uploaded", 2400*time.Millisecond, "000118-7f3a9c1e22b0   12 new of 8,431 files   1.1 MiB in 1 pack")
	u.step("ready", 3100*time.Millisecond, "4/4 nodes")
	u.step("flipped", 800*time.Microsecond, "epoch 118 (was 000117-51b0d2aa90ce)")
	u.step("converged", 0, "4/4 serving, skew 2.1 ms")
	u.end("LIVE", "www = 000118-7f3a9c1e22b0")
	want := `
uploaded   000118-7f3a9c1e22b0   12 new of 8,431 files   1.1 MiB in 1 pack    2.4s
ready      4/4 nodes                                                          3.1s
flipped    epoch 118 (was 000117-51b0d2aa90ce)                                0.8ms
converged  4/4 serving, skew 2.1 ms
LIVE       www = 000118-7f3a9c1e22b0
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got:%s\nwant:%s", got, want)
	}
	quiet := &ui{last: &out, progress: newProgress(nil, false)}
	out.Reset()
	quiet.step("ready", 0, "4/4 nodes")
	quiet.end("LIVE", "x")
	if !strings.HasPrefix(out.String(), "LIVE") {
		t.Errorf("-q: %q", out.String())
	}
}
