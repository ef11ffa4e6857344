package objectstore

import (
	"cmp"
	"context"
	"fmt"
	"os"
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
	Workers  int     // for hashing and compressing; 0: one per processor, at most 8
	Progress func(PublishProgress)
}

// PublishProgress counts what has been done so far. It is called from several
// goroutines.
type PublishProgress struct {
	Files, AllFiles int   // hashed
	Bytes, AllBytes int64 // hashed
	Sent            int64 // bytes of packs that were not in the store yet
}

// UploadStats say what an upload came to.
type UploadStats struct {
	Files, NewFiles int
	Bytes           int64 // of all files
	NewBytes        int64 // of the contents that the base does not have
	UploadedBytes   int64 // of the packs that were not in the store yet
	Packs           int   // that hold the new contents
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
	uploadsAtOnce = 4
	mostWorkers   = 8 // each has frames in memory
)

// Upload hashes a build and sends what the base does not have.
func (p *Publisher) Upload(ctx context.Context, b *Build) (*Upload, error) {
	if err := failpoint.Point("publish.after-scan"); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(b.Root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer root.Close()
	w := &upload{p: p, root: root, build: b, workers: p.Workers}
	if w.workers <= 0 {
		w.workers = min(runtime.GOMAXPROCS(0), mostWorkers)
	}
	files, err := w.hash(ctx)
	if err != nil {
		return nil, err
	}
	layout, err := w.send(ctx, w.missing(files))
	if err != nil {
		return nil, err
	}
	if err := failpoint.Point("publish.after-packs"); err != nil {
		return nil, err
	}
	if p.Base != nil {
		layout = layout.merge(p.Base.Layout)
	}
	w.stats.Files, w.stats.Bytes = len(files), b.Bytes
	w.stats.UploadedBytes = w.sent.Load()
	return &Upload{Stats: w.stats, publisher: p, files: files, layout: layout}, nil
}

// upload is the state of one call of Upload.
type upload struct {
	p       *Publisher
	root    *os.Root
	build   *Build
	workers int
	stats   UploadStats

	hashedFiles, hashedBytes, sent atomic.Int64
}

func (w *upload) progress() {
	if w.p.Progress != nil {
		w.p.Progress(PublishProgress{
			Files: int(w.hashedFiles.Load()), AllFiles: len(w.build.Files),
			Bytes: w.hashedBytes.Load(), AllBytes: w.build.Bytes, Sent: w.sent.Load(),
		})
	}
}

// hash reads every file of the build.
func (w *upload) hash(ctx context.Context) ([]release.File, error) {
	files := make([]release.File, len(w.build.Files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.workers)
	for i, f := range w.build.Files {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			d, err := w.digest(gctx, f)
			if err != nil {
				return err
			}
			files[i] = release.File{Path: f.Path, Size: f.Size, Digest: d, Exec: f.Exec, Type: mediaType(f.Path)}
			w.hashedFiles.Add(1)
			w.hashedBytes.Add(f.Size)
			w.progress()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return files, ctx.Err()
}

// missing are the contents that the base does not have, each once, in the
// order in which they go into frames: similar files together.
func (w *upload) missing(files []release.File) []release.File {
	var known *Layout
	if w.p.Base != nil {
		known = w.p.Base.Layout
	}
	seen := map[release.Digest]bool{}
	var out []release.File
	for _, f := range files {
		if known.Has(f.Digest) {
			continue
		}
		w.stats.NewFiles++
		if !seen[f.Digest] {
			seen[f.Digest] = true
			out = append(out, f)
			w.stats.NewBytes += f.Size
		}
	}
	slices.SortFunc(out, func(a, b release.File) int {
		return cmp.Or(cmp.Compare(path.Ext(a.Path), path.Ext(b.Path)), cmp.Compare(a.Path, b.Path))
	})
	return out
}
