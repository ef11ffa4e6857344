package siterules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds how much of a line is shown, in characters.
const maxText = 80

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string // its name
	Line int    // counted from 1; 0 for the file as a whole
	Text string // the line, shortened and fit to be printed
	What string // what is wrong
	Do   string // what to do about it
}

// String prints the problem on one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s; %s", p.File, p.What, p.Do)
	}
	return fmt.Sprintf("%s:%d: %s; %s (%s)", p.File, p.Line, p.What, p.Do, p.Text)
}

// Problems are all that is wrong with a file, in the order of its lines.
type Problems []Problem

// Err is nil for no problems, and else an error of one line for each.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Error prints one problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// fault is what is wrong with a line and what to do, without the line: the
// helpers of the parsers do not know it.
type fault struct{ what, do string }

func wrong(do, what string, args ...any) *fault {
	return &fault{fmt.Sprintf(what, args...), do}
}

// scanner goes over the lines of a file and gathers their problems.
type scanner struct {
	file     string
	maxLine  int // in bytes
	problems Problems
	line     int
	text     string
}

// maxFile bounds a file before it is looked at; it is more than the limits on
// rules and lines let a sensible file need.
const maxFile = 4 << 20

// lines calls each for every line that says something.
func (s *scanner) lines(data []byte, each func(line string) *fault) {
	if len(data) > maxFile {
		s.problems = append(s.problems, Problem{File: s.file,
			What: fmt.Sprintf("the file has %d bytes, at most %d are allowed", len(data), maxFile),
			Do:   "join rules with * or :placeholders"})
		return
	}
	text := strings.TrimPrefix(string(data), "\ufeff") // some editors begin a file with it
	for line := range strings.SplitSeq(text, "\n") {
		s.line++
		s.text = strings.TrimSpace(line)
		if s.text == "" || s.text[0] == '#' {
			continue
		}
		if f := s.check(); f != nil {
			s.add(f)
		} else if f := each(s.text); f != nil {
			s.add(f)
		}
	}
}

// check is for what is wrong in any line.
func (s *scanner) check() *fault {
	switch {
	case len(s.text) > s.maxLine:
		return wrong("shorten it", "the line has %d bytes, at most %d are allowed", len(s.text), s.maxLine)
	case !utf8.ValidString(s.text):
		return wrong("save the file as UTF-8", "the line is not UTF-8")
	}
	for _, r := range s.text {
		if unicode.IsControl(r) && r != '\t' {
			return wrong("remove it", "the line has the control character %U", r)
		}
	}
	return nil
}

func (s *scanner) add(f *fault) { s.addAt(s.line, s.text, f) }

func (s *scanner) addAt(line int, text string, f *fault) {
	s.problems = append(s.problems, Problem{s.file, line, shorten(text), f.what, f.do})
}

// shorten makes a line of a file fit to be shown on a terminal.
func shorten(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxText {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}
