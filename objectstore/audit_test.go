package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"relman/release"
)

// audited is a store with two versions of a build, the second with deltas.
type audited struct {
	t      *testing.T
	m      *Memory
	olds   *Stored
	news   *Stored
	kept   []Kept
	deltas map[release.Digest]bool // packs of which the layouts use only deltas
}

// twoVersions are published once; every test has a copy to damage.
var twoVersions = struct {
	sync.Mutex
	m    *Memory
	kept []Kept
}{}

func newAudited(t *testing.T) *audited {
	t.Helper()
	twoVersions.Lock()
	defer twoVersions.Unlock()
	if twoVersions.m == nil {
		old, new := versions()
		for _, files := range []map[string]string{old, new} { // a few are enough
			maps.DeleteFunc(files, func(p, _ string) bool { return strings.HasPrefix(p, "pages/") && p[len("pages/")] > 'f' })
		}
		m := NewMemory()
		_, first := publish(t, m, nil, 1, write(t, old))
		_, second := publish(t, m, first, 2, write(t, new))
		twoVersions.m = m
		for _, s := range []*Stored{first, second} {
			twoVersions.kept = append(twoVersions.kept, Kept{s.Manifest.ID(), s.Manifest.Digest()})
		}
	}
	a := &audited{t: t, m: &Memory{objects: maps.Clone(twoVersions.m.objects)}, kept: twoVersions.kept, deltas: map[release.Digest]bool{}}
	for i, to := range []**Stored{&a.olds, &a.news} {
		var err error
		if *to, err = Load(t.Context(), a.m, "www", a.kept[i].ID, a.kept[i].Manifest); err != nil {
			t.Fatal(err)
		}
	}
	for _, all := range a.news.Layout.deltas {
		for _, d := range all {
			a.deltas[a.packOf(a.news, d.piece)] = true
		}
	}
	if len(a.deltas) == 0 {
		t.Fatal("there are no deltas")
	}
	return a
}

func (a *audited) packOf(s *Stored, p piece) release.Digest {
	return s.Layout.packs[s.Layout.frames[p.frame].Pack].Digest
}

// place is where the first piece of a file is.
func (a *audited) place(s *Stored, path string) (pack release.Digest, frame frameRef) {
	a.t.Helper()
	f, ok := s.Manifest.Lookup(path)
	if !ok {
		a.t.Fatal(path)
	}
	p := s.Layout.places[f.Digest][0]
	return a.packOf(s, p), s.Layout.frames[p.frame]
}

// set puts other bytes under a key, as nobody but a fault could.
func (a *audited) set(key string, change func([]byte) []byte) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	o := a.m.objects[key]
	o.body = change(bytes.Clone(o.body))
	a.m.objects[key] = o
}

