package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// bench is what a program measures.
type bench struct {
	bed     *bed
	tools   []tool
	cells   []cell
	limit   time.Duration // of each cell
	results results
	say     func(format string, args ...any)

	trees map[string]tree // of the inputs
}

// run measures a site once: cell by cell, all tools at each, so that what else
// the machine does meets them all. Who comes first changes from run to run.
func (m *bench) run(ctx context.Context, s site, run int) error {
	mark := m.bed.mark()
	steps := map[string]map[cell]step{}
	for _, t := range m.tools {
		at, err := t.open(ctx, m.bed, s, run)
		if err != nil {
			m.add(key{s.name, t.name(), firstPublish}, sample{Error: err.Error()})
			continue
		}
		steps[t.name()] = at
	}
	for _, c := range m.cells {
		for i := range m.tools {
			t := m.tools[(i+run)%len(m.tools)]
			st, ok := steps[t.name()][c]
			if ok && ctx.Err() == nil && !m.late(key{s.name, t.name(), c}) {
				m.add(key{s.name, t.name(), c}, m.measure(ctx, st))
			}
		}
	}
	for _, f := range floors(m.bed, s, run) {
		if ctx.Err() == nil {
			m.add(key{s.name, floorName, f.cell}, m.measure(ctx, f.step))
		}
	}
	if err := m.bed.closeTo(mark); err != nil {
		return fmt.Errorf("end of %s, run %d: %w", s.name, run+1, err)
	}
	if s.big { // the disk is not endless; many small files stay, see the documentation
		if err := m.bed.clear(s.name, run); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// late reports whether a tool was too slow for a cell once: it is not waited
// for in every run.
func (m *bench) late(k key) bool {
	for _, s := range m.results[k] {
		if s.Late {
			return true
		}
	}
	return false
}

func (m *bench) add(k key, s sample) {
	m.results.add(k, s)
	text := fmt.Sprintf("%.3f s, %.1f MB, %d requests", s.durable(), float64(s.bytes())/1e6, s.Requests)
	if s.Wrong > 0 {
		text += fmt.Sprintf(", WRONG: %d files", s.Wrong)
	}
	if s.Error != "" {
		text = "ERROR: " + s.Error
	}
	m.say("%-8s %-28s %-9s %s", k.Site, k.Cell, k.Tool, text)
}

// measure does a step. What was written before is on the disk when it begins,
// so that nobody pays for another one's writes.
func (m *bench) measure(ctx context.Context, st step) (s sample) {
	late := fmt.Errorf("not within %v", m.limit)
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, late)
	defer cancel()
	var err error
	defer func() {
		if err != nil {
			s.Error, s.Late = err.Error(), errors.Is(context.Cause(ctx), late)
		}
	}()
	if st.before != nil {
		if err = st.before(ctx); err != nil {
			return s
		}
	}
	if err = syncTree(m.bed.dir); err != nil {
		return s
	}
	before := m.bed.wire.crossed()
	s, err = st.work(ctx)
	over := m.bed.wire.crossed().since(before)
	s.Up, s.Down, s.Requests = over.Up, over.Down, over.Requests
	if err == nil && st.into != nil {
		err = m.finish(st, &s)
	}
	if err == nil && st.after != nil {
		err = st.after(ctx)
	}
	return s
}

// finish makes what was fetched durable and compares it with the input.
func (m *bench) finish(st step, s *sample) error {
	if !st.durable {
		began := time.Now()
		if err := syncTree(m.bed.dir); err != nil {
			return err
		}
		s.Sync = time.Since(began).Seconds()
	}
	want, err := m.input(st.want)
	if err != nil {
		return err
	}
	dir, err := st.into()
	if err != nil {
		return err
	}
	got, err := readTree(dir)
	if err != nil {
		return err
	}
	s.Wrong = want.differs(got)
	return nil
}

// input is an input's tree. Reading it also brings it into the page cache.
func (m *bench) input(dir string) (tree, error) {
	if t, ok := m.trees[dir]; ok {
		return t, nil
	}
	t, err := readTree(dir)
	if err == nil {
		m.trees[dir] = t
	}
	return t, err
}

// clear removes what the tools have left of a site's run.
func (b *bed) clear(site string, run int) error {
	for _, dir := range []string{"work", "store/" + bucket} {
		if err := os.RemoveAll(fmt.Sprintf("%s/%s/%s-%d", b.dir, dir, site, run)); err != nil {
			return err
		}
	}
	return nil
}
