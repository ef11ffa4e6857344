package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"go.yaml.in/yaml/v3"
)

// format is how data is written.
type format string

const (
	formatTable format = "table" // for people
	formatWide  format = "wide"  // with all columns
	formatJSON  format = "json"
	formatYAML  format = "yaml" // the JSON, as YAML
	formatName  format = "name" // what it is about, one name per line
)

func parseFormat(s string) (format, error) {
	switch f := format(s); f {
	case formatTable, formatWide, formatJSON, formatYAML, formatName:
		return f, nil
	}
	return "", usagef("output is %q, it can be table, wide, json, yaml or name", s)
}

// format is the one that was asked for.
func (a *app) format() format { return format(a.cfg.Output) }

// structured reports whether a program reads the output.
func (f format) structured() bool { return f == formatJSON || f == formatYAML }

// print writes data in the format that was asked for: report as JSON or YAML,
// text for people, or names. Shapes of reports are stable: fields are added,
// never renamed or removed.
func (a *app) print(report any, text func(*tables), names ...string) error {
	var err error
	switch f := a.format(); f {
	case formatJSON:
		err = writeJSON(a.out, report)
	case formatYAML:
		err = writeYAML(a.out, report)
	case formatName:
		for _, name := range names {
			if _, err = fmt.Fprintln(a.out, name); err != nil {
				break
			}
		}
	default:
		t := &tables{out: a.out, wide: f == formatWide}
		text(t)
		err = t.err
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeYAML writes what JSON would say, as YAML and in the same order.
func writeYAML(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil { // JSON is YAML
		return err
	}
	blockStyle(&node)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return err
	}
	return enc.Close()
}

// blockStyle undoes the braces and quotes that the JSON had.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// printFailure says what went wrong on stderr and, for a program, on stdout.
func (a *app) printFailure(f *failure) {
	if a.format().structured() {
		o := outcome{State: stateFailed}
		if f.out != nil {
			o = *f.out
		}
		o.Exit, o.Class, o.Error, o.Hint = f.code, f.class, f.Error(), f.hint
		if err := a.print(o, nil); err != nil {
			_, _ = fmt.Fprintln(a.err, "relman:", err)
		}
	}
	// One line each, where there are several errors in a build; indented, so that none
	// passes for a line of relman's own.
	for i, line := range strings.Split(f.Error(), "\n") {
		before := "relman:"
		if i > 0 {
			before = "       "
		}
		_, _ = fmt.Fprintln(a.err, before, harmless(line))
	}
	if f.hint != "" {
		_, _ = fmt.Fprintln(a.err, "       ", harmless(f.hint))
	}
}

// tables writes for people and keeps the first error.
type tables struct {
	out  io.Writer
	wide bool
	err  error
}

func (t *tables) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.out, format+"\n", args...)
	}
}

// table writes rows below a head.
func (t *tables) table(head []string, rows [][]string) {
	w := table.NewWriter()
	w.SetStyle(plainTable())
	w.AppendHeader(row(head))
	for _, r := range rows {
		w.AppendRow(row(r))
	}
	for line := range strings.Lines(w.Render()) {
		t.line("%s", strings.TrimRight(line, " \n"))
	}
}

// pairs writes names and values below each other.
func (t *tables) pairs(rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		t.line("%-*s  %s", width, r[0], printable(r[1]))
	}
}

func row(cells []string) table.Row {
	var r table.Row
	for _, c := range cells {
		r = append(r, printable(c))
	}
	return r
}

// plainTable has no lines: columns are two spaces apart, so that cut and awk
// can do with it.
func plainTable() table.Style {
	s := table.StyleDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	s.Options = table.Options{}
	return s
}

// printable is a cell of a table: harmless, and a dash when it is empty.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return harmless(s)
}

// harmless is one line without control characters: what nodes say of
// themselves, and what files are called, is not to be trusted with a terminal.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, strings.ReplaceAll(s, "\n", "; "))
}
