package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"relman/objectstore"
	"relman/release"
)

// fill makes one buffer hold one release: it redraws the buffer by what
// differs. Nothing is overwritten in place, so open files and trees that share
// an inode keep the old bytes.
//
//  1. Every inode that the tree lacks is drawn beside it, in <k>.new, verified
//     while it is written. The tree is what it was; an attempt that fails or
//     is cut off here leaves it verified, and what was drawn is used again.
//  2. The buffer is given up: nothing serves from it, its manifest goes.
//  3. The tree is changed, by names only.
//  4. One syncfs makes all of it durable, then the manifest appears.
//
// Where the buffer has no manifest to begin with, there is nothing to be kept as
// it was, and what does not take the place of another file is drawn where it
// belongs.
//
// There is no journal. A crash before 2 costs nothing. After it the tree has
// no manifest, and the next attempt reads all of it: files that have the right
// bytes, time and mode are kept, whatever the attempt before had meant to do.
// Reading costs less than fetching, happens only after a crash within the few
// moments of step 3, and cannot be wrong, which a journal can.
//
// A buffer that is damaged is repaired by the same steps, but for the second:
// it is served from on, and step 3 changes nothing in it but what is damaged.
type fill struct {
	disk    *disk
	buf     *buffer
	want    *objectstore.Stored
	store   objectstore.Store
	others  []tree // verified and left alone while this runs
	workers int
	point   func(string) error // failpoint
	sync    func(*os.File) error
	repair  bool                           // the buffer stays in use
	giveUp  func() error                   // step 2 as the site sees it
	suspect func(buffer string, why error) // it is not as it was verified
	count   func(h how, n int)
	fetched func(n int64)
	failed  func(file release.File, err error) // a delta was of no use
	log     *slog.Logger

	names       *handles
	parts       map[string]*os.File // guarded by mu: large files that were begun, by name, open to be gone on with
	found       *tree               // what was in the buffer
	loose       bool                // nothing of it is to be replaced as a whole: see direct
	total, done atomic.Int64
	mu          sync.Mutex // guards buf.spare and parts while several draw
	once        sync.Once  // for the failpoint after the first file
	onceErr     error
}

// run ends when the buffer holds the release, durably, and says so on disk.
// All that it has started has ended when it returns.
func (f *fill) run(ctx context.Context) (err error) {
	f.total.Store(f.want.Manifest.Bytes)
	if err := f.look(ctx); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	f.parts = map[string]*os.File{}
	defer f.closeBegun()
	if f.names, err = newHandles(f.disk.trees); err != nil {
		return err
	}
	defer func() {
		f.stumbled(err)
		err = errors.Join(err, f.names.close())
	}()
	p := redraw(*f.buf.found, f.buf.spare, f.others, f.want.Manifest.Files)
	if err := f.confirm(ctx, &p); err != nil {
		return err
	}
	// An error that syncfs reports may be of any write since this.
	top, err := f.disk.trees.Open(".")
	if err != nil {
		return err
	}
	defer top.Close() // only a handle on the file system
	if err := f.prepare(&p, top); err != nil {
		return err
	}
	f.found, f.loose = f.buf.found, f.buf.manifest == nil && len(f.buf.found.strays)+len(p.clear)+len(p.early) == 0
	if f.loose {
		f.buf.found = nil // an attempt after this one has to look
		if err := f.makeDirs(&p); err != nil {
			return full(err, &p, top)
		}
	}
	f.done.Store(f.total.Load() - p.draws())
	if err := f.point("node.before-fetch"); err != nil {
		return err
	}
	if err := f.draw(ctx, &p); err != nil {
		return full(err, &p, top)
	}
	if err := f.point("node.after-fetch"); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// From here to the end it takes moments and no network: it is not
	// interrupted, because half a tree would have to be read as a whole.
	if err := f.giveUp(); err != nil {
		return err
	}
	if err := f.place(&p, top); err != nil {
		return full(err, &p, top)
	}
	f.tell(&p)
	return nil
}

// look finds out what the buffer holds: by its names, sizes and times where it
// was verified, else by reading it.
func (f *fill) look(ctx context.Context) (err error) {
	b := f.buf
	if b.wipe {
		if err := f.wipe(); err != nil {
			return err
		}
	}
	if b.manifest != nil {
		b.found = nil
		if !b.damaged {
			var err error
			if time.Since(b.checked) > believed {
				err = f.disk.glance(ctx, b)
			}
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err == nil:
				b.found = &tree{name: b.name, files: b.manifest.Files}
			default:
				f.suspect(b.name, err)
			}
		}
	}
	if b.found == nil {
		if err := f.disk.onlyDir(b.name); err != nil {
			return err
		}
		if b.found, err = f.disk.scan(ctx, b.name, f.workers); err != nil {
			return err
		}
		if err := b.found.unread; err != nil {
			f.log.Warn("file on disk cannot be read, and is drawn anew", "buffer", b.name, "error", err)
		}
	}
	if b.spare == nil {
		b.spare, err = f.disk.scanSpare(ctx, b, f.workers)
	}
	return err
}

