package nodeagent

import (
	"path"
	"slices"
	"strings"

	"relman/release"
)

// identity is what two paths have to agree on to be one inode: times and mode
// belong to the inode, so the same content with another time is another file.
type identity struct {
	digest release.Digest
	mtime  int64
	exec   bool
}

func identityOf(f release.File) identity { return identity{f.Digest, f.MTime, f.Exec} }

// tree is the content of one buffer, sorted by path.
type tree struct {
	name  string // the directory below the buffers
	files []release.File
	// Only a scan finds these: what is no regular file, and directories that
	// may be empty.
	strays, dirs []string
	unread       error // of a file that could not be read
}

// how says where an inode of the new tree comes from.
type how string

const (
	byKeep  how = "keep"  // it is in place, or was drawn by an attempt before
	byLink  how = "link"  // another buffer has it
	byCopy  how = "copy"  // its content is on this disk, with other times
	byFetch how = "fetch" // it comes from the store
)

// spot is a path at which an inode is needed. A taken one holds a file, which
// is replaced in one step.
type spot struct {
	path  string
	taken bool
}

// part is one inode that the buffer does not have in place yet.
type part struct {
	file release.File // its path is one of the spots
	how  how
	from string // byLink, byCopy: a file below the buffers
	own  bool   // from is in the buffer itself, where it may be replaced
	like *part  // byCopy: of what this one draws, instead of from
	to   []spot
}

// plan turns the content of a buffer into that of a release.
type plan struct {
	keep  int
	parts []part
	clear []string // directories where the release has a file
	early []string // files where the release has a directory
	late  []string // files that the release does not have
	dirs  []string // directories that it may not need, deepest first
}

// redraw plans how have becomes want. Inodes that are in spare already, or in
// one of the others, are not made again. It costs a walk over the manifests in
// memory; what the plan costs on the disk is what differs.
func redraw(have tree, spare map[identity]bool, others []tree, want []release.File) plan {
	var p plan
	index := map[identity]int{}
	if len(have.files) == 0 { // it has nothing to keep
		p.parts, index = make([]part, 0, len(want)), make(map[identity]int, len(want))
	}
	need := func(f release.File, taken bool) {
		id := identityOf(f)
		i, ok := index[id]
		if !ok {
			i = len(p.parts)
			index[id] = i
			p.parts = append(p.parts, part{file: f, how: byFetch})
		}
		p.parts[i].to = append(p.parts[i].to, spot{f.Path, taken})
	}
	var gone []string
	h, w := have.files, want
	for len(h) > 0 || len(w) > 0 {
		switch order := next(h, w); {
		case order < 0:
			gone = append(gone, h[0].Path)
			h = h[1:]
		case order > 0:
			need(w[0], false)
			w = w[1:]
		default:
			if identityOf(h[0]) == identityOf(w[0]) && h[0].Size == w[0].Size {
				p.keep++
			} else {
				need(w[0], true)
			}
			h, w = h[1:], w[1:]
		}
	}
	p.source(have, spare, others)
	p.clean(gone, have.dirs, want)
	return p
}

// next compares the first paths; an empty list comes last.
func next(h, w []release.File) int {
	switch {
	case len(h) == 0:
		return 1
	case len(w) == 0:
		return -1
	}
	return strings.Compare(h[0].Path, w[0].Path)
}

// source finds for every part the cheapest place that it can come from.
func (p *plan) source(have tree, spare map[identity]bool, others []tree) {
	if len(p.parts) == 0 {
		return
	}
	found := make(map[release.Digest]bool, len(p.parts)) // needed; true: at hand for a copy
	same := make(map[identity]int, len(p.parts))
	for i, part := range p.parts {
		found[part.file.Digest] = false
		same[identityOf(part.file)] = i
	}
	copies := map[release.Digest]string{}
	offer := func(f release.File, from string, own bool) {
		at, needed := found[f.Digest]
		if !needed {
			return
		}
		if !at {
			found[f.Digest], copies[f.Digest] = true, from
		}
		if i, ok := same[identityOf(f)]; ok && p.parts[i].how == byFetch && p.parts[i].file.Size == f.Size {
			p.parts[i].how, p.parts[i].from, p.parts[i].own = byLink, from, own
		}
	}
	for _, t := range others {
		for _, f := range t.files {
			offer(f, t.name+"/"+f.Path, false)
		}
	}
	for _, f := range have.files {
		offer(f, have.name+"/"+f.Path, true)
	}
	for id := range spare {
		if _, needed := found[id.digest]; needed && copies[id.digest] == "" {
			copies[id.digest] = spareName(have.name, id)
		}
		if i, ok := same[id]; ok {
			p.parts[i].how, p.parts[i].from, p.parts[i].own = byKeep, "", false
		}
	}
	// Content that is needed with two times is fetched once.
	first := map[release.Digest]*part{}
	for i := range p.parts {
		q := &p.parts[i]
		if q.how != byFetch {
			continue
		}
		d := q.file.Digest
		switch {
		case copies[d] != "":
			q.how, q.from = byCopy, copies[d]
		case first[d] != nil:
			q.how, q.like = byCopy, first[d]
		default:
			first[d] = q
		}
	}
}

// clean sorts what goes: what is in the way of the release, and the rest.
func (p *plan) clean(gone, scanned []string, want []release.File) {
	cleared := map[string]bool{}
	dirs := map[string]bool{}
	// blocked notes the directories on the way to a path that the release may
	// not need. It reports whether one of them is a file of the release: that
	// one is cleared with all that it holds.
	blocked := func(dir string) bool {
		for d := dir; d != "."; d = path.Dir(d) {
			if cleared[d] {
				return true
			}
			if _, isFile := lookup(want, d); isFile {
				cleared[d] = true
				p.clear = append(p.clear, d)
				return true
			}
		}
		for d := dir; d != "." && !dirs[d] && !hasUnder(want, d); d = path.Dir(d) {
			dirs[d] = true
		}
		return false
	}
	for _, f := range gone {
		switch {
		case hasUnder(want, f):
			p.early = append(p.early, f)
		case !blocked(path.Dir(f)):
			p.late = append(p.late, f)
		}
	}
	for _, d := range scanned {
		blocked(d)
	}
	for d := range dirs {
		p.dirs = append(p.dirs, d)
	}
	// A directory sorts before all that is in it.
	slices.Sort(p.dirs)
	slices.Reverse(p.dirs)
}

// lookup finds a path among sorted files.
func lookup(files []release.File, p string) (int, bool) {
	return slices.BinarySearchFunc(files, p, func(f release.File, p string) int { return strings.Compare(f.Path, p) })
}

// hasUnder reports whether any of the sorted files is below a directory.
func hasUnder(files []release.File, dir string) bool {
	i, _ := lookup(files, dir+"/")
	return i < len(files) && strings.HasPrefix(files[i].Path, dir+"/")
}

// needs is what the plan takes on the disk before anything of it is freed.
func (p *plan) needs() (bytes, inodes int64) {
	const block = 4096
	parents := map[string]bool{}
	for _, q := range p.parts {
		if q.how == byCopy || q.how == byFetch {
			bytes += (q.file.Size + block - 1) / block * block
			inodes++
		}
		for _, s := range q.to {
			if d := path.Dir(s.path); !s.taken && d != "." {
				parents[d] = true
			}
		}
	}
	return bytes, inodes + int64(len(parents))
}

// draws is how many bytes the plan writes.
func (p *plan) draws() (n int64) {
	for _, q := range p.parts {
		if q.how == byCopy || q.how == byFetch {
			n += q.file.Size
		}
	}
	return n
}
