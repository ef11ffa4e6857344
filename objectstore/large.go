package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"relman/release"
)

// largeAhead is how many frames with pieces of a large content are fetched while
// those before them are still being written.
const largeAhead = 3

// large streams a content of several pieces, or of none. What comes damaged is
// asked for once more, from its beginning.
func (f *fetch) large(ctx context.Context, file release.File, steps []wanted) error {
	last := -1 // where only the whole is wrong, the last pack stands for all
	if len(steps) > 0 {
		last = steps[len(steps)-1].at.frame
	}
	once := func(begun io.Reader) error {
		ctx, cancel := context.WithCancel(ctx)
		r := &pieceReader{f: f, ctx: ctx, steps: steps, begun: begun}
		defer r.wait()
		defer cancel()
		return f.deliver(file, r, last)
	}
	var begun io.Reader
	if f.o.Begun != nil {
		begun = f.o.Begun(file)
	}
	err := once(begun)
	if errors.Is(err, ErrCorrupt) {
		f.olds.forget()
		if err = once(nil); errors.Is(err, ErrCorrupt) && len(steps) > 0 && steps[0].based {
			err = fmt.Errorf("%w (made out of an older version, in %s)", err, f.basedOn(steps))
		}
	}
	if err != nil && len(steps) > 0 && len(f.giveUp(steps[:1], err)) == 0 {
		return nil
	}
	return err
}

// basedOn names the packs with what deltas need.
func (f *fetch) basedOn(steps []wanted) string {
	var keys []string
	for _, s := range steps {
		for _, p := range f.l.based[s.delta.old.Digest] {
			if key := packKey(f.l.packs[f.l.frames[p.frame].Pack].Digest); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return strings.Join(keys, ", ")
}

// pieceReader reads the pieces of one content in order, and some ahead.
type pieceReader struct {
	ctx   context.Context //nolint:containedctx // lives as long as one call of write
	f     *fetch
	steps []wanted
	begun io.Reader   // whole pieces of it come first; nil for none
	ahead []chan made // of the steps before those in steps
	part  []byte
}

// made is some pieces, or why there is none.
type made struct {
	part []byte
	err  error
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 {
		if r.begun != nil {
			if err := r.resume(); err != nil {
				return 0, err
			}
			continue
		}
		r.start()
		if len(r.ahead) == 0 {
			return 0, io.EOF
		}
		m := <-r.ahead[0]
		r.ahead = r.ahead[1:]
		if m.err != nil {
			return 0, m.err
		}
		r.part = m.part
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	return n, nil
}

// resume takes the next piece from what is there already. What is there of the
// first piece that is not whole is not used.
func (r *pieceReader) resume() error {
	if len(r.steps) > 0 {
		part := make([]byte, r.steps[0].size())
		_, err := io.ReadFull(r.begun, part)
		if err == nil {
			r.part, r.steps = part, r.steps[1:]
			return nil
		}
		if !ended(err) {
			return fmt.Errorf("read what there is of it: %w: %w", ErrCorrupt, err)
		}
	}
	r.begun = nil
	return nil
}

// start begins to fetch as many pieces as are allowed.
func (r *pieceReader) start() {
	for len(r.ahead) < largeAhead && len(r.steps) > 0 {
		n, size := 1, r.steps[0].size()
		for n < len(r.steps) && r.steps[n].at.frame == r.steps[0].at.frame && size+r.steps[n].size() <= maxFrame {
			size += r.steps[n].size()
			n++
		}
		steps, out := r.steps[:n], make(chan made, 1)
		r.steps, r.ahead = r.steps[n:], append(r.ahead, out)
		go func() {
			part, err := r.f.pieces(r.ctx, steps)
			out <- made{part, err}
		}()
	}
}

// wait ends when nothing is being fetched any more.
func (r *pieceReader) wait() {
	for _, c := range r.ahead {
		<-c
	}
}

// pieces fetches pieces of a content that follow each other and are in one
// frame.
func (f *fetch) pieces(ctx context.Context, steps []wanted) ([]byte, error) {
	i, file := steps[0].at.frame, steps[0].file
	stored, err := f.readFrame(ctx, i)
	if err != nil {
		return nil, err
	}
	fr := f.l.frames[i]
	raw, err := unpackFrame(nil, stored, fr.Zstd, fr.Raw)
	if err != nil {
		return nil, f.corrupt(i, file, err)
	}
	var all []byte
	for _, w := range steps {
		part, err := f.make(ctx, w, raw, nil)
		if err != nil {
			return nil, err
		}
		if len(steps) == 1 {
			return part, nil
		}
		all = append(all, part...)
	}
	return all, nil
}