// confirm looks at the files that are to be linked from other buffers: a link
// cannot be verified while it is made, as a copy is. What is not as it was
// verified comes from the store instead, and so does what would be replaced by
// itself: where the two trees share an inode and this one was read to be wrong,
// the other is too.
func (f *fill) confirm(ctx context.Context, p *plan) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.workers)
	for i := range p.parts {
		q := &p.parts[i]
		if q.how != byLink || q.own {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			ok, err := f.names.asVerified(q.from, q.file)
			for _, s := range q.to {
				if ok && s.taken {
					var same bool
					same, err = f.names.same(q.from, f.buf.name+"/"+s.path)
					ok = err == nil && !same
				}
			}
			if isScarce(err) {
				return err
			}
			if !ok {
				err = errors.Join(notAsVerified(q.from), err)
				f.suspectFile(q.from, err)
				q.how, q.from = byFetch, ""
			}
			return nil
		})
	}
	return g.Wait()
}

// suspectFile makes the buffer of a file suspect.
func (f *fill) suspectFile(from string, why error) {
	buffer, _, _ := strings.Cut(from, "/")
	f.suspect(buffer, why)
}

// stumbled makes the next attempt look at what is in the buffer where its names
// are not what they were believed to be.
func (f *fill) stumbled(err error) {
	for _, e := range []error{syscall.ELOOP, syscall.ENOTDIR, syscall.EISDIR, fs.ErrNotExist} {
		if errors.Is(err, e) {
			f.buf.spare, f.buf.checked = nil, time.Time{}
			f.suspect(f.buf.name, err)
			return
		}
	}
}

// wipe removes a tree that cannot be believed, not even when it reads well.
func (f *fill) wipe() error {
	b := f.buf
	b.wipe = true
	if err := errors.Join(f.disk.trees.RemoveAll(b.name), f.disk.trees.RemoveAll(b.spareDir())); err != nil {
		return err
	}
	b.found, b.spare, b.wipe = nil, nil, false
	return nil
}

// prepare makes room: what an earlier attempt drew for another release goes,
// and the rest has to fit before the first byte is written.
func (f *fill) prepare(p *plan, top *os.File) error {
	b := f.buf
	used := map[string]bool{}
	if len(b.spare) > 0 {
		for i := range p.parts {
			used[spareName(b.name, identityOf(p.parts[i].file))] = true
			used[p.parts[i].from] = true
		}
	}
	for id := range b.spare {
		name := spareName(b.name, id)
		if used[name] {
			continue
		}
		if err := f.names.remove(name); err != nil {
			return err
		}
		delete(b.spare, id)
	}
	for _, dir := range []string{b.name, b.spareDir()} {
		if err := f.names.mkdir(dir); err != nil {
			return err
		}
	}
	begun, err := f.keepBegun(p)
	if err != nil {
		return err
	}
	return fits(p, begun, top)
}

// fits compares what the plan needs with what is free; begun bytes of it are
// there.
func fits(p *plan, begun int64, top *os.File) error {
	bytes, inodes := p.needs()
	bytes -= begun
	freeBytes, freeInodes, err := room(top)
	switch {
	case err != nil:
		return err
	case bytes > freeBytes:
		return &noSpaceError{needs: bytes, has: freeBytes}
	case freeInodes >= 0 && inodes > freeInodes:
		return &noSpaceError{needs: inodes, has: freeInodes, files: true}
	}
	return nil
}

// full puts a disk that filled up on the way in the words of one that was too
// full at the start.
func full(err error, p *plan, top *os.File) error {
	if classOf(err) != ClassNoSpace {
		return err
	}
	if free, _, statErr := room(top); statErr == nil {
		needs, _ := p.needs()
		return errors.Join(&noSpaceError{needs: needs, has: free}, err)
	}
	return err
}

// tell counts where the files came from.
func (f *fill) tell(p *plan) {
	n := map[how]int{byKeep: p.keep}
	for _, q := range p.parts {
		n[q.how] += len(q.to)
	}
	for h, count := range n {
		f.count(h, count)
	}
}
