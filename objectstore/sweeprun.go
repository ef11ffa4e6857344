package objectstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"relman/failpoint"
	"relman/release"
)

// SweepStats say what a sweep did.
type SweepStats struct {
	DeletedObjects int   `json:"deleted_objects"`
	DeletedBytes   int64 `json:"deleted_bytes"`
	RepackedPacks  int   `json:"repacked_packs"`
	WrittenBytes   int64 `json:"written_bytes"`
	AbortedUploads int   `json:"aborted_uploads"`
	Checked        int   `json:"checked"` // packs of kept releases that were looked up at the end
	Unanswered     int   `json:"-"`       // changes that failed, and may yet take effect
}

// What a lost owner of a sweep has sent has ended mostLate after it asked last
// whether the sweep still was its own.
const (
	holdFor  = 5 * time.Second  // so long is an answer believed
	mostLate = 20 * time.Second // so long after it may a request take effect
)

const deletesAtOnce = 8

// Run does what the plan says. It can be stopped anywhere: what is kept stays
// readable, and the next sweep goes on.
//
// hold says that the sweep still is the caller's, and is asked again and again:
// a change to the store begins within 5 s of an answer and is over 20 s after
// it. The caller keeps away whoever could need what is deleted: no publisher
// begins, ends or looks at the store before the sweep has ended.
//
// A pack that was repacked is not deleted yet, since nodes may be reading it:
// the next sweep finds that nobody needs it. At the end every pack that kept
// releases need is looked up; one that is missing and was there before is an
// error that names it and them.
func (p *SweepPlan) Run(ctx context.Context, s Store, hold func(context.Context) error) (stats SweepStats, err error) {
	r := &sweepRun{p: p, s: s, holding: holder{hold: hold}, written: map[release.Digest]bool{}}
	defer func() { stats.Unanswered = int(r.holding.unanswered.Load()) }()
	for _, step := range []func(context.Context) error{r.repack, r.delete, r.abort, r.check} {
		if err := step(ctx); err != nil {
			return r.stats, err
		}
	}
	return r.stats, nil
}

type sweepRun struct {
	p       *SweepPlan
	s       Store
	holding holder
	written map[release.Digest]bool // packs that are needed from now on

	mu    sync.Mutex
	stats SweepStats // guarded by mu
}

// holder asks now and then whether the sweep still is the caller's.
type holder struct {
	hold func(context.Context) error
	mu   sync.Mutex
	at   time.Time // guarded by mu: when it was asked last

	unanswered atomic.Int64 // changes, see SweepStats
}

// change makes one change to the store, if the sweep still is the caller's. Once
// it has begun, only its own time limits it: it is not cut off when another
// change fails or the sweep stops, or it could take effect unseen.
func (h *holder) change(ctx context.Context, do func(context.Context) error) error {
	at, err := h.ask(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), at.Add(mostLate))
	defer cancel()
	if err = do(ctx); err != nil {
		h.unanswered.Add(1)
	}
	return err
}

func (h *holder) ask(ctx context.Context) (at time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < holdFor {
		return h.at, nil
	}
	at = time.Now()
	if err := h.hold(ctx); err != nil {
		return at, fmt.Errorf("hold the sweep: %w", err)
	}
	h.at = at
	return at, nil
}

// delete removes what no release needs: the objects of releases first.
func (r *sweepRun) delete(ctx context.Context) error {
	if err := r.deleteAll(ctx, r.p.Objects); err != nil {
		return err
	}
	var packs []SweepObject
	for _, k := range r.p.Packs {
		// A sweep that was cut off may have written what this one has written.
		if k.Fate == PackDelete && !r.written[k.digest] {
			packs = append(packs, SweepObject{Key: k.Key, Size: k.Size})
		}
	}
	return r.deleteAll(ctx, packs)
}

func (r *sweepRun) deleteAll(ctx context.Context, all []SweepObject) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for _, o := range all {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := r.holding.change(ctx, func(ctx context.Context) error { return r.s.Delete(ctx, o.Key) }); err != nil {
				return err
			}
			r.mu.Lock()
			r.stats.DeletedObjects++
			r.stats.DeletedBytes += o.Size
			r.mu.Unlock()
			return failpoint.Point("sweep.after-delete")
		})
	}
	return g.Wait()
}

// abort ends multipart uploads.
func (r *sweepRun) abort(ctx context.Context) error {
	for _, u := range r.p.Uploads {
		if err := r.holding.change(ctx, func(ctx context.Context) error { return abortUpload(ctx, r.s, u) }); err != nil {
			return err
		}
		r.stats.AbortedUploads++
	}
	return nil
}

// check looks up what kept releases need by now.
func (r *sweepRun) check(ctx context.Context) error {
	packs, err := listPacks(ctx, r.s)
	if err != nil {
		return err
	}
	looked := map[release.Digest]bool{}
	var lost []string
	for _, k := range r.p.keep {
		kept, err := Load(ctx, r.s, k.Site, k.ID, k.Manifest)
		if err != nil {
			return fmt.Errorf("check release %s of %s after the sweep: %w", k.ID, k.Site, err)
		}
		for _, ref := range kept.Layout.packs {
			if looked[ref.Digest] = true; (packs[ref.Digest] == nil || packs[ref.Digest].Size != ref.Size) && !r.p.missing[ref.Digest] {
				lost = append(lost, fmt.Sprintf("%s (of release %s of %s)", packKey(ref.Digest), k.ID, k.Site))
			}
		}
	}
	r.stats.Checked = len(looked)
	if len(lost) > 0 {
		return fmt.Errorf("after the sweep %d packs are not there as needed: %s; `relman verify` tells which files are concerned: %w", len(lost), strings.Join(lost[:min(len(lost), 10)], ", "), ErrNotFound)
	}
	return nil
}

