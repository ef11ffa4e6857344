package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// measured is one cell in the JSON file.
type measured struct {
	key
	Median  sample   `json:"median"`
	Samples []sample `json:"samples"`
}

// complete is the report with every sample.
func (r *report) complete() any {
	list := []measured{}
	for k, all := range r.results {
		list = append(list, measured{k, median(all), all})
	}
	order := append(slices.Clone(r.cells), allFloors...)
	slices.SortFunc(list, func(a, b measured) int {
		if a.Site != b.Site {
			return strings.Compare(a.Site, b.Site)
		}
		if a.Cell != b.Cell {
			return slices.Index(order, a.Cell) - slices.Index(order, b.Cell)
		}
		return strings.Compare(a.Tool, b.Tool)
	})
	return struct {
		*report
		Measured []measured `json:"measured"`
	}{r, list}
}

// failures are the cells in which relman itself did not do what it had to.
func (r *report) failures() error {
	var errs []error
	for k := range r.results {
		if m := median(r.results[k]); k.Tool == relmanName && !m.good() {
			errs = append(errs, fmt.Errorf("%s, %s: %d files wrong, %s", k.Site, k.Cell, m.Wrong, or(m.Error, "no error")))
		}
	}
	return errors.Join(errs...)
}

// machine says on what this ran.
func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "unknown"
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), model, kernel)
}
