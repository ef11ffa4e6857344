package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// serveKey names what is measured.
type serveKey struct {
	Server string `json:"server"`
	serveCell
}

// serveResults are all measurements, in the order of the rounds.
type serveResults map[serveKey][]loaded

func (r serveResults) add(k serveKey, m loaded) { r[k] = append(r[k], m) }

// at is the median of each number by itself; false where nothing was measured.
func (r serveResults) at(server string, c serveCell) (loaded, bool) {
	all := r[serveKey{server, c}]
	if len(all) == 0 {
		return loaded{}, false
	}
	mid := func(of func(loaded) float64) float64 {
		list := make([]float64, len(all))
		for i, m := range all {
			list[i] = of(m)
		}
		return medianOf(list)
	}
	m := loaded{Seconds: 1, P50: mid(func(m loaded) float64 { return m.P50 }), P99: mid(func(m loaded) float64 { return m.P99 }),
		Most: mid(func(m loaded) float64 { return m.Most }), CPU: mid(func(m loaded) float64 { return m.CPU }),
		Requests: int64(mid(loaded.rate)), Bytes: int64(mid(func(m loaded) float64 { return float64(m.Bytes) / m.Seconds }))}
	for _, one := range all {
		m.Errors += one.Errors
	}
	return m, true
}

// ratioOf compares two series round by round, since the machine is not the same
// from one round to the next, and takes the median; 0 where there is nothing to
// compare.
func ratioOf(x, y []loaded, of func(loaded) float64) float64 {
	var list []float64
	for i := range min(len(x), len(y)) {
		if of(y[i]) > 0 {
			list = append(list, of(x[i])/of(y[i]))
		}
	}
	if len(list) == 0 {
		return 0
	}
	return medianOf(list)
}

// against is relman's rate beside another server's.
func (r serveResults) against(server string, c serveCell) string {
	return fmt.Sprintf("%.2f", ratioOf(r[serveKey{relmanName, c}], r[serveKey{server, c}], loaded.rate))
}

