package nodeagent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"relman/objectstore"
)

// named are the releases that have a name on a node's disk. Each must lead to
// a tree that is the release.
func (n *node) named(want ...*objectstore.Stored) error {
	entries, err := os.ReadDir(filepath.Join(n.siteDir(), releasesDir))
	if err != nil {
		return err
	}
	var have, expected []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	for _, s := range want {
		expected = append(expected, string(s.Manifest.ID()))
	}
	slices.Sort(expected)
	if !slices.Equal(have, expected) {
		return fmt.Errorf("named are %v, held %v", have, expected)
	}
	held, err := os.ReadDir(filepath.Join(n.siteDir(), heldDir))
	if err != nil {
		return err
	}
	if len(held) != len(want) {
		return fmt.Errorf("%d of %d trees are in %s", len(held), len(want), heldDir)
	}
	for _, s := range want {
		if err := expectTree(n.link(treeOf(s.Manifest.ID())), s.Manifest); err != nil {
			return err
		}
	}
	return nil
}

func TestLinks_names(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	r1 := n.rollOut(b)
	r2 := n.rollOut(b.with("index.html", "two"))
	r3 := n.rollOut(b.with("index.html", "three").without("d1/e1/f1"))
	n.until("three names", func() error { return n.named(r1, r2, r3) })
	if active := n.link("active"); filepath.Base(active) != string(r3.Manifest.ID()) || filepath.Join(n.link("active"), treeLink) == active {
		t.Errorf("active leads to %s, not to %s", active, r3.Manifest.ID())
	}

	// While the buffer of r1 is drawn anew no name leads to it.
	r4 := n.publish(b.with("index.html", "four"))
	n.setPoint(func(name string) error {
		if name == "node.mid-place" {
			if _, err := os.Lstat(filepath.Join(n.siteDir(), releasesDir, string(r1.Manifest.ID()))); !os.IsNotExist(err) {
				t.Errorf("%s still has a name while its tree is changed: %v", r1.Manifest.ID(), err)
			}
			if held, err := os.ReadDir(filepath.Join(n.siteDir(), heldDir)); err != nil || len(held) != 2 {
				t.Errorf("held are %v while a tree is changed: %v", held, err)
			}
		}
		return nil
	})
	n.etcd.startRollout(r4.Manifest.ID())
	n.claimed()
	if err := n.named(r2, r3, r4); err != nil { // before the flip, since other nodes may flip first
		t.Error(err)
	}
	n.etcd.flip(t)
	n.serves(r4)
	n.until("active leads to it", func() error {
		if got := filepath.Base(n.link("active")); got != string(r4.Manifest.ID()) {
			return fmt.Errorf("to %s", got)
		}
		return nil
	})

	// A start removes names that are wrong, and restores those that are missing.
	n.halt()
	n.setPoint(nil)
	dir := filepath.Join(n.siteDir(), releasesDir)
	for _, err := range []error{
		os.RemoveAll(filepath.Join(dir, string(r2.Manifest.ID()))),
		os.MkdirAll(filepath.Join(dir, string(r1.Manifest.ID())), 0o755),
		os.Symlink("../../buffers/0", filepath.Join(dir, string(r1.Manifest.ID()), treeLink)),
		os.WriteFile(filepath.Join(dir, "stray"), nil, 0o600),
		os.Remove(filepath.Join(n.siteDir(), "active")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	n.until("the names are right again", func() error { return n.named(r2, r3, r4) })
	n.until("the link is there again", func() error {
		_, err := fs.Stat(os.DirFS(n.siteDir()), "active/tree/index.html")
		return err
	})
}
