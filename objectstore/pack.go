package objectstore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"relman/release"
)

// A pack is its frames, one after the other, then a footer that says what is
// in them, the footer's length (4 bytes, big-endian) and packMagic. The footer
// lets a layout be rebuilt from packs alone; in ordinary work nobody reads it.
// It is zstd-compressed JSON and does not repeat what the frames tell: the
// digests of contents, which would be the larger part of it.
const (
	packMagic      = "RELMANP2"
	packTrailer    = 4 + len(packMagic)
	maxFooterBytes = 64 << 20
)

// packIndex is the footer of a pack.
type packIndex struct {
	Frames []packFrameIndex `json:"frames"`
}

// packFrameIndex is one frame of a pack: Size bytes from Offset on, which
// become Raw bytes.
type packFrameIndex struct {
	Offset int64 `json:"o"`
	Size   int64 `json:"n"`
	Raw    int64 `json:"r"`
	Zstd   bool  `json:"z,omitempty"`
	// Sizes are those of the contents in it, one after the other.
	Sizes []int64 `json:"c,omitempty"`
	// Part is set where all of it is a part of one content.
	Part *partIndex `json:"p,omitempty"`
	// Deltas says that it holds deltas. A layout can do without them.
	Deltas bool `json:"d,omitempty"`
}

// partIndex says of which content a part is, and where in it the part begins.
type partIndex struct {
	Digest release.Digest `json:"h"`
	At     int64          `json:"a"`
}

// PackEntry is a content, or a part of one, in a pack.
type PackEntry struct {
	Digest release.Digest // of the whole content
	Frame  int            // of the pack
	At     int64          // where in the content it begins
	Offset int64          // where in the frame
	Size   int64
}

// packBuilder puts frames together until they are a pack.
type packBuilder struct {
	body  []byte
	index packIndex
}

// add takes a copy of a frame and returns its number in the pack.
func (b *packBuilder) add(f builtFrame) int {
	b.index.Frames = append(b.index.Frames, packFrameIndex{
		Offset: int64(len(b.body)), Size: int64(len(f.stored)), Raw: f.raw, Zstd: f.zstd,
		Sizes: f.sizes, Part: f.part, Deltas: f.deltas,
	})
	if b.body == nil {
		b.body = packBuffers.get()
	}
	b.body = append(b.body, f.stored...)
	return len(b.index.Frames) - 1
}

func (b *packBuilder) full() bool { return len(b.body) >= packTarget }

// finish closes the pack and names it.
func (b *packBuilder) finish() (body []byte, digest release.Digest, err error) {
	footer, err := json.Marshal(b.index)
	if err != nil {
		return nil, digest, err
	}
	if footer, err = compress(nil, footer, quick); err != nil {
		return nil, digest, err
	}
	body = append(b.body, footer...)
	body = binary.BigEndian.AppendUint32(body, uint32(len(footer)))
	body = append(body, packMagic...)
	return body, release.Sum(body), nil
}

// readPackIndex reads the footer of a whole pack and checks that it fits.
func readPackIndex(pack []byte) (packIndex, error) {
	var idx packIndex
	end := len(pack) - packTrailer
	if end < 0 || string(pack[end+4:]) != packMagic {
		return idx, fmt.Errorf("%w: not a pack", ErrCorrupt)
	}
	length := int(binary.BigEndian.Uint32(pack[end:]))
	if length > end {
		return idx, fmt.Errorf("%w: a footer of %d bytes in a pack of %d", ErrCorrupt, length, len(pack))
	}
	frames := int64(end - length)
	footer, err := decompress(pack[frames:end], maxFooterBytes)
	if err != nil {
		return idx, fmt.Errorf("%w: pack footer: %w", ErrCorrupt, err)
	}
	if err := json.Unmarshal(footer, &idx); err != nil {
		return idx, fmt.Errorf("%w: pack footer: %w", ErrCorrupt, err)
	}
	var at int64
	for i, f := range idx.Frames {
		if f.Offset != at || f.Size < 1 || f.Size > frames-at || f.Raw < 1 || f.Raw > maxFrame || f.Size > f.Raw || f.Part != nil && f.Part.At < 0 {
			return idx, fmt.Errorf("%w: frame %d does not fit into the pack", ErrCorrupt, i)
		}
		at += f.Size
		var sum int64
		for _, size := range f.Sizes {
			if size < 1 || size > f.Raw-sum {
				return idx, fmt.Errorf("%w: a content of %d bytes does not fit into frame %d", ErrCorrupt, size, i)
			}
			sum += size
		}
		if f.Part == nil && !f.Deltas && sum != f.Raw {
			return idx, fmt.Errorf("%w: the contents of frame %d are %d bytes, it has %d", ErrCorrupt, i, sum, f.Raw)
		}
	}
	if at != frames {
		return idx, fmt.Errorf("%w: %d bytes between the frames and the footer", ErrCorrupt, frames-at)
	}
	return idx, nil
}

// ReadPack decodes a whole pack and says which contents are in it: what a
// layout can be rebuilt from. Only what is part of a larger content is named
// after what the pack says of it.
func ReadPack(pack []byte) ([]PackEntry, error) {
	idx, err := readPackIndex(pack)
	if err != nil {
		return nil, err
	}
	var out []PackEntry
	for i, f := range idx.Frames {
		raw, err := unpackFrame(nil, pack[f.Offset:f.Offset+f.Size], f.Zstd, f.Raw)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: frame %d: %w", ErrCorrupt, i, err)
		case f.Part != nil:
			out = append(out, PackEntry{f.Part.Digest, i, f.Part.At, 0, f.Raw})
		case f.Deltas:
		default:
			var at int64
			for _, size := range f.Sizes {
				out = append(out, PackEntry{release.Sum(raw[at : at+size]), i, 0, at, size})
				at += size
			}
		}
	}
	return out, nil
}