func medianOf(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// serveReport is what a comparison found.
type serveReport struct {
	Command string         `json:"command"`
	Machine string         `json:"machine"`
	Rounds  int            `json:"rounds"`
	Seconds int            `json:"seconds"`
	Goals   []serveVerdict `json:"goals"`

	results serveResults
}

// serveMeasured is one cell in the JSON file.
type serveMeasured struct {
	serveKey
	Median  loaded   `json:"median"`
	Samples []loaded `json:"samples"`
}

// complete is the report with every sample.
func (r *serveReport) complete() any {
	list := []serveMeasured{}
	for _, c := range allServeCells {
		for _, server := range []string{relmanName, nginxName, nginxOpen, nginxShipped} {
			if m, ok := r.results.at(server, c); ok {
				list = append(list, serveMeasured{serveKey{server, c}, m, r.results[serveKey{server, c}]})
			}
		}
	}
	return struct {
		*serveReport
		Measured []serveMeasured `json:"measured"`
	}{r, list}
}

// failures are the cells in which a server gave errors: those are no measure.
func (r *serveReport) failures() error {
	var errs []error
	for _, c := range allServeCells {
		if m, ok := r.results.at(relmanName, c); ok && m.Errors > 0 {
			errs = append(errs, fmt.Errorf("%s, %s: %d requests failed", relmanName, c, m.Errors))
		}
	}
	return errors.Join(errs...)
}

// print writes tables that are Markdown, too.
func (r *serveReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nMedians of %s of %d s each, ratios those of each round. Machine: %s.\n\n", r.Command, plural(r.Rounds, "round"), r.Seconds, r.Machine)
	rows := [][]string{{"cell", "relman req/s", "nginx req/s", "ratio", "relman MB/s", "nginx MB/s", "relman p50/p99/max ms", "nginx p50/p99/max ms", "relman CPU µs", "nginx CPU µs"}}
	for _, c := range allServeCells {
		a, ok := r.results.at(relmanName, c)
		if !ok {
			continue
		}
		n, _ := r.results.at(nginxName, c)
		rows = append(rows, []string{
			c.String(), fmt.Sprintf("%.0f", a.rate()), fmt.Sprintf("%.0f", n.rate()), r.results.against(nginxName, c),
			fmt.Sprintf("%.0f", float64(a.Bytes)/1e6), fmt.Sprintf("%.0f", float64(n.Bytes)/1e6), a.times(), n.times(),
			fmt.Sprintf("%.1f", a.CPU), fmt.Sprintf("%.1f", n.CPU),
		})
	}
	writeTable(w, rows)
	r.printOthers(w)
	rows = [][]string{{"cell", "goal", "limit", "is", ""}}
	for _, g := range r.Goals {
		rows = append(rows, []string{g.Cell, g.Goal, g.text(g.Limit), g.text(g.Is), g.State})
	}
	fmt.Fprintln(w)
	writeTable(w, rows)
}

func (m loaded) times() string {
	return fmt.Sprintf("%.2f / %.2f / %.1f", m.P50/1e3, m.P99/1e3, m.Most/1e3)
}

// printOthers shows nginx in other ways.
func (r *serveReport) printOthers(w io.Writer) {
	rows := [][]string{{"cell", nginxOpen + ", req/s", "relman/that", nginxShipped + ", req/s", "relman/that"}}
	for _, c := range allServeCells {
		open, ok := r.results.at(nginxOpen, c)
		if !ok {
			continue
		}
		row := []string{c.String(), fmt.Sprintf("%.0f", open.rate()), r.results.against(nginxOpen, c), "–", "–"}
		if m, ok := r.results.at(nginxShipped, c); ok {
			row[3], row[4] = fmt.Sprintf("%.0f", m.rate()), r.results.against(nginxShipped, c)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		fmt.Fprintln(w)
		writeTable(w, rows)
	}
}

// serveVerdict is whether a goal was reached.
type serveVerdict struct {
	Cell  string  `json:"cell"`
	Goal  string  `json:"goal"`
	Limit float64 `json:"limit"`
	Is    float64 `json:"is"`
	State string  `json:"state"`
	unit  string
}

func (v serveVerdict) text(n float64) string { return fmt.Sprintf("%.2f", n) + v.unit }

// mostStep is how much longer p99 may be with flips than without: what a second of
// measuring cannot tell from noise.
const mostStep = 1.25

// judgeServing compares with the goals: nginx's requests in a second for what
// fits into memory, its bytes in a second for what is large, and no step of p99
// by flips, beyond the one that nginx has because something else works, too.
func judgeServing(r serveResults, cells []serveCell) []serveVerdict {
	var out []serveVerdict
	add := func(c serveCell, goal string, limit, is float64, good bool, unit string) {
		v := serveVerdict{c.String(), goal, limit, is, "MISS", unit}
		if good {
			v.State = "PASS"
		}
		out = append(out, v)
	}
	for _, c := range cells {
		goal, of := "requests/s of nginx", loaded.rate
		if c.Size >= 1<<20 {
			goal, of = "bytes/s of nginx", func(m loaded) float64 { return float64(m.Bytes) / m.Seconds }
		}
		is := ratioOf(r[serveKey{relmanName, c}], r[serveKey{nginxName, c}], of)
		add(c, goal, 1, is, is >= 1, " ×")
	}
	p99 := func(m loaded) float64 { return m.P99 }
	for _, c := range cells {
		idle := c
		idle.Flips = false
		is := ratioOf(r[serveKey{relmanName, c}], r[serveKey{relmanName, idle}], p99)
		peer := ratioOf(r[serveKey{nginxName, c}], r[serveKey{nginxName, idle}], p99)
		if c.Flips && is > 0 && peer > 0 {
			limit := mostStep * max(1, peer)
			add(c, "p99 with flips / without", limit, is, is <= limit, "")
		}
	}
	return out
}
