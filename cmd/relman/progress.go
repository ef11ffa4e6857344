package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// How often progress is shown: to a person often enough to look alive, in a
// log rarely enough to be read.
const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 3 * time.Second
	sameEvery   = 30 * time.Second // when nothing has changed
	barWidth    = 24
)

// unit says what progress counts.
type unit int

const (
	nodesDone unit = iota
	bytesDone      // bytes
	bytesRate      // bytes, whose rate tells how long it will take
)

// progress shows how far long work is: a bar on a terminal, a line every few
// seconds elsewhere. It is safe for concurrent use.
type progress struct {
	out      io.Writer // nil: silent
	terminal bool
	width    func() int // of the terminal

	mu     sync.Mutex // guards the rest, and out
	word   string
	text   string
	done   int64
	total  int64
	began  time.Time
	unit   unit
	drawn  bool   // a bar stands on the line
	last   string // what a line said, but for the time
	saidAt time.Time
	stop   chan struct{}
	ended  chan struct{}
}

// newProgress shows on w, which is a terminal or not.
func newProgress(w io.Writer, terminal bool) *progress {
	return &progress{out: w, terminal: terminal, width: func() int { return terminalWidth(w) }}
}

// begin starts a piece of work: "uploading". What was shown before ends.
func (p *progress) begin(word string, unit unit) {
	p.end()
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.word, p.text, p.done, p.total, p.unit, p.began, p.last = word, "", 0, 0, unit, time.Now(), ""
	p.stop, p.ended = make(chan struct{}), make(chan struct{})
	every := lineEvery
	if p.terminal {
		every = redrawEvery
	}
	go p.run(every, p.stop, p.ended)
}

// set says how far the work is, and what else there is to say.
func (p *progress) set(done, total int64, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total, p.text = done, total, text
}

// end ends the work; a bar leaves no trace.
func (p *progress) end() {
	p.mu.Lock()
	stop, ended := p.stop, p.ended
	p.stop = nil
	p.mu.Unlock()
	if stop == nil {
		return
	}
	close(stop)
	<-ended
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// note writes a line of its own.
func (p *progress) note(format string, args ...any) {
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = fmt.Fprintln(p.out, harmless(fmt.Sprintf(format, args...))) // progress is no data
}

func (p *progress) run(every time.Duration, stop, ended chan struct{}) {
	defer close(ended)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.show()
		}
	}
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		is := fmt.Sprint(p.word, p.text, p.done, p.total)
		if is == p.last && time.Since(p.saidAt) < sameEvery {
			return
		}
		p.last, p.saidAt = is, time.Now()
		_, _ = fmt.Fprintln(p.out, p.line(time.Since(p.began)))
		return
	}
	// A line that wraps could not be drawn over.
	_, _ = fmt.Fprint(p.out, "\r\x1b[K", cut(p.line(time.Since(p.began)), p.width()-1))
	p.drawn = true
}

// clear takes a bar off its line. Its caller holds mu.
func (p *progress) clear() {
	if p.drawn {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}

// line is the progress after some time, for either kind of output.
func (p *progress) line(took time.Duration) string {
	parts := []string{fmt.Sprintf("%-11s", p.word)}
	if p.terminal && p.total > 0 {
		full := int(min(p.done, p.total) * barWidth / p.total)
		parts[0] += "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
	}
	if p.total > 0 {
		parts = append(parts, fmt.Sprintf("%3d%%", min(p.done, p.total)*100/p.total))
	}
	if p.unit != nodesDone && p.total > 0 {
		parts = append(parts, bytesText(p.done)+" of "+bytesText(p.total))
		if rate := float64(p.done) / took.Seconds(); p.unit == bytesRate && p.done > 0 && took > time.Second {
			parts = append(parts, bytesText(int64(rate))+"/s", secondsText(float64(p.total-p.done)/rate)+" left")
		}
	}
	if p.text != "" {
		parts = append(parts, p.text)
	}
	return harmless(strings.TrimRight(strings.Join(append(parts, secondsText(took.Seconds())), "  "), " "))
}

// cut leaves the first n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// terminalWidth is that of the terminal that w is, or a usual one.
func terminalWidth(w any) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

func secondsText(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}