func (a *audited) audit() *Audited {
	a.t.Helper()
	r, err := Audit(a.t.Context(), a.m, "www", a.kept, AuditOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

// one is the only fault: of a key, with these words, for files that are lost
// and files that are not.
func (a *audited) one(r *Audited, key, what string) Fault {
	a.t.Helper()
	if len(r.Faults) != 1 || r.Faults[0].Key != key || !strings.Contains(strings.Join(r.Faults[0].What, "; "), what) {
		a.t.Fatalf("faults %+v, want one of %s: %s", r.Faults, key, what)
	}
	return r.Faults[0]
}

// lost compares what a fault says that is lost with what cannot be fetched.
func (a *audited) lost(faults ...Fault) (n int) {
	a.t.Helper()
	for _, s := range []*Stored{a.olds, a.news} {
		said := map[string]bool{}
		for _, f := range faults {
			for _, need := range f.Needs {
				if need.Release == s.Manifest.ID() {
					for _, p := range need.Files {
						said[p] = true
					}
				}
			}
		}
		for _, file := range s.Manifest.Files {
			err := Fetch(a.t.Context(), a.m, s, []release.File{file}, FetchOptions{}, func(_ release.File, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if (err != nil) != said[file.Path] {
				a.t.Errorf("%s of %s: fetch: %v, said to be lost: %v", file.Path, s.Manifest.ID(), err, said[file.Path])
			}
		}
		n += len(said)
	}
	return n
}

// TestAudit_clean: nothing is wrong, and everything was looked at, once.
func TestAudit_clean(t *testing.T) {
	a := newAudited(t)
	seen := &whichGets{Store: a.m, whole: map[string]int{}}
	var mu sync.Mutex
	var last, all int64
	r, err := Audit(t.Context(), seen, "www", a.kept, AuditOptions{Progress: func(n, of int64) {
		mu.Lock()
		defer mu.Unlock()
		last, all = max(last, n), of
	}})
	if err != nil {
		t.Fatal(err)
	}
	packs, frames, bytes := 0, 0, int64(0)
	for key, o := range a.m.objects {
		if !strings.HasPrefix(key, "packs/") {
			continue
		}
		idx, err := readPackIndex(o.body)
		if err != nil {
			t.Fatal(err)
		}
		packs, frames, bytes = packs+1, frames+len(idx.Frames), bytes+int64(len(o.body))
	}
	contentsOfBoth := map[release.Digest]bool{}
	for _, s := range []*Stored{a.olds, a.news} {
		for _, f := range s.Manifest.Files {
			contentsOfBoth[f.Digest] = true
		}
	}
	want := Audited{
		Releases: 2, Packs: packs, Bytes: bytes, Frames: frames, Contents: len(contentsOfBoth),
		Files:  len(a.olds.Manifest.Files) + len(a.news.Manifest.Files),
		Deltas: len(a.news.Layout.deltas), Made: len(a.news.Layout.deltas), Faults: []Fault{},
	}
	if fmt.Sprint(*r) != fmt.Sprint(want) {
		t.Errorf("got %+v\nwant %+v", *r, want)
	}
	if last != bytes || all != bytes {
		t.Errorf("progress ended at %d of %d, packs have %d", last, all, bytes)
	}
	for key, n := range seen.whole {
		if n != 1 {
			t.Errorf("%s was read %d times", key, n)
		}
	}
}

// whichGets counts how often objects were read as a whole.
type whichGets struct {
	Store
	mu    sync.Mutex
	whole map[string]int
}

func (g *whichGets) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if length < 0 {
		g.mu.Lock()
		g.whole[key]++
		g.mu.Unlock()
	}
	return g.Store.Get(ctx, key, offset, length)
}

// TestAudit_odd: so are contents at the edges of frames and packs.
func TestAudit_odd(t *testing.T) {
	m := NewMemory()
	_, s := publish(t, m, nil, 1, write(t, odd()))
	r, err := Audit(t.Context(), m, "www", []Kept{{s.Manifest.ID(), s.Manifest.Digest()}}, AuditOptions{})
	if err != nil || len(r.Faults) != 0 || r.Files != len(odd()) || r.Contents != len(contents(s.Manifest)) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAudit_missingPack(t *testing.T) {
	a := newAudited(t)
	pack, _ := a.place(a.olds, "same.html")
	if err := a.m.Delete(t.Context(), packKey(pack)); err != nil {
		t.Fatal(err)
	}
	f := a.one(a.audit(), packKey(pack), "")
	if !f.Missing || len(f.Needs) != 2 || a.lost(f) == 0 {
		t.Errorf("%+v", f)
	}
}

// TestAudit_flippedByte: wherever in whatever pack it is, the pack is named, and
// of the files those that come out wrong, no others.
func TestAudit_flippedByte(t *testing.T) {
	a := newAudited(t)
	for key, o := range a.m.objects {
		if !strings.HasPrefix(key, "packs/") {
			continue
		}
		whole := o.body
		for _, at := range []int{0, len(whole) / 2, len(whole) - packTrailer - 1} {
			a.set(key, func(b []byte) []byte { b[at] ^= 0x40; return b })
			f := a.one(a.audit(), key, "its bytes are not those that its name is the digest of")
			if f.Missing {
				t.Errorf("%+v", f)
			}
			a.lost(f)
			a.set(key, func([]byte) []byte { return whole })
		}
	}
	if r := a.audit(); len(r.Faults) != 0 {
		t.Errorf("%+v", r.Faults)
	}
}

func TestAudit_truncatedPack(t *testing.T) {
	for name, keep := range map[string]func(int) int{
		"to nothing": func(int) int { return 0 },
		"by half":    func(n int) int { return n / 2 },
		"by a byte":  func(n int) int { return n - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			pack, _ := a.place(a.olds, "same.html")
			a.set(packKey(pack), func(b []byte) []byte { return b[:keep(len(b))] })
			a.lost(a.one(a.audit(), packKey(pack), "bytes instead of"))
		})
	}
}

func TestAudit_swappedPacks(t *testing.T) {
	a := newAudited(t)
	one, _ := a.place(a.olds, "same.html")
	two, _ := a.place(a.news, "pages/a/a.html")
	if one == two {
		t.Fatal("they are one pack")
	}
	first, second := a.m.objects[packKey(one)].body, a.m.objects[packKey(two)].body
	a.set(packKey(one), func([]byte) []byte { return second })
	a.set(packKey(two), func([]byte) []byte { return first })
	r := a.audit()
	if len(r.Faults) != 2 {
		t.Fatalf("%+v", r.Faults)
	}
	for _, f := range r.Faults {
		other := one
		if f.Key == packKey(one) {
			other = two
		}
		if !slices.Contains(f.What, "it holds the bytes of "+packKey(other)) {
			t.Errorf("%+v", f)
		}
	}
	if a.lost(r.Faults...) == 0 {
		t.Error("nothing is lost")
	}
}

// rewritten is the layout of a release with a change.
func (a *audited) rewritten(s *Stored, change func(*Layout)) {
	a.t.Helper()
	change(s.Layout)
	raw, err := s.Layout.encode(s.Manifest)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := putCompressed(a.t.Context(), a.m, layoutKey("www", s.Manifest.ID()), raw, false); err != nil {
		a.t.Fatal(err)
	}
}

func TestAudit_damagedLayout(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*audited, string)
		what   string
	}{
		"not zstd": {func(a *audited, key string) { a.set(key, func(b []byte) []byte { b[0] ^= 1; return b }) }, "corrupt"},
		"cut":      {func(a *audited, key string) { a.set(key, func(b []byte) []byte { return b[:len(b)/2] }) }, "corrupt"},
		"missing": {func(a *audited, key string) {
			if err := a.m.Delete(a.t.Context(), key); err != nil {
				a.t.Fatal(err)
			}
		}, ""},
		"of another release": {func(a *audited, key string) {
			a.set(key, func([]byte) []byte { return a.m.objects[layoutKey("www", a.olds.Manifest.ID())].body })
		}, "another tree"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			key := layoutKey("www", a.news.Manifest.ID())
			c.damage(a, key)
			f := a.one(a.audit(), key, c.what)
			if len(f.Needs) != 1 || len(f.Needs[0].Files) != len(a.news.Manifest.Files) || f.Missing != (name == "missing") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestAudit_lyingLayout: one that can be read and leads to other bytes, or to
// no frame at all, is named, not the packs.
func TestAudit_lyingLayout(t *testing.T) {
	for name, lie := range map[string]func(*audited, *Layout){
		"other bytes": func(a *audited, l *Layout) {
			f, _ := a.olds.Manifest.Lookup("same.html")
			p := &l.places[f.Digest][0]
			p.offset--
		},
		"no frame": func(a *audited, l *Layout) {
			f, _ := a.olds.Manifest.Lookup("same.html")
			l.frames[l.places[f.Digest][0].frame].Size--
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			a.rewritten(a.olds, func(l *Layout) { lie(a, l) })
			f := a.one(a.audit(), layoutKey("www", a.olds.Manifest.ID()), "")
			if a.lost(f) == 0 || len(f.Needs) != 1 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestAudit_outOfOrder: pieces that do not lie in their order are as good.
func TestAudit_outOfOrder(t *testing.T) {
	m := NewMemory()
	dir := write(t, map[string]string{"a.bin": noise(1, 3*maxFrame), "b.bin": noise(2, 3*maxFrame)})
	_, s := publish(t, m, nil, 1, dir)
	// Two contents that want each other's packs first: no order suits both.
	l := s.Layout
	p, q := l.places[s.Manifest.Files[0].Digest], l.places[s.Manifest.Files[1].Digest]
	tail := func(x []piece) piece { return x[len(x)-1] }
	mixed := release.Sum([]byte(noise(2, 3*maxFrame)[2*maxFrame:] + noise(1, maxFrame)))
	s.Manifest.Files = append(s.Manifest.Files, release.File{Path: "c.bin", Digest: mixed, Size: 2 * maxFrame})
	l.places[mixed] = []piece{tail(q), p[0]}
	au := &audit{
		s: m, site: "www", faults: map[string]*Fault{}, packs: map[release.Digest]*auditPack{}, contents: map[string]*auditContent{},
		good: map[release.Digest]*auditContent{}, lost: map[contentOf]bool{}, useful: map[contentOf]bool{}, releases: []*Stored{s},
	}
	au.note(s)
	if err := au.readPacks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := au.report(1); len(r.Faults) != 0 || r.Contents != 3 {
		t.Errorf("%+v", r)
	}
}

func TestAudit_damagedManifest(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"not zstd":      func(b []byte) []byte { b[0] ^= 1; return b },
		"cut":           func(b []byte) []byte { return b[:len(b)/2] },
		"another":       func([]byte) []byte { z, _ := compress(nil, []byte("{}\n"), quick); return z },
		"to no bytes":   func([]byte) []byte { return nil },
		"a flipped bit": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			key := manifestKey("www", a.news.Manifest.ID())
			a.set(key, damage)
			r := a.audit()
			if f := a.one(r, key, "manifest"); len(f.Needs) != 1 || f.Needs[0].Release != a.news.Manifest.ID() {
				t.Errorf("%+v", f)
			}
			if r.Releases != 2 || r.Files != len(a.olds.Manifest.Files) || r.Packs == 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestAudit_damagedDelta: deltas are decoded, and applied. A site can do without
// them, so no file is lost.
func TestAudit_damagedDelta(t *testing.T) {
	for name, spoil := range map[string]func(delta []byte) []byte{
		"does not decode":   func(d []byte) []byte { d[0] = 0xff; return d },
		"makes other bytes": func(d []byte) []byte { d[len(d)-1] ^= 1; return d },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAudited(t)
			file, _ := a.news.Manifest.Lookup("pages/a/a.html")
			d := a.news.Layout.deltas[file.Digest][0]
			key, frame := packKey(a.packOf(a.news, d.piece)), d.frame
			// A pack as a publisher with a fault would have made it.
			body := a.m.objects[key].body
			idx, err := readPackIndex(body)
			if err != nil {
				t.Fatal(err)
			}
			b := packBuilder{}
			var made release.Digest
			for _, f := range idx.Frames {
				fr := a.news.Layout.frames[frame]
				raw, err := frameOf(body, frameRef{Offset: f.Offset, Size: f.Size, Raw: f.Raw, Zstd: f.Zstd})
				if err != nil {
					t.Fatal(err)
				}
				raw = bytes.Clone(raw)
				if f.Offset == fr.Offset {
					copy(raw[d.offset:], spoil(bytes.Clone(raw[d.offset:d.offset+d.length])))
				}
				stored, z, err := packFrame(raw, quick)
				if err != nil {
					t.Fatal(err)
				}
				b.add(builtFrame{stored: stored, raw: f.Raw, zstd: z, sizes: f.Sizes, part: f.Part, deltas: f.Deltas})
			}
			frames := b.index.Frames
			if body, made, err = b.finish(); err != nil {
				t.Fatal(err)
			}
			if err := a.m.Put(t.Context(), packKey(made), body, true); err != nil {
				t.Fatal(err)
			}
			a.rewritten(a.news, func(l *Layout) {
				k := l.frames[frame].Pack
				n := 0
				for i, f := range l.frames {
					if f.Pack == k {
						for j, old := range idx.Frames {
							if old.Offset == f.Offset {
								x := frames[j]
								l.frames[i] = frameRef{k, x.Offset, x.Size, x.Raw, x.Zstd}
								n++
							}
						}
					}
				}
				if n == 0 {
					t.Fatal("no frame")
				}
				l.packs[k] = packRef{made, int64(len(body))}
			})
			r := a.audit()
			f := a.one(r, packKey(made), "pages/a/a.html")
			if len(f.Needs) != 1 || len(f.Needs[0].Files) != 0 || !slices.Contains(f.Needs[0].Deltas, "pages/a/a.html") {
				t.Errorf("%+v", f)
			}
			if r.Made >= len(a.news.Layout.deltas) {
				t.Errorf("%+v", r)
			}
			a.lost(f)
		})
	}
}

// TestAudit_unavailable: a store that does not answer has not lost anything.
func TestAudit_unavailable(t *testing.T) {
	a := newAudited(t)
	for _, at := range []string{manifestName, layoutName, ".pack"} {
		_, err := Audit(t.Context(), &deaf{a.m, at}, "www", a.kept, AuditOptions{})
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", at, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Audit(ctx, a.m, "www", a.kept, AuditOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Audit(t.Context(), NewMemory(), "www", a.kept, AuditOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty store: %v", err)
	}
}

// deaf does not hand out some objects.
type deaf struct {
	Store
	suffix string
}

func (f *deaf) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasSuffix(key, f.suffix) {
		return nil, fmt.Errorf("get %s: %w", key, ErrUnavailable)
	}
	return f.Store.Get(ctx, key, offset, length)
}
