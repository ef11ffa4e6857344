package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// ui is how a command that changes something talks while it works: each step
// that is over is a line of the report, what is under way is progress.
type ui struct {
	report   io.Writer // nil: only the outcome is printed, by somebody else
	last     io.Writer // gets the last line; nil as report
	progress *progress
}

// newUI is the ui for the output that was asked for.
func (a *app) newUI() *ui {
	u := &ui{progress: newProgress(a.err, isTerminal(a.err))}
	if f := a.format(); f == formatTable || f == formatWide {
		u.report, u.last = a.out, a.out
	}
	if a.cfg.Quiet {
		u.report, u.progress.out = nil, nil
	}
	return u
}

// step reports a step that is over: the word, what it was, and how long it took
// unless that is 0.
func (u *ui) step(word string, took time.Duration, text string) {
	u.progress.end()
	line := worded(word, text)
	if took > 0 {
		line = fmt.Sprintf("%-78s%s", line+"   ", tookText(took))
	}
	u.write(u.report, line)
}

// end says what is live now. LIVE stands there only when this run made it so.
func (u *ui) end(word, text string) {
	u.progress.end()
	u.write(u.last, worded(word, text))
}

// worded puts a word before a text, at least two spaces apart.
func worded(word, text string) string {
	return strings.TrimRight(fmt.Sprintf("%-9s  %s", word, text), " ")
}

func (u *ui) write(w io.Writer, line string) {
	if w == nil {
		return
	}
	_, _ = fmt.Fprintln(w, harmless(line)) // that nobody reads does not stop a publish
}
