package main

import (
	"cmp"
	"slices"
)

// cell is one thing that every tool is measured at.
type cell string

// The cells, in the order of a run: each stands on those before it.
const (
	firstPublish   cell = "first publish"
	firstPrefetch  cell = "first prefetch"
	updatePublish  cell = "publish of an update"
	updatePrefetch cell = "update prefetch"
	noopPublish    cell = "no-op publish"
	coldPublish    cell = "no-op publish, no cache"
	noopPrefetch   cell = "no-op prefetch"
	freshPrefetch  cell = "update prefetch, fresh node"
)

var allCells = []cell{
	firstPublish, firstPrefetch, updatePublish, updatePrefetch,
	noopPublish, coldPublish, noopPrefetch, freshPrefetch,
}

// prefetches reports whether a node is what works in the cell.
func (c cell) prefetches() bool {
	return c == firstPrefetch || c == updatePrefetch || c == noopPrefetch || c == freshPrefetch
}

// sample is one measurement.
type sample struct {
	Wall     float64 `json:"wall_s"`
	Sync     float64 `json:"sync_s"` // to have it durable after that; 0 when Wall has it
	CPU      float64 `json:"cpu_s"`
	RSS      int64   `json:"rss"`      // peak, bytes
	Idle     int64   `json:"idle_rss"` // before; 0 for a program that starts with the cell
	Up       int64   `json:"up"`
	Down     int64   `json:"down"`
	Requests int64   `json:"requests"`
	Wrong    int     `json:"wrong,omitempty"` // files that are not as in the input
	Error    string  `json:"error,omitempty"`
	Late     bool    `json:"late,omitempty"` // the error is that it took too long
}

// durable is the time until the result survives a power cut.
func (s sample) durable() float64 { return s.Wall + s.Sync }

func (s sample) bytes() int64 { return s.Up + s.Down }

// good reports whether the tool did what the cell is about.
func (s sample) good() bool { return s.Error == "" && s.Wrong == 0 }

// key names what is measured.
type key struct {
	Site string `json:"site"`
	Tool string `json:"tool"`
	Cell cell   `json:"cell"`
}

// results are all samples of a program.
type results map[key][]sample

func (r results) add(k key, s sample) { r[k] = append(r[k], s) }

// median takes every number on its own. What failed once has failed, and files
// that were wrong once count.
func median(all []sample) sample {
	pick := func(of func(sample) float64) float64 { return middle(all, of) }
	m := sample{
		Wall:     pick(func(s sample) float64 { return s.Wall }),
		Sync:     pick(func(s sample) float64 { return s.Sync }),
		CPU:      pick(func(s sample) float64 { return s.CPU }),
		RSS:      int64(pick(func(s sample) float64 { return float64(s.RSS) })),
		Idle:     int64(pick(func(s sample) float64 { return float64(s.Idle) })),
		Up:       int64(pick(func(s sample) float64 { return float64(s.Up) })),
		Down:     int64(pick(func(s sample) float64 { return float64(s.Down) })),
		Requests: int64(pick(func(s sample) float64 { return float64(s.Requests) })),
	}
	for _, s := range all {
		m.Wrong = max(m.Wrong, s.Wrong)
		m.Error, m.Late = cmp.Or(m.Error, s.Error), m.Late || s.Late
	}
	return m
}

// middle is the median; of an even number it is the mean of the two in the
// middle.
func middle(all []sample, of func(sample) float64) float64 {
	var list []float64
	for _, s := range all {
		list = append(list, of(s))
	}
	slices.Sort(list)
	switch n := len(list); {
	case n == 0:
		return 0
	case n%2 == 1:
		return list[n/2]
	default:
		return (list[n/2-1] + list[n/2]) / 2
	}
}

// at is the median of a cell; ok is false when it was not measured.
func (r results) at(site, tool string, c cell) (s sample, ok bool) {
	all := r[key{site, tool, c}]
	return median(all), len(all) > 0
}

// best is the tool, of those named, with the least of something in a cell. A
// tool that failed or left files wrong is none.
func (r results) best(site string, c cell, tools []string, of func(sample) float64) (tool string, least float64) {
	for _, t := range tools {
		s, ok := r.at(site, t, c)
		if !ok || !s.good() {
			continue
		}
		if v := of(s); tool == "" || v < least {
			tool, least = t, v
		}
	}
	return tool, least
}
