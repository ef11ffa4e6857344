package nodeagent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// view makes a view out of "release@buffer" for each of its three parts, "" for
// none.
func view(active, previous, rollout string) cluster.NodeView {
	held := func(s string) cluster.Held {
		id, k, _ := strings.Cut(s, "@")
		h := cluster.Held{Release: release.ID(id)}
		if _, err := fmt.Sscan(k, &h.Buffer); err != nil {
			panic(err)
		}
		return h
	}
	v := cluster.NodeView{Site: www}
	if active != "" {
		h := held(active)
		v.Active = cluster.Entry[cluster.Active]{Mod: 1, Create: 1, Value: cluster.Active{Release: h.Release, Buffer: h.Buffer, Epoch: 7}}
	}
	if previous != "" {
		h := held(previous)
		v.Active.Value.Previous = &h
	}
	if rollout != "" {
		h := held(rollout)
		v.Rollout = cluster.Entry[cluster.Rollout]{Mod: 1, Create: 1, Value: cluster.Rollout{Release: h.Release, Buffer: h.Buffer}}
	}
	return v
}

func ids(s string) []release.ID {
	var list []release.ID
	for _, f := range strings.Fields(s) {
		list = append(list, release.ID(strings.TrimPrefix(f, "-")))
	}
	return list
}

func TestDue(t *testing.T) {
	for _, c := range []struct {
		name                      string
		active, previous, rollout string
		claims, holds, want       string
	}{
		{"nothing yet", "", "", "", "- - -", "", "- - -"},
		{"a first rollout", "", "", "a@0", "- - -", "a", "a - -"},
		{"a first rollout, not held", "", "", "a@0", "- - -", "", "- - -"},
		{"a joiner", "b@1", "a@0", "c@2", "- - -", "b c", "- b c"},
		{"then the previous one", "b@1", "a@0", "c@2", "- b c", "a b c", "a b c"},
		{"what is claimed and held stays", "b@1", "", "", "z b y", "b y z", "z b y"},
		{"what is not held goes", "b@1", "a@0", "", "a b y", "b", "- b -"},
		{"an old claim makes room", "b@1", "a@0", "c@2", "x y z", "a b c x y z", "a b c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := ids(c.holds)
			holds := func(id release.ID) bool { return slices.Contains(held, id) }
			got := due(view(c.active, c.previous, c.rollout), ids(c.claims), holds)
			if !slices.Equal(got, ids(c.want)) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestPick(t *testing.T) {
	s := newShelf()
	b := firstBuild()
	r := map[string]*objectstore.Stored{}
	for i, name := range []string{"a", "b", "c", "d"} {
		r[name] = s.publish(t, b.with("index.html", fmt.Sprint(i)))
	}
	id := func(name string) string {
		if n, k, ok := strings.Cut(name, "@"); ok {
			return string(r[n].Manifest.ID()) + "@" + k
		}
		if r[name] == nil {
			return ""
		}
		return string(r[name].Manifest.ID())
	}
	for _, c := range []struct {
		name                      string
		bufs                      string // what they hold
		shown                     string
		active, previous, rollout string
		claims                    string
		want                      string
		stale                     []int
	}{
		{"an empty disk", "- - -", "", "a@0", "", "", "- - -", "0", nil},
		{"the back buffer", "a b -", "b", "b@1", "a@0", "c@2", "a b -", "2", nil},
		{"the retracted one", "a b c", "c", "c@2", "b@1", "d@0", "- b c", "0", nil},
		{"rather redrawn than drawn", "a - b", "b", "b@1", "", "", "- b -", "0", nil},
		{"rather not the previous one", "a b c", "b", "b@1", "a@0", "", "- b -", "2", nil},
		{"rather not the rollout's", "a b c", "a", "d@0", "", "c@2", "- - -", "1", nil},
		{"the newest of two", "a b c", "c", "d@0", "", "", "- - -", "1", nil},
		{"never the front, whatever number is active's", "a b c", "a", "d@0", "c@2", "", "- - c", "1", nil},
		{"all needed until stale claims go", "a b c", "a", "d@0", "b@1", "c@2", "- b c", "", []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var bufs []*buffer
			for i, name := range strings.Fields(c.bufs) {
				buf := &buffer{name: fmt.Sprint(i)}
				if name != "-" {
					buf.manifest = r[name].Manifest
				}
				bufs = append(bufs, buf)
			}
			at := func(s string) string {
				if s == "" {
					return ""
				}
				return id(s)
			}
			v := view(at(c.active), at(c.previous), at(c.rollout))
			var claims []release.ID
			for _, name := range strings.Fields(c.claims) {
				claims = append(claims, release.ID(id(name)))
			}
			got := ""
			if b := pick(bufs, release.ID(id(c.shown)), v, claims); b != nil {
				got = b.name
			}
			if got != c.want {
				t.Errorf("buffer %q, want %q", got, c.want)
			}
			if c.stale != nil && !slices.Equal(stale(v, claims), c.stale) {
				t.Errorf("stale %v, want %v", stale(v, claims), c.stale)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	if n, err := places(view("a@1", "b@4", "c@2")); n != 5 || err != nil {
		t.Error(n, err)
	}
	for _, v := range []cluster.NodeView{view("a@8", "", ""), view("a@0", "b@-1", ""), view("", "", "c@1000000")} {
		if n, err := places(v); err == nil {
			t.Errorf("%d places", n)
		}
	}
}

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		err   error
		class cluster.Class
		text  string
	}{
		{&noSpaceError{needs: 1288490188, has: 322122547}, ClassNoSpace, "disk full, needs 1.2 GiB, has 0.3 GiB"},
		{&noSpaceError{needs: 12, has: 3, files: true}, ClassNoSpace, "disk full, needs 12 files, has 3"},
		{fmt.Errorf("prefetch x: %w", &noSpaceError{needs: 2048, has: 0}), ClassNoSpace, "disk full, needs 2.0 KiB, has 0.0 KiB"},
		{&os.PathError{Op: "write", Path: "f", Err: syscall.EDQUOT}, ClassNoSpace, "disk full: write f: disk quota exceeded"},
		{&os.LinkError{Op: "link", Old: "a", New: "b", Err: syscall.EIO}, ClassDisk, "link a b: input/output error"},
		{&os.PathError{Op: "syncfs", Path: "f", Err: syscall.EROFS}, ClassDisk, "syncfs f: read-only file system"},
		{&objectstore.CorruptError{Key: "packs/ab/ab.pack", What: "frame 3"}, ClassHash, ""},
		{fmt.Errorf("get k: %w", objectstore.ErrNotFound), ClassObjectMissing, "get k: object not found"},
		{cluster.ErrNotFound, cluster.ClassReleaseGone, ""},
		{release.ErrInvalid, ClassManifest, ""},
		{cluster.ErrUnknown, ClassEtcd, ""},
		{errors.New("odd"), ClassNode, "odd"},
	} {
		p := problem(c.err)
		if p.Class != c.class || c.text != "" && p.Text != c.text {
			t.Errorf("%v: %s %q, want %s %q", c.err, p.Class, p.Text, c.class, c.text)
		}
	}
	if p := problem(errors.New(strings.Repeat("ä", 1000))); len(p.Text) > maxProblem+10 {
		t.Errorf("%d bytes of text", len(p.Text))
	}
}
