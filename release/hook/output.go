package hook

import (
	"bytes"
	"log/slog"
	"strings"
	"unicode"
)

// Bounds of what is kept of a program's output.
const (
	maxLogged = 64 << 10 // bytes that go to the log
	maxLine   = 1 << 10  // bytes of one entry there
	maxTail   = 1 << 10  // bytes from the end, for last
	tailLines = 3
	tailText  = 300 // bytes of what last says
)

// output takes what a program prints: the beginning goes to the log, line by
// line, and the end can be told. One goroutine writes.
type output struct {
	log    *slog.Logger
	taken  int    // bytes that went to the log
	line   []byte // not ended yet
	tail   []byte
	silent bool // there was too much
}

// Write takes all there is, so that no program ever waits for it.
func (o *output) Write(p []byte) (int, error) {
	o.tail = append(o.tail, p...)
	o.tail = o.tail[max(0, len(o.tail)-maxTail):]
	n := min(len(p), maxLogged-o.taken)
	o.taken += n
	for _, part := range bytes.SplitAfter(p[:n], []byte("\n")) {
		o.line = append(o.line, part...)
		for len(o.line) > maxLine {
			o.say(o.line[:maxLine])
			o.line = o.line[maxLine:]
		}
		if bytes.HasSuffix(o.line, []byte("\n")) {
			o.flush()
		}
	}
	if n < len(p) && !o.silent {
		o.flush()
		o.silent = true
		o.log.Info("hook prints too much, the rest is left out", "bytes", maxLogged)
	}
	return len(p), nil
}

// flush logs the line that has begun.
func (o *output) flush() {
	o.say(o.line)
	o.line = o.line[:0]
}

func (o *output) say(line []byte) {
	if text := clean(line); text != "" {
		o.log.Info("hook output", "line", text)
	}
}

// last is the last lines in one line.
func (o *output) last() string {
	var lines []string
	for line := range bytes.Lines(o.tail) {
		if text := clean(line); text != "" {
			lines = append(lines, text)
		}
	}
	text := strings.Join(lines[max(0, len(lines)-tailLines):], " | ")
	if len(text) > tailText {
		text = "…" + strings.ToValidUTF8(text[len(text)-tailText:], "")
	}
	return text
}

// clean makes a line fit for a log, a status and a terminal.
func clean(line []byte) string {
	text := strings.ToValidUTF8(string(line), "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}
