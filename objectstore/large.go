package objectstore

import (
	"context"
	"errors"
	"io"

	"relman/release"
)

// large streams a content of several pieces, or of none. What comes damaged is
// asked for once more, from its beginning.
func (f *fetch) large(ctx context.Context, file release.File, pieces []piece) error {
	last := -1 // where only the whole is wrong, the last pack stands for all
	if len(pieces) > 0 {
		last = pieces[len(pieces)-1].frame
	}
	once := func() error {
		return f.deliver(file, &pieceReader{ctx: ctx, f: f, file: file, pieces: pieces}, last)
	}
	err := once()
	if errors.Is(err, ErrCorrupt) {
		err = once()
	}
	return err
}

// pieceReader reads the pieces of one content, one frame at a time.
type pieceReader struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call of write
	f      *fetch
	file   release.File
	pieces []piece
	part   []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 {
		if len(r.pieces) == 0 {
			return 0, io.EOF
		}
		at := r.pieces[0]
		stored, err := r.f.readFrame(r.ctx, at.frame)
		if err != nil {
			return 0, err
		}
		fr := r.f.l.frames[at.frame]
		raw, err := unpackFrame(stored, fr.Zstd, fr.Raw)
		if err != nil {
			return 0, r.f.corrupt(at.frame, r.file, err)
		}
		r.part, r.pieces = raw[at.offset:at.offset+at.size], r.pieces[1:]
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	return n, nil
}
