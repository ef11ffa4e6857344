package objectstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"relman/release"
)

// wanted is a small content in a frame.
type wanted struct {
	file release.File
	at   piece
}

// span is a range of a pack that is read in one request, with what is wanted
// of its frames.
type span struct {
	pack   int
	frames []int // in the order of their offsets
	wanted map[int][]wanted
}

// plan makes tasks: one for each content of several pieces, and one for each
// stretch of frames that lie close together.
func (f *fetch) plan(want []release.File) ([]func(context.Context) error, error) {
	var tasks []func(context.Context) error
	small := map[int][]wanted{}
	for _, file := range want {
		pieces, ok := f.l.places[file.Digest]
		switch {
		case !ok:
			return nil, fmt.Errorf("fetch %s: %w: the layout has no place for %s", f.m.ID(), ErrCorrupt, file.Path)
		case len(pieces) == 1:
			small[pieces[0].frame] = append(small[pieces[0].frame], wanted{file, pieces[0]})
		default:
			tasks = append(tasks, func(ctx context.Context) error { return f.large(ctx, file, pieces) })
		}
	}
	for _, s := range f.spans(small) {
		tasks = append(tasks, func(ctx context.Context) error { return f.span(ctx, s) })
	}
	return tasks, nil
}

// spans groups frames into requests.
func (f *fetch) spans(small map[int][]wanted) []span {
	frames := slices.SortedFunc(maps.Keys(small), func(i, j int) int {
		a, b := f.l.frames[i], f.l.frames[j]
		return cmp.Or(cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	var out []span
	var begin, end int64
	for _, i := range frames {
		fr := f.l.frames[i]
		n := len(out)
		if n == 0 || out[n-1].pack != fr.Pack || fr.Offset-end > mergeGap || fr.Offset+fr.Size-begin > maxRange {
			out = append(out, span{pack: fr.Pack, wanted: small})
			begin, n = fr.Offset, n+1
		}
		out[n-1].frames = append(out[n-1].frames, i)
		end = fr.Offset + fr.Size
	}
	return out
}
