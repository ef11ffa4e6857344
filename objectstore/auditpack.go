package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"relman/release"
)

// auditPack is a pack with all that the releases want of it.
type auditPack struct {
	ref    packRef
	order  int // in which it was first named
	bad    bool
	frames map[frameRef]*auditFrame // without the number of the pack, which is a layout's
	users  []*Stored                // whose layouts refer to it
}

// auditFrame is a frame with what is wanted of it.
type auditFrame struct {
	users  []*Stored // whose layouts name it
	pieces []auditPiece
	deltas []auditDelta
}

// auditPiece is one of the pieces of a content.
type auditPiece struct {
	of *auditContent
	i  int
}

// auditContent is a content at one place. Releases share it as long as their
// layouts agree about the place.
type auditContent struct {
	file  release.File // the first with this content
	at    []auditPlace
	users []*Stored

	// Owned by the chain that its packs are in.
	next  int       // pieces that were hashed
	sum   hash.Hash // of these
	wrong bool
	done  bool
}

// auditPlace is where a piece is.
type auditPlace struct {
	pack           *auditPack
	frame          frameRef
	offset, length int64
}

// auditDelta is a delta of a content of one release, at one place of a frame.
type auditDelta struct {
	of   *Stored
	file release.File
	d    delta
}

// note takes over where a release's contents and deltas are.
func (a *audit) note(s *Stored) {
	packs := make([]*auditPack, len(s.Layout.packs))
	for i, ref := range s.Layout.packs {
		packs[i] = a.use(ref, s)
	}
	place := func(p piece) auditPlace {
		fr := s.Layout.frames[p.frame]
		at := auditPlace{pack: packs[fr.Pack], offset: p.offset, length: p.length}
		fr.Pack = 0
		at.frame = fr
		return at
	}
	frame := func(at auditPlace) *auditFrame {
		f := at.pack.frames[at.frame]
		if f == nil {
			f = &auditFrame{}
			at.pack.frames[at.frame] = f
		}
		return f
	}
	for _, f := range s.Layout.frames { // also those that nothing is wanted of
		n := f.Pack
		f.Pack = 0
		named := frame(auditPlace{pack: packs[n], frame: f})
		named.users = append(named.users, s)
	}
	add := func(file release.File, pieces []piece, key string) {
		var at []auditPlace
		key += file.Digest.Hex()
		for _, p := range pieces {
			where := place(p)
			at = append(at, where)
			key += fmt.Sprintf(" %p %+v %d %d", where.pack, where.frame, where.offset, where.length)
		}
		c := a.contents[key]
		if c == nil {
			c = &auditContent{file: file, at: at}
			a.contents[key] = c
			for i, where := range at {
				f := frame(where)
				f.pieces = append(f.pieces, auditPiece{c, i})
			}
		}
		if !slices.Contains(c.users, s) {
			c.users = append(c.users, s)
		}
	}
	for _, file := range contents(s.Manifest) {
		derived, key := s.Layout.derived(file.Digest), ""
		if derived { // it is its layout that leads to it
			key = string(s.Manifest.ID()) + " "
		}
		add(file, s.Layout.places[file.Digest], key)
		for _, d := range s.Layout.deltas[file.Digest] {
			f := frame(place(d.piece))
			f.deltas = append(f.deltas, auditDelta{s, file, d})
			a.useful[contentOf{s, file.Digest}] = true
			if based := s.Layout.based[d.old.Digest]; derived && len(based) > 0 {
				add(release.File{Path: "an old version of " + file.Path, Digest: d.old.Digest, Size: d.old.Size}, based, "")
			}
		}
	}
}

// use is the pack that a layout refers to. Layouts that differ about its size
// cannot both be right; the pack's own name decides.
func (a *audit) use(ref packRef, s *Stored) *auditPack {
	p := a.packs[ref.Digest]
	if p == nil {
		p = &auditPack{ref: ref, order: len(a.packs), frames: map[frameRef]*auditFrame{}}
		a.packs[ref.Digest] = p
		a.all += ref.Size
	} else if p.ref.Size != ref.Size {
		a.say(layoutKey(a.site, s.Manifest.ID()), "it says that %s has %d bytes, others say %d", packKey(ref.Digest), ref.Size, p.ref.Size)
	}
	p.users = append(p.users, s)
	return p
}

