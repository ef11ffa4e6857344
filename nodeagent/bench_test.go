package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"relman/objectstore"
	"relman/release"
)

// BenchmarkRedraw is an update of ten files of a hundred thousand: what it
// costs should be the ten files, and a look at the names of the rest (check).
func BenchmarkRedraw(b *testing.B) {
	const count, changed = 100_000, 10
	d := newDrawing(b)
	name := func(i int) string { return fmt.Sprintf("section%d/part%d/page%d.html", i%20, i%1000, i) }
	site := build{}
	for i := range count {
		site[name(i)] = page{content: fmt.Sprintf("<h1>page %d</h1>", i)}
	}
	dir := memoryDir(b) // the publisher's side is not what is measured
	r := []*objectstore.Stored{d.shelf.publishDir(b, site.write(b, dir))}
	for round := range 2 {
		update := build{}
		for i := range changed {
			update[name(i*1000)] = page{content: fmt.Sprintf("<h1>page %d, round %d</h1>", i, round)}
		}
		r = append(r, d.shelf.publishDir(b, update.write(b, dir)))
	}
	for k := range 2 { // as on a node: another buffer holds the release before
		if err := d.fill(b.Context(), k, r[0]); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("fill", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			if err := d.fill(b.Context(), 1, r[1+n%2]); err != nil {
				b.Fatal(err)
			}
			if d.count[byKeep] != count-changed || d.count[byFetch]+d.count[byLink]+d.count[byCopy] != changed {
				b.Fatal(d.count)
			}
		}
	})
	b.Run("floor", func(b *testing.B) { // the same bytes written and made durable, and nothing else
		for b.Loop() {
			if err := floor(d, r[1].Manifest, changed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) { // what a start looks at, per buffer
		for b.Loop() {
			if err := d.check(b.Context(), "0", r[0].Manifest, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func floor(d *drawing, m *release.Manifest, changed int) error {
	dir := filepath.Join(d.dir, "floor")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range changed {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("<h1>page</h1>"), 0o444); err != nil {
			return err
		}
	}
	top, err := d.trees.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := syncAll(top); err != nil {
		return err
	}
	if err := writeDurably(d.trees, "floor.manifest", m.Raw()); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
