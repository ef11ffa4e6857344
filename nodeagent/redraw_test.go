package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"relman/release"
)

// file makes a file out of "path content time", with "x" behind it for an
// executable one.
func file(s string) release.File {
	var f release.File
	var content, exec string
	if n, err := fmt.Sscan(s, &f.Path, &content, &f.MTime, &exec); n < 3 {
		panic(err)
	}
	if content == "-" {
		content = ""
	}
	f.Size, f.Digest, f.Exec = int64(len(content)), release.Sum([]byte(content)), exec == "x"
	return f
}

func files(lines ...string) []release.File {
	var list []release.File
	for _, l := range lines {
		list = append(list, file(l))
	}
	slices.SortFunc(list, func(a, b release.File) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// words is a plan as text, one line per step.
func words(p plan) []string {
	var out []string
	for _, q := range p.parts {
		line := string(q.how)
		if q.own {
			line += " own"
		}
		switch {
		case q.like != nil:
			line += " drawn as " + q.like.to[0].path
		case strings.Contains(q.from, ".new/"):
			line += " drawn"
		case q.from != "":
			line += " " + q.from
		}
		for _, s := range q.to {
			line += " > " + s.path
			if s.taken {
				line += "!"
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	add := func(what string, names []string) {
		for _, n := range names {
			out = append(out, what+" "+n)
		}
	}
	add("clear", p.clear)
	add("early", p.early)
	add("late", p.late)
	add("rmdir", p.dirs)
	return out
}

func TestRedraw(t *testing.T) {
	for _, c := range []struct {
		name   string
		have   []string
		dirs   []string // that a scan found
		others []string
		spare  []string
		want   []string
		keep   int
		plan   []string
	}{
		{name: "nothing to do", have: []string{"a x 1", "b/c y 1"}, want: []string{"a x 1", "b/c y 1"}, keep: 2},
		{name: "an empty buffer is fetched", want: []string{"a x 1"}, plan: []string{"fetch > a"}},
		{name: "an empty buffer is linked", others: []string{"a x 1", "b/c y 1"}, want: []string{"a x 1", "b/c y 1"},
			plan: []string{"link 9/a > a", "link 9/b/c > b/c"}},
		{name: "one file changed", have: []string{"a x 1", "b y 1"}, want: []string{"a x 1", "b z 2"}, keep: 1,
			plan: []string{"fetch > b!"}},
		{name: "same bytes, new time: copied, not linked", have: []string{"a x 1"}, want: []string{"a x 2"},
			plan: []string{"copy 0/a > a!"}},
		{name: "same bytes, other mode", have: []string{"a x 1"}, want: []string{"a x 1 x"},
			plan: []string{"copy 0/a > a!"}},
		{name: "another tree's inode needs the same time", others: []string{"a x 1"}, want: []string{"a x 2"},
			plan: []string{"copy 9/a > a"}},
		{name: "a link is better than a copy", have: []string{"a x 1"}, others: []string{"q x 2"}, want: []string{"a x 2"},
			plan: []string{"link 9/q > a!"}},
		{name: "moved", have: []string{"old/a x 1"}, want: []string{"new/a x 2"},
			plan: []string{"copy 0/old/a > new/a", "late old/a", "rmdir old"}},
		{name: "moved with its time", have: []string{"a x 1", "b x 1"}, want: []string{"b x 1", "c x 1"}, keep: 1,
			plan: []string{"link own 0/a > c", "late a"}},
		{name: "the same content at three paths is one inode, fetched once", have: []string{"b old 1"},
			want: []string{"a x 2", "b x 2", "c/d x 2"}, plan: []string{"fetch > a > b! > c/d"}},
		{name: "the same content with two times is fetched once", want: []string{"a x 1", "b x 2"},
			plan: []string{"copy drawn as a > b", "fetch > a"}},
		{name: "two files swap", have: []string{"a x 1", "b y 1"}, want: []string{"a y 2", "b x 2"},
			plan: []string{"copy 0/a > b!", "copy 0/b > a!"}},
		{name: "a file becomes a directory", have: []string{"a x 1"}, want: []string{"a/b y 2"},
			plan: []string{"fetch > a/b", "early a"}},
		{name: "a directory becomes a file", have: []string{"a/b x 1", "a/c/d y 1"}, want: []string{"a z 2"},
			plan: []string{"fetch > a", "clear a"}},
		{name: "a directory becomes a file with what was in it", have: []string{"a/b x 1"}, want: []string{"a x 2"},
			plan: []string{"copy 0/a/b > a", "clear a"}},
		{name: "a name that only begins alike is no directory", have: []string{"a-b x 1", "a/b y 1"}, want: []string{"a-b x 1"}, keep: 1,
			plan: []string{"late a/b", "rmdir a"}},
		{name: "empty directories go, deepest first", have: []string{"a/b/c x 1", "a/d y 1", "e/f z 1"}, want: []string{"a/d y 1"}, keep: 1,
			plan: []string{"late a/b/c", "late e/f", "rmdir e", "rmdir a/b"}},
		{name: "directories that a scan found", dirs: []string{"a", "a/b", "c"}, want: []string{"c/d x 1"},
			plan: []string{"fetch > c/d", "rmdir a/b", "rmdir a"}},
		{name: "a directory that a scan found is in the way", dirs: []string{"a", "a/b"}, want: []string{"a x 1"},
			plan: []string{"fetch > a", "clear a"}},
		{name: "an attempt before has drawn it", spare: []string{"- x 2"}, want: []string{"a x 2"},
			plan: []string{"keep > a"}},
		{name: "an attempt before has drawn it with another time", spare: []string{"- x 3"}, want: []string{"a x 2"},
			plan: []string{"copy drawn > a"}},
		{name: "a file as relman does not leave files is not kept", have: []string{"a x -1"}, want: []string{"a x 1"},
			plan: []string{"copy 0/a > a!"}},
		{name: "empty files", have: []string{"a - 1"}, want: []string{"a - 1", "b - 2"}, keep: 1,
			plan: []string{"copy 0/a > b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spare := map[identity]bool{}
			for _, f := range files(c.spare...) {
				spare[identityOf(f)] = true
			}
			p := redraw(tree{name: "0", files: files(c.have...), dirs: c.dirs}, spare,
				[]tree{{name: "9", files: files(c.others...)}}, files(c.want...))
			if got := words(p); p.keep != c.keep || !slices.Equal(got, c.plan) {
				t.Errorf("keep %d, want %d\ngot  %q\nwant %q", p.keep, c.keep, got, c.plan)
			}
		})
	}
}

func TestPlan_needs(t *testing.T) {
	p := redraw(tree{name: "0", files: files("a x 1", "d/b y 1")}, nil, []tree{{name: "9", files: files("l link 1")}},
		files("a new 2", "d/b y 1", "e/empty - 2", "e/l link 1"))
	bytes, inodes := p.needs()
	if bytes != 4096 || inodes != 3 { // one block; a, e/empty and the directory e
		t.Errorf("needs %d bytes and %d inodes", bytes, inodes)
	}
	if p.draws() != 3 {
		t.Errorf("draws %d bytes", p.draws())
	}
}