// pack reads a pack and looks at all that is in it.
func (a *audit) pack(ctx context.Context, p *auditPack) error {
	key := packKey(p.ref.Digest)
	body, err := a.body(ctx, key, p.ref.Size)
	wrong, err := a.wrong(key, err)
	if err != nil {
		return err
	}
	if wrong {
		p.bad = true
		a.lose(p, nil)
		return nil
	}
	a.mu.Lock()
	a.result.Packs++
	a.result.Bytes += int64(len(body))
	a.mu.Unlock()
	sum := release.Sum(body)
	if p.bad = sum != p.ref.Digest; p.bad {
		a.misnamed(key, sum, int64(len(body)), p.ref.Size)
	}
	decoded := a.footer(p, key, body)
	for fr, f := range p.frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if decoded[fr] {
			continue
		}
		raw, err := frameOf(body, fr)
		if err != nil && !p.bad {
			for _, s := range f.users { // the pack is what its name says
				a.say(layoutKey(a.site, s.Manifest.ID()), "it names a frame at %d of %s that is none", fr.Offset, key)
			}
		}
		a.frame(p, f, raw, err)
	}
	return nil
}

// body reads a whole pack, or as much of it as there is.
func (a *audit) body(ctx context.Context, key string, size int64) ([]byte, error) {
	r, err := a.s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err = b.ReadFrom(io.LimitReader(&counting{r, a}, maxObject+1))
	if err != nil && !ended(err) { // one that ends early is looked at as it is
		return nil, err
	}
	return b.Bytes(), nil
}

// counting tells how much has been read.
type counting struct {
	r io.Reader
	a *audit
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.a.mu.Lock()
	c.a.read += int64(n)
	read := c.a.read
	c.a.mu.Unlock()
	if c.a.o.Progress != nil && n > 0 {
		c.a.o.Progress(min(read, c.a.all), c.a.all)
	}
	return n, err
}

func (a *audit) misnamed(key string, sum release.Digest, got, want int64) {
	switch other := a.packs[sum]; {
	case other != nil:
		a.say(key, "it holds the bytes of %s", packKey(sum))
	case got != want:
		a.say(key, "it has %d bytes instead of %d", got, want)
	default:
		a.say(key, "its bytes are not those that its name is the digest of")
	}
}

// footer decodes what the pack itself says that is in it, and returns which
// frames it has looked at.
func (a *audit) footer(p *auditPack, key string, body []byte) map[frameRef]bool {
	done := map[frameRef]bool{}
	idx, err := readPackIndex(body)
	if err != nil {
		a.say(key, "%v", err)
		return done
	}
	for i, f := range idx.Frames {
		fr := frameRef{Offset: f.Offset, Size: f.Size, Raw: f.Raw, Zstd: f.Zstd}
		done[fr] = true
		raw, err := frameOf(body, fr)
		if err != nil {
			a.say(key, "frame %d: %v", i, err)
		}
		wanted := p.frames[fr]
		if wanted == nil { // of a release that is not looked at
			wanted = &auditFrame{}
		}
		a.frame(p, wanted, raw, err)
	}
	return done
}

func frameOf(body []byte, fr frameRef) ([]byte, error) {
	if fr.Offset+fr.Size > int64(len(body)) {
		return nil, fmt.Errorf("%w: the pack ends before it does", errFrame)
	}
	return unpackFrame(nil, body[fr.Offset:fr.Offset+fr.Size], fr.Zstd, fr.Raw)
}

// frame compares what is wanted of a frame with what is in it.
func (a *audit) frame(p *auditPack, f *auditFrame, raw []byte, err error) {
	if err != nil {
		a.lose(p, f)
		return
	}
	a.mu.Lock()
	a.result.Frames++
	a.mu.Unlock()
	for _, q := range f.pieces {
		c, at := q.of, q.of.at[q.i]
		part := raw[at.offset : at.offset+at.length]
		switch {
		case len(c.at) == 1:
			a.finish(c, release.Sum(part) == c.file.Digest)
		case q.i == c.next:
			if c.sum == nil {
				c.sum = sha256.New()
			}
			c.sum.Write(part)
			if c.next++; c.next == len(c.at) {
				a.finish(c, sameSum(c.sum, c.file.Digest))
				c.sum = nil
			}
		}
	}
	for _, d := range f.deltas {
		if _, err := applyDelta(nil, raw[d.d.offset:d.d.offset+d.d.length], make([]byte, d.d.span), d.d.size); err != nil {
			a.say(packKey(p.ref.Digest), "a delta of %s: %v", d.file.Path, err)
			a.useless(p, d)
		}
	}
}

