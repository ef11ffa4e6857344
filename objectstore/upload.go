package objectstore

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"relman/failpoint"
	"relman/release"
)

// Publisher uploads a build. A publisher that is killed leaves only objects
// that nobody refers to, and the next run finds them there.
type Publisher struct {
	Store    Store
	Site     release.Site
	Base     *Stored // the release whose contents need not be sent again; nil for none
	Distrust bool    // packs that are in the store are read, and replaced where they are damaged
	Cache    *Cache  // of digests; nil to read every file
	Workers  int     // for reading; 0: one per processor, at most 8
	Progress func(PublishProgress)
	Log      *slog.Logger // nil for none
}

// PublishProgress counts what has been done so far. It is called from several
// goroutines.
type PublishProgress struct {
	Files, AllFiles int   // read
	Bytes, AllBytes int64 // read
	Sent            int64 // bytes of packs that were not in the store yet
}

// UploadStats say what an upload came to.
type UploadStats struct {
	Files, NewFiles int
	Bytes           int64 // of all files
	NewBytes        int64 // of the contents that the base does not have
	UploadedBytes   int64 // of the packs that were not in the store yet
	Packs           int   // that hold the new contents, and deltas
	Deltas          int   // contents that nodes with the base get as a difference
	Cached          int   // files that were not read because the cache knows them
}

// Upload is a build whose contents are all in the store. It becomes a release
// with Commit.
type Upload struct {
	Stats UploadStats

	publisher *Publisher
	files     []release.File
	layout    *Layout
}

const (
	uploadsAtOnce = 3
	mostWorkers   = 8 // each has frames in memory
)

