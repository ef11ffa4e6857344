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
	"time"

	"relman/release"
)

// swept is a store with two releases, of which the first may go. Two packs of
// it are mostly dead then, and one wholly.
type swept struct {
	*Memory
	t           *testing.T
	first, last *Stored
	files       map[string]string // of the last
}

var sweptOnce = sync.OnceValue(func() *swept { return &swept{} })

const sweptGrace = 24 * time.Hour

func newSwept(t *testing.T) *swept {
	t.Helper()
	made := sweptOnce()
	if made.Memory == nil {
		s := &swept{Memory: NewMemory(), files: map[string]string{}}
		old := map[string]string{}
		for i := range uint64(9) {
			old[fmt.Sprintf("%d.bin", i)] = noise(i, 3<<20)
		}
		_, s.first = publish(t, s.Memory, nil, 1, write(t, old))
		s.files = map[string]string{"0.bin": old["0.bin"], "4.bin": old["4.bin"], "new.html": page(1, "new"), "new.bin": noise(20, 5<<20)}
		_, s.last = publish(t, s.Memory, s.first, 2, write(t, s.files))
		*made = *s
	}
	c := *made
	c.t, c.Memory = t, &Memory{objects: maps.Clone(made.objects)}
	return &c
}

func (s *swept) kept(all ...*Stored) (keep []KeptRelease) {
	for _, r := range all {
		keep = append(keep, KeptRelease{"www", r.Manifest.ID(), r.Manifest.Digest()})
	}
	return keep
}

// later is when all that is in the store is older than the grace.
func later() SweepOptions {
	return SweepOptions{Grace: sweptGrace, Now: time.Now().Add(2 * sweptGrace)}
}

