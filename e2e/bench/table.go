package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// report is what a run found, in the order in which it is shown.
type report struct {
	Command string       `json:"command"`
	Machine string       `json:"machine"`
	Rate    string       `json:"rate"` // "" is no limit
	Runs    int          `json:"runs"`
	Missing []string     `json:"missing"` // tools
	Sites   []siteReport `json:"sites"`

	tools   []string
	cells   []cell
	results results
}

type siteReport struct {
	Name    string    `json:"name"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	Changed int       `json:"changed"`
	Goals   []verdict `json:"goals"`
}

func (r *report) peers() []string {
	var list []string
	for _, t := range r.tools {
		if t != relmanName {
			list = append(list, t)
		}
	}
	return list
}

// print writes everything as tables that are Markdown, too.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nMedians of %s. Machine: %s. Wire: %s.\n", r.Command, plural(r.Runs, "run"), r.Machine, or(r.Rate, "no limit"))
	for _, m := range r.Missing {
		fmt.Fprintf(w, "\n**MISSING: %s was not measured** (-install fetches it)\n", m)
	}
	for _, s := range r.Sites {
		fmt.Fprintf(w, "\n### %s (%.0f MB, %s, %d changed)\n", s.Name, float64(s.Bytes)/1e6, plural(s.Files, "file"), s.Changed)
		fmt.Fprintf(w, "\nSeconds / MB on the wire; a prefetch: until it ends, and + until it is durable.\n\n")
		r.cellTable(w, s.Name, func(c cell, m sample) string {
			took := seconds(m.Wall)
			if m.Sync > 0 {
				took += " +" + seconds(m.Sync)
			}
			return fmt.Sprintf("%s / %.2f", took, float64(m.bytes())/1e6)
		})
		fmt.Fprintf(w, "\nSeconds of CPU / MiB of memory at the peak / requests to the server.\n\n")
		r.cellTable(w, s.Name, func(_ cell, m sample) string {
			return fmt.Sprintf("%s / %.0f / %d", seconds(m.CPU), float64(m.RSS)/(1<<20), m.Requests)
		})
		r.floorTable(w, s.Name)
		r.ratioTable(w, s.Name)
		goalTable(w, s.Goals)
	}
}

func (r *report) cellTable(w io.Writer, site string, show func(cell, sample) string) {
	head := []string{"tool"}
	for _, c := range r.cells {
		head = append(head, string(c))
	}
	rows := [][]string{head}
	for _, t := range r.tools {
		row := []string{t}
		for _, c := range r.cells {
			text := "–"
			if m, ok := r.results.at(site, t, c); ok {
				switch {
				case m.Late:
					text = "LATE"
				case m.Error != "":
					text = "ERROR"
				case m.Wrong > 0:
					text = fmt.Sprintf("WRONG (%d) %s", m.Wrong, show(c, m))
				default:
					text = show(c, m)
				}
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	writeTable(w, rows)
}

func (r *report) floorTable(w io.Writer, site string) {
	var list []string
	for _, f := range allFloors {
		if m, ok := r.results.at(site, floorName, f); ok {
			list = append(list, fmt.Sprintf("%s %s s", f, seconds(m.durable())))
		}
	}
	if len(list) > 0 {
		fmt.Fprintf(w, "\nFloors: %s.\n", strings.Join(list, "; "))
	}
}

// ratioTable compares relman with the best peer: durable with durable, and,
// where a peer's result is not durable when it ends, also without that.
func (r *report) ratioTable(w io.Writer, site string) {
	rows := [][]string{{"cell", "relman", "best peer", "relman/best", "best, not durable", "relman/that", "relman/floor", "fewest bytes", "relman/fewest"}}
	for _, c := range r.cells {
		m, ok := r.results.at(site, relmanName, c)
		if !ok {
			continue
		}
		row := []string{string(c), seconds(m.durable()) + " s"}
		peers := sending(r.peers(), c)
		tool, least := r.results.best(site, c, peers, sample.durable)
		row = append(row, named(tool, seconds(least)+" s"), ratio(m.durable(), least))
		tool, least = r.results.best(site, c, peers, func(s sample) float64 { return s.Wall })
		row = append(row, named(tool, seconds(least)+" s"), ratio(m.durable(), least))
		floor, _ := r.results.at(site, floorName, floorOf[c])
		row = append(row, ratio(m.durable(), floor.durable()))
		tool, least = r.results.best(site, c, peers, inBytes.of)
		row = append(row, named(tool, megabytes(least)), ratio(inBytes.of(m), least))
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	writeTable(w, rows)
}

func goalTable(w io.Writer, goals []verdict) {
	rows := [][]string{{"cell", "goal", "limit", "is", ""}}
	for _, g := range goals {
		row := []string{string(g.Cell), g.Of + " " + g.Goal, g.text(g.Limit), g.text(g.Is), g.State}
		if g.State == "-" {
			row[2], row[3] = "–", "–"
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	writeTable(w, rows)
}

// writeTable writes rows in columns, the first row as their heads.
func writeTable(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			width[i] = max(width[i], utf8.RuneCountInString(text), 3)
		}
	}
	for n, row := range rows {
		for i, text := range row {
			fmt.Fprintf(w, "| %s%s ", text, strings.Repeat(" ", width[i]-utf8.RuneCountInString(text)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, n := range width {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", n+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

func seconds(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func named(tool, value string) string {
	if tool == "" {
		return "–"
	}
	return tool + " " + value
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