// finish notes what came of a content.
func (a *audit) finish(c *auditContent, right bool) {
	a.mu.Lock()
	a.result.Contents++
	if right && a.good[c.file.Digest] == nil {
		a.good[c.file.Digest] = c
	}
	a.mu.Unlock()
	c.done = true
	if right || c.wrong {
		return
	}
	for _, at := range c.at {
		if at.pack.bad {
			a.spoiled(packKey(at.pack.ref.Digest), c)
		}
	}
	if c.wrong {
		return
	}
	// All of it comes from packs that are what their names say.
	for _, s := range c.users {
		a.say(layoutKey(a.site, s.Manifest.ID()), "%s is not where it says", c.file.Path)
	}
	a.spoiled("", c)
}

// lose notes that nothing can be had of a frame, or, without one, of a pack.
func (a *audit) lose(p *auditPack, f *auditFrame) {
	if f == nil {
		for _, f := range p.frames {
			a.lose(p, f)
		}
		return
	}
	for _, q := range f.pieces {
		key := packKey(p.ref.Digest)
		if !p.bad { // it is the layout that names a frame which there is not
			key = ""
		}
		a.spoiled(key, q.of)
	}
	for _, d := range f.deltas {
		a.useless(p, d)
	}
}

// spoiled notes that a content cannot be had because of an object; without one,
// because of the layouts of those who use it.
func (a *audit) spoiled(key string, c *auditContent) {
	c.wrong = true
	for _, s := range c.users {
		at := key
		if at == "" {
			at = layoutKey(a.site, s.Manifest.ID())
		}
		a.spoil(at, s, c.file.Digest)
	}
}

// spoil names the files of a release that have a content.
func (a *audit) spoil(key string, s *Stored, d release.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.fault(key).need(s.Manifest.ID())
	a.lost[contentOf{s, d}] = true
	for _, f := range s.Manifest.Files {
		if f.Digest == d {
			n.Files = append(n.Files, f.Path)
		}
	}
}

// useless names a file whose delta cannot be used. It is lost where there is
// nothing else to make it from.
func (a *audit) useless(p *auditPack, d auditDelta) {
	if d.of.Layout.derived(d.file.Digest) {
		a.spoil(packKey(p.ref.Digest), d.of, d.file.Digest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.fault(packKey(p.ref.Digest)).need(d.of.Manifest.ID())
	n.Deltas = append(n.Deltas, d.file.Path)
	a.useful[contentOf{d.of, d.file.Digest}] = false
}

// again reads contents of several pieces that did not come in their order, as
// no publisher writes them, and makes those that only deltas make. Empty ones
// have nothing to come by.
func (a *audit) again(ctx context.Context) error {
	for _, c := range a.contents {
		s := c.users[0]
		if c.done || c.wrong || a.lost[contentOf{s, c.file.Digest}] {
			continue
		}
		if c.file.Size == 0 {
			a.finish(c, c.file.Digest == release.Sum(nil))
			continue
		}
		err := Fetch(ctx, a.s, s, []release.File{c.file}, FetchOptions{Workers: 1}, func(_ release.File, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err != nil && s.Layout.derived(c.file.Digest) {
			c.done = true
			a.notMade(s, c.file)
			continue
		}
		a.finish(c, err == nil)
	}
	return nil
}

// notMade notes that a content cannot be made by its deltas: because the old
// one is in a pack that is not right, or else because of the deltas.
func (a *audit) notMade(s *Stored, file release.File) {
	packOf := func(p piece) *auditPack { return a.packs[s.Layout.packs[s.Layout.frames[p.frame].Pack].Digest] }
	blamed := false
	for _, d := range s.Layout.deltas[file.Digest] {
		for _, p := range append([]piece{d.piece}, s.Layout.based[d.old.Digest]...) {
			if pack := packOf(p); pack.bad {
				a.spoil(packKey(pack.ref.Digest), s, file.Digest)
				blamed = true
			}
		}
	}
	if !blamed {
		key := packKey(packOf(s.Layout.deltas[file.Digest][0].piece).ref.Digest)
		a.say(key, "a delta does not make %s of %s", file.Path, s.Manifest.ID())
		a.spoil(key, s, file.Digest)
	}
}