// from is a frame in a pack.
type from struct {
	pack   release.Digest
	offset int64
}

// to is where a frame has been moved.
type to struct {
	pack   packRef
	offset int64
}

// repack copies what is needed out of packs that are mostly dead into new ones,
// as it is, and then rewrites the layouts that refer to it.
func (r *sweepRun) repack(ctx context.Context) error {
	m := &mover{r: r, moved: map[from]to{}, b: &packBuilder{}}
	for _, k := range r.p.Packs {
		if k.Fate != PackRepack {
			continue
		}
		if err := m.take(ctx, k); err != nil {
			return err
		}
	}
	if err := m.close(ctx); err != nil {
		return err
	}
	if len(m.moved) == 0 {
		return nil
	}
	for _, k := range r.p.keep {
		if err := m.rewrite(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// mover moves frames.
type mover struct {
	r     *sweepRun
	moved map[from]to
	b     *packBuilder
	open  []from // the frames in b
}

// take moves what is needed of a pack. One that is not what its name says is
// left alone, for whoever looks what is wrong with it.
func (m *mover) take(ctx context.Context, k SweepPack) error {
	body, err := readAll(ctx, m.r.s, k.Key, maxObject)
	if err != nil {
		return err
	}
	frames, err := neededFrames(body, k, m.r.p.live[k.digest])
	if err != nil {
		m.r.p.log.Warn("a pack is not as it was published and is left alone; relman verify tells more", "pack", k.Key, "error", err)
		return nil
	}
	for _, f := range frames {
		m.b.add(builtFrame{stored: body[f.Offset : f.Offset+f.Size], raw: f.Raw, zstd: f.Zstd, sizes: f.Sizes, part: f.Part, deltas: f.Deltas})
		m.open = append(m.open, from{k.digest, f.Offset})
		if m.b.full() {
			if err := m.close(ctx); err != nil {
				return err
			}
		}
	}
	m.r.stats.RepackedPacks++
	return nil
}

// neededFrames are the frames of a pack that releases need, in order.
func neededFrames(body []byte, k SweepPack, live map[int64]frameRef) ([]packFrameIndex, error) {
	if release.Sum(body) != k.digest {
		return nil, fmt.Errorf("%s: %w: its bytes have another digest", k.Key, ErrCorrupt)
	}
	idx, err := readPackIndex(body)
	if err != nil {
		return nil, err
	}
	var frames []packFrameIndex
	for _, f := range idx.Frames {
		ref, ok := live[f.Offset]
		if !ok {
			continue
		}
		if ref.Size != f.Size || ref.Raw != f.Raw || ref.Zstd != f.Zstd {
			return nil, fmt.Errorf("%s: %w: a layout says otherwise about the frame at %d", k.Key, ErrCorrupt, f.Offset)
		}
		frames = append(frames, f)
	}
	if len(frames) != len(live) {
		return nil, fmt.Errorf("%s: %w: layouts name %d frames, it has %d of them", k.Key, ErrCorrupt, len(live), len(frames))
	}
	return frames, nil
}

// close stores the pack that is being filled.
func (m *mover) close(ctx context.Context) error {
	if len(m.open) == 0 {
		return nil
	}
	body, digest, err := m.b.finish()
	if err != nil {
		return err
	}
	if err := m.r.s.Put(ctx, packKey(digest), body, true); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	m.r.written[digest] = true
	m.r.stats.WrittenBytes += int64(len(body))
	for i, f := range m.open {
		m.moved[f] = to{packRef{digest, int64(len(body))}, m.b.index.Frames[i].Offset}
	}
	m.b, m.open = &packBuilder{}, nil
	return failpoint.Point("sweep.after-repack-pack")
}

// rewrite makes a release's layout refer to where its frames have been moved.
func (m *mover) rewrite(ctx context.Context, k KeptRelease) error {
	kept, err := Load(ctx, m.r.s, k.Site, k.ID, k.Manifest)
	if err != nil {
		return err
	}
	l, changed := kept.Layout.relocated(m.moved)
	if !changed {
		return nil
	}
	raw, err := l.encode(kept.Manifest)
	if err == nil {
		_, err = parseLayout(raw, kept.Manifest) // what nodes will do with it
	}
	if err != nil {
		return fmt.Errorf("repack: %w", err)
	}
	if err := m.r.holding.change(ctx, func(ctx context.Context) error {
		return putCompressed(ctx, m.r.s, layoutKey(k.Site, k.ID), raw, false)
	}); err != nil {
		return err
	}
	return failpoint.Point("sweep.after-layout")
}

// relocated is a layout whose frames may be elsewhere.
func (l *Layout) relocated(moved map[from]to) (_ *Layout, changed bool) {
	out := *l
	out.packs, out.frames = slices.Clone(l.packs), slices.Clone(l.frames)
	number := map[release.Digest]int{}
	for i, f := range l.frames {
		at, ok := moved[from{l.packs[f.Pack].Digest, f.Offset}]
		if !ok {
			continue
		}
		n, ok := number[at.pack.Digest]
		if !ok {
			n = len(out.packs)
			number[at.pack.Digest] = n
			out.packs = append(out.packs, at.pack)
		}
		out.frames[i].Pack, out.frames[i].Offset, changed = n, at.offset, true
	}
	return &out, changed
}