// Upload reads a build and sends what the base does not have. It is one
// pipeline: files are read, hashed, put into frames, compressed, put into
// packs and sent while later ones are still to be read, and every stage waits
// when the next one has enough. The memory that it takes does not depend on the
// size of the build, but for the list of its files.
func (p *Publisher) Upload(ctx context.Context, b *Build) (*Upload, error) {
	if err := failpoint.Point("publish.after-scan"); err != nil {
		return nil, err
	}
	w := &upload{p: p, build: b, workers: p.Workers, log: p.Log, seen: map[release.Digest]bool{}, derived: map[release.Digest]bool{}}
	if w.workers <= 0 {
		w.workers = min(runtime.GOMAXPROCS(0), mostWorkers)
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if p.Base != nil {
		w.base = p.Base.Layout
	}
	w.compressing, w.storing = make(chan struct{}, w.workers+1), make(chan struct{}, uploadsAtOnce)
	layout, err := w.send(ctx)
	if err == nil {
		err = b.stands()
	}
	if err != nil {
		return nil, err
	}
	if err := failpoint.Point("publish.after-packs"); err != nil {
		return nil, err
	}
	if p.Base != nil {
		layout = layout.merge(p.Base.Layout)
	}
	for d := range w.derived {
		for _, made := range layout.deltas[d] {
			layout.based[made.old.Digest] = layout.places[made.old.Digest]
		}
	}
	w.stats.Files, w.stats.Bytes = len(w.files), b.Bytes
	w.stats.UploadedBytes = w.sent.Load()
	return &Upload{Stats: w.stats, publisher: p, files: w.files, layout: layout}, nil
}

// upload is the state of one call of Upload.
type upload struct {
	p       *Publisher
	build   *Build
	base    *Layout // nil for none
	workers int
	log     *slog.Logger

	files []release.File
	seen  map[release.Digest]bool
	pairs []pair // contents that may become deltas
	large []pair // the same, of which nothing is in a frame yet

	derived map[release.Digest]bool // contents that have deltas only
	stats   UploadStats

	compressing, storing       chan struct{} // hold one for each frame, each pack
	readFiles, readBytes, sent atomic.Int64
	resumed                    atomic.Bool
	fresh, changed, differing  *lane
}

func (w *upload) progress() {
	if w.p.Progress != nil {
		w.p.Progress(PublishProgress{
			Files: int(w.readFiles.Load()), AllFiles: len(w.build.Files),
			Bytes: w.readBytes.Load(), AllBytes: w.build.Bytes, Sent: w.sent.Load(),
		})
	}
}

// send runs the pipeline.
func (w *upload) send(ctx context.Context) (*Layout, error) {
	w.fresh, w.changed, w.differing = w.lane(thorough), w.lane(quick), w.lane(thorough)
	lanes := []*lane{w.fresh, w.changed, w.differing}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range lanes {
		g.Go(func() error { return l.pack(ctx) })
	}
	g.Go(func() error {
		if err := w.read(ctx); err != nil {
			return err
		}
		if err := w.differLarge(ctx); err != nil {
			return err
		}
		if err := errors.Join(w.fresh.end(ctx), w.changed.end(ctx)); err != nil {
			return err
		}
		if err := w.differ(ctx); err != nil {
			return err
		}
		return w.differing.end(ctx)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	layout := newLayout(len(w.seen))
	for d := range w.seen {
		layout.places[d] = nil // an empty content has no pieces
	}
	for _, l := range lanes {
		l.layout(layout)
		w.stats.Packs += len(l.packs)
	}
	w.stats.Deltas = len(layout.deltas)
	return layout, nil
}

// read reads the build, similar files together, and puts what the base does
// not have into frames.
func (w *upload) read(ctx context.Context) error {
	files := slices.Clone(w.build.Files)
	slices.SortFunc(files, func(a, b BuildFile) int {
		return cmp.Or(cmp.Compare(path.Ext(a.Path), path.Ext(b.Path)), cmp.Compare(a.Path, b.Path))
	})
	pairing := newPairing(w.p.Base, w.build)
	return w.readAll(ctx, w.chunks(files), func(c *chunk) error {
		rest := c.data
		for i, f := range c.files {
			var data []byte
			if !c.known[i] && !c.large() {
				data, rest = rest[:f.Size], rest[f.Size:]
			}
			if err := w.take(ctx, pairing, f, c.digests[i], data); err != nil {
				return err
			}
			if c.known[i] {
				w.stats.Cached++
			} else if w.p.Cache != nil {
				w.p.Cache.note(f, c.digests[i])
			}
			w.readFiles.Add(1)
			w.readBytes.Add(f.Size)
		}
		w.progress()
		return nil
	})
}

// take notes a file, and puts its content into a frame if it is needed.
func (w *upload) take(ctx context.Context, pairing *pairing, f BuildFile, d release.Digest, data []byte) error {
	w.files = append(w.files, release.File{Path: f.Path, Size: f.Size, Digest: d, Exec: f.Exec, Type: mediaType(f.Path)})
	if w.base.Has(d) {
		return nil
	}
	w.stats.NewFiles++
	if w.seen[d] {
		return nil
	}
	w.seen[d] = true
	w.stats.NewBytes += f.Size
	to := w.fresh
	if old, ok := pairing.old(f); ok {
		p := pair{f, d, old}
		if f.Size > frameTarget || old.Size > frameTarget {
			w.large = append(w.large, p)
			return nil
		}
		to = w.changed
		w.pairs = append(w.pairs, p)
	}
	switch {
	case f.Size == 0:
		return nil
	case f.Size <= frameTarget:
		return to.add(ctx, placed{digest: d}, effortFor(f.Path), data)
	}
	return w.whole(ctx, to, f, d)
}

// whole puts a large content into frames of its own.
func (w *upload) whole(ctx context.Context, to *lane, f BuildFile, d release.Digest) error {
	return w.parts(f, d, maxFrame, func(at int64, part []byte) error {
		frame := &rawFrame{part: &partIndex{d, at}, raw: part, places: []placed{{digest: d, length: int64(len(part))}}}
		return to.emit(ctx, frame)
	})
}
