package objectstore

import (
	"context"
	"errors"
	"io"

	"relman/release"
)

// largeAhead is how many pieces of a large content are fetched while those
// before them are still being written.
const largeAhead = 3

// large streams a content of several pieces, or of none. What comes damaged is
// asked for once more, from its beginning.
func (f *fetch) large(ctx context.Context, file release.File, steps []wanted) error {
	last := -1 // where only the whole is wrong, the last pack stands for all
	if len(steps) > 0 {
		last = steps[len(steps)-1].at.frame
	}
	once := func() error {
		ctx, cancel := context.WithCancel(ctx)
		r := &pieceReader{f: f, ctx: ctx, steps: steps}
		defer r.wait()
		defer cancel()
		return f.deliver(file, r, last)
	}
	err := once()
	if errors.Is(err, ErrCorrupt) {
		err = once()
	}
	if err != nil && len(steps) > 0 && len(f.giveUp(steps[:1], err)) == 0 {
		return nil
	}
	return err
}

// pieceReader reads the pieces of one content in order, and some ahead.
type pieceReader struct {
	ctx   context.Context //nolint:containedctx // lives as long as one call of write
	f     *fetch
	steps []wanted
	ahead []chan made // of the steps before those in steps
	part  []byte
}

// made is a piece, or why there is none.
type made struct {
	part []byte
	err  error
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 {
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

// start begins to fetch as many pieces as are allowed.
func (r *pieceReader) start() {
	for len(r.ahead) < largeAhead && len(r.steps) > 0 {
		step, out := r.steps[0], make(chan made, 1)
		r.steps, r.ahead = r.steps[1:], append(r.ahead, out)
		go func() {
			part, err := r.f.piece(r.ctx, step)
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

// piece fetches one piece of a content.
func (f *fetch) piece(ctx context.Context, w wanted) ([]byte, error) {
	stored, err := f.readFrame(ctx, w.at.frame)
	if err != nil {
		return nil, err
	}
	fr := f.l.frames[w.at.frame]
	raw, err := unpackFrame(stored, fr.Zstd, fr.Raw)
	if err != nil {
		return nil, f.corrupt(w.at.frame, w.file, err)
	}
	return f.make(ctx, w, raw)
}