func (s *swept) survey(o SweepOptions, keep ...*Stored) *SweepPlan {
	s.t.Helper()
	p, err := SurveySweep(s.t.Context(), s.Memory, s.kept(keep...), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func holds(context.Context) error { return nil }

func (s *swept) run(p *SweepPlan) SweepStats {
	s.t.Helper()
	stats, err := p.Run(s.t.Context(), s.Memory, holds)
	if err != nil {
		s.t.Fatal(err)
	}
	return stats
}

func (s *swept) keys(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.objects)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

func fates(p *SweepPlan) map[PackFate]int {
	n := map[PackFate]int{}
	for _, k := range p.Packs {
		n[k.Fate]++
	}
	return n
}

// reload is what a node does that begins now.
func (s *swept) reload(r *Stored) *Stored {
	s.t.Helper()
	now, err := Load(s.t.Context(), s.Memory, "www", r.Manifest.ID(), r.Manifest.Digest())
	if err != nil {
		s.t.Fatal(err)
	}
	return now
}

func TestSweep(t *testing.T) {
	s := newSwept(t)
	foreign := []string{"packs/readme.txt", "packs/00/other.pack", "sites/www/notes", "sites/www/releases/x/layout.zst", "backup"}
	for _, k := range foreign {
		if err := s.Put(t.Context(), k, []byte("not relman's"), true); err != nil {
			t.Fatal(err)
		}
	}
	before := s.survey(SweepOptions{Grace: sweptGrace, Now: time.Now()}, s.last)
	if n := fates(before); n[PackDelete]+n[PackRepack] > 0 || n[PackYoung] != 1 || len(before.Objects) != 0 {
		t.Errorf("all is young: %v, objects %v", n, before.Objects)
	}
	manifest := s.objects[manifestKey("www", s.last.Manifest.ID())].body

	p := s.survey(later(), s.last)
	if n := fates(p); n[PackDelete] != 1 || n[PackRepack] != 2 || n[PackKeep] == 0 {
		t.Fatalf("the plan: %v", n)
	}
	if !slices.Equal(p.Sites, []release.Site{"www"}) {
		t.Errorf("sites %v", p.Sites)
	}
	if len(p.Objects) != 2 || !strings.HasSuffix(p.Objects[0].Key, layoutName) {
		t.Errorf("objects that go: %+v", p.Objects)
	}
	packs := len(s.keys("packs/"))
	stats := s.run(p)
	if stats.DeletedObjects != 3 || stats.RepackedPacks != 2 || stats.WrittenBytes == 0 || stats.Checked == 0 {
		t.Errorf("it did %+v", stats)
	}
	if got := len(s.keys("packs/")); got != packs-1+1 {
		t.Errorf("%d packs after it, there were %d, one is deleted and one made", got, packs)
	}
	wantContents(t, s, s.last, s.files) // by the layout of before: the packs are still there
	now := s.reload(s.last)
	wantContents(t, s, now, s.files)
	if !bytes.Equal(s.objects[manifestKey("www", s.last.Manifest.ID())].body, manifest) {
		t.Error("the manifest changed")
	}

	again := s.survey(later(), s.last)
	if n := fates(again); n[PackDelete] != 2 || n[PackRepack] != 0 {
		t.Errorf("the next plan: %v", n)
	}
	s.run(again)
	if n := fates(s.survey(later(), s.last)); n[PackKeep] != len(s.keys("packs/"))-2 {
		t.Errorf("in the end: %v", n)
	}
	wantContents(t, s, s.reload(s.last), s.files)
	for _, k := range foreign {
		if _, ok := s.objects[k]; !ok {
			t.Errorf("%s is gone", k)
		}
	}
	if r, err := Audit(t.Context(), s, "www", []Kept{{s.last.Manifest.ID(), s.last.Manifest.Digest()}}, AuditOptions{}); err != nil || len(r.Faults) > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
}

func TestSweep_keepsAll(t *testing.T) {
	s := newSwept(t)
	p := s.survey(later(), s.first, s.last)
	if n := fates(p); n[PackKeep] != len(p.Packs) || len(p.Objects) > 0 {
		t.Errorf("the plan: %v, %v", n, p.Objects)
	}
	before := s.keys("")
	s.run(p)
	if !slices.Equal(s.keys(""), before) {
		t.Error("something changed")
	}
}

// TestSweep_refuses: nothing is deleted on a guess.
func TestSweep_refuses(t *testing.T) {
	for _, name := range []string{manifestName, layoutName} {
		s := newSwept(t)
		if err := s.Delete(t.Context(), releasePrefix("www", s.last.Manifest.ID())+name); err != nil {
			t.Fatal(err)
		}
		_, err := SurveySweep(t.Context(), s, s.kept(s.last), later())
		if !errors.Is(err, ErrNotFound) || !strings.Contains(fmt.Sprint(err), string(s.last.Manifest.ID())) {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
}

// breaking is a store that fails at one of its calls.
type breaking struct {
	Store
	mu    sync.Mutex
	calls int
	at    int // 0: never
}

var errBroken = errors.New("broken")

func (b *breaking) call() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls++; b.calls == b.at {
		return errBroken
	}
	return nil
}

func (b *breaking) Put(ctx context.Context, key string, body []byte, create bool) error {
	if err := b.call(); err != nil {
		return err
	}
	return b.Store.Put(ctx, key, body, create)
}

func (b *breaking) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := b.call(); err != nil {
		return nil, err
	}
	return b.Store.Get(ctx, key, offset, length)
}

func (b *breaking) List(ctx context.Context, prefix string, each func(Info) error) error {
	if err := b.call(); err != nil {
		return err
	}
	return b.Store.List(ctx, prefix, each)
}

func (b *breaking) Delete(ctx context.Context, key string) error {
	if err := b.call(); err != nil {
		return err
	}
	return b.Store.Delete(ctx, key)
}

// TestSweep_cutOffAnywhere: wherever it stops, what is kept can be read, and the
// next sweeps end where an undisturbed one does.
func TestSweep_cutOffAnywhere(t *testing.T) {
	whole := newSwept(t)
	b := &breaking{Store: whole.Memory}
	if _, err := whole.survey(later(), whole.last).Run(t.Context(), b, holds); err != nil {
		t.Fatal(err)
	}
	whole.run(whole.survey(later(), whole.last))
	for at := range b.calls {
		s := newSwept(t)
		if _, err := s.survey(later(), s.last).Run(t.Context(), &breaking{Store: s.Memory, at: at + 1}, holds); !errors.Is(err, errBroken) {
			t.Fatalf("broken at %d: %v", at, err)
		}
		wantContents(t, s, s.last, s.files)
		wantContents(t, s, s.reload(s.last), s.files)
		for range 2 {
			s.run(s.survey(later(), s.last))
		}
		if got, want := s.keys(""), whole.keys(""); !slices.Equal(got, want) {
			t.Errorf("broken at %d: %d objects in the end, want %d", at, len(got), len(want))
		}
		wantContents(t, s, s.reload(s.last), s.files)
	}
	t.Logf("broken at each of %d calls", b.calls)
}

// TestSweep_lost: nothing is changed by whoever does not own the sweep any more.
func TestSweep_lost(t *testing.T) {
	s := newSwept(t)
	layout := s.objects[layoutKey("www", s.last.Manifest.ID())].body
	before := s.keys("sites/")
	lost := errors.New("lost")
	if _, err := s.survey(later(), s.last).Run(t.Context(), s, func(context.Context) error { return lost }); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if !slices.Equal(s.keys("sites/"), before) || !bytes.Equal(s.objects[layoutKey("www", s.last.Manifest.ID())].body, layout) {
		t.Error("something was changed")
	}
	wantContents(t, s, s.reload(s.last), s.files)
}

// TestHolder: an answer is believed for a while, and what follows from it ends
// in time.
func TestHolder(t *testing.T) {
	asked := 0
	h := holder{hold: func(context.Context) error { asked++; return nil }}
	for range 3 {
		if err := h.change(t.Context(), func(ctx context.Context) error {
			if end, ok := ctx.Deadline(); !ok || time.Until(end) > mostLate {
				t.Errorf("it may last until %v", end)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	h.at = time.Now().Add(-holdFor)
	if _, err := h.ask(t.Context()); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// TestSweep_damagedPack: what is not as it was published is left alone, and so
// is what needs it.
func TestSweep_damagedPack(t *testing.T) {
	s := newSwept(t)
	p := s.survey(later(), s.last)
	for _, k := range p.Packs {
		if k.Fate == PackRepack {
			o := s.objects[k.Key]
			o.body = bytes.Clone(o.body)
			o.body[0] ^= 1
			s.objects[k.Key] = o
		}
	}
	stats := s.run(p)
	if stats.RepackedPacks != 0 || stats.WrittenBytes != 0 || stats.DeletedObjects != 3 {
		t.Errorf("it did %+v", stats)
	}
	if _, err := fetched(t.Context(), s, s.reload(s.last)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the damage does not show any more: %v", err)
	}
}

// TestSweep_missingPack: a loss of before does not keep a sweep from being done,
// one that comes with it is an error.
func TestSweep_missingPack(t *testing.T) {
	s := newSwept(t)
	key := packKey(s.last.Layout.packs[0].Digest)
	body := s.objects[key]
	p := s.survey(later(), s.last)
	delete(s.objects, key)
	if _, err := p.Run(t.Context(), s, holds); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("lost meanwhile: %v", err)
	}
	s.objects[key] = body
	s = newSwept(t)
	delete(s.objects, key)
	if stats := s.run(s.survey(later(), s.last)); stats.DeletedObjects == 0 {
		t.Errorf("lost before: %+v", stats)
	}
	s = newSwept(t)
	s.objects[key] = memoryObject{body.body[:100], body.modified}
	if stats := s.run(s.survey(later(), s.last)); stats.DeletedObjects == 0 {
		t.Errorf("cut short before: %+v", stats)
	}
}

// TestSweep_large: parts of large files and deltas are moved as well.
func TestSweep_large(t *testing.T) {
	st := &swept{Memory: NewMemory(), t: t}
	old, new := versions()
	for i := range uint64(6) {
		old[fmt.Sprintf("dead-%d.bin", i)] = noise(500+i, 3<<20)
	}
	_, first := publish(t, st, nil, 1, write(t, old))
	_, second := publish(t, st, first, 2, write(t, new))
	if !second.Layout.derived(release.Sum([]byte(new["big.bin"]))) {
		t.Fatal("big.bin is not stored as deltas alone")
	}
	repacked := 0
	for range 3 {
		stats := st.run(st.survey(later(), second))
		repacked += stats.RepackedPacks
		wantContents(t, st, st.reload(second), new)
		h := hold(old)
		var mu sync.Mutex
		got := map[release.Digest]bool{}
		now := st.reload(second)
		err := Fetch(t.Context(), st, now, contents(now.Manifest), FetchOptions{Old: h, Failed: func(f release.File, err error) { t.Errorf("delta of %s: %v", f.Path, err) }}, func(f release.File, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			mu.Lock()
			defer mu.Unlock()
			got[f.Digest] = true
			return err
		})
		if err != nil || len(got) != len(contents(now.Manifest)) {
			t.Errorf("with the old version: %d contents, %v", len(got), err)
		}
	}
	if repacked == 0 {
		t.Error("nothing was repacked")
	}
}

func BenchmarkSurvey(b *testing.B) {
	st := NewMemory()
	var keep []KeptRelease
	var base *Stored
	files := map[string]string{}
	for i := range 10_000 {
		files[fmt.Sprintf("%d/%d.html", i%100, i)] = fmt.Sprintf("<p>%d</p>", i)
	}
	for seq := range uint64(10) {
		files[fmt.Sprintf("0/%d.html", seq)] = fmt.Sprint("changed in ", seq)
		_, s := publish(b, st, base, seq+1, write(b, files))
		base = s
		keep = append(keep, KeptRelease{"www", s.Manifest.ID(), s.Manifest.Digest()})
	}
	for b.Loop() {
		if _, err := SurveySweep(b.Context(), st, keep, later()); err != nil {
			b.Fatal(err)
		}
	}
}
