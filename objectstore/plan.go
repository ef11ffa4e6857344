package objectstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"relman/release"
)

// wanted is a content that is made from one place: what is there, or a delta
// that is there.
type wanted struct {
	file  release.File
	at    piece
	delta *delta // nil: the content itself
	based bool   // what the delta needs comes from the store, too
}

// size is how many bytes of the content it makes.
func (w wanted) size() int64 {
	if w.delta != nil {
		return w.delta.size
	}
	return w.at.length
}

// span is a range of a pack that is read in one request, with what is wanted
// of its frames.
type span struct {
	pack   int
	frames []int // in the order of their offsets
	wanted map[int][]wanted
}

// steps are where the bytes of a content come from: from deltas if all that
// they need is held, or else from the content's own pieces.
func (f *fetch) steps(file release.File) ([]wanted, error) {
	var out []wanted
	if usable := f.usable(file); usable || f.l.derived(file.Digest) {
		for i := range f.l.deltas[file.Digest] {
			d := &f.l.deltas[file.Digest][i]
			out = append(out, wanted{file, d.piece, d, !usable})
		}
		return out, nil
	}
	pieces, ok := f.l.places[file.Digest]
	if !ok {
		return nil, fmt.Errorf("fetch %s: %w: the layout has no place for %s", f.m.ID(), ErrCorrupt, file.Path)
	}
	for _, p := range pieces {
		out = append(out, wanted{file: file, at: p})
	}
	return out, nil
}

// usable: there are deltas for a content, this node has what they need, and
// none of them has failed.
func (f *fetch) usable(file release.File) bool {
	deltas := f.l.deltas[file.Digest]
	if len(deltas) == 0 || f.o.Old == nil || f.whole[file.Digest] {
		return false
	}
	for i, d := range deltas {
		if (i == 0 || d.old != deltas[i-1].old) && !f.o.Old.Holds(d.old.Digest, d.old.Size) {
			return false
		}
	}
	return true
}

// plan makes tasks: one for all contents of several pieces, one after the
// other, since each has pieces ahead in memory, and one for each stretch of
// frames that lie close together.
func (f *fetch) plan(want []release.File) ([]func(context.Context) error, error) {
	var tasks, large []func(context.Context) error
	small := map[int][]wanted{}
	for _, file := range want {
		steps, err := f.steps(file)
		switch {
		case err != nil:
			return nil, err
		case len(steps) == 1:
			small[steps[0].at.frame] = append(small[steps[0].at.frame], steps[0])
		default:
			large = append(large, func(ctx context.Context) error { return f.large(ctx, file, steps) })
		}
	}
	if len(large) > 0 {
		tasks = append(tasks, func(ctx context.Context) error {
			for _, one := range large {
				if err := one(ctx); err != nil {
					return err
				}
			}
			return nil
		})
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
