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
const (
	packMagic   = "RELMANP1"
	packTrailer = 4 + len(packMagic)
)

// PackIndex says what is in a pack.
type PackIndex struct {
	Frames []PackFrame `json:"frames"`
}

// PackFrame is one frame of a pack.
type PackFrame struct {
	Offset   int64       `json:"o"`
	Size     int64       `json:"n"`
	Raw      int64       `json:"r"`
	Zstd     bool        `json:"z,omitempty"`
	Contents []PackEntry `json:"c"`
}

// PackEntry is a content, or a part of one, in a frame.
type PackEntry struct {
	Digest release.Digest `json:"h"`
	At     int64          `json:"a,omitempty"` // where in the content the part begins
	Offset int64          `json:"o"`           // where in the frame
	Size   int64          `json:"s"`
}

// packBuilder puts frames together until they are a pack.
type packBuilder struct {
	body  []byte
	index PackIndex
}

func (b *packBuilder) add(f builtFrame) {
	b.index.Frames = append(b.index.Frames, PackFrame{
		Offset: int64(len(b.body)), Size: int64(len(f.stored)), Raw: f.raw, Zstd: f.zstd, Contents: f.entries,
	})
	b.body = append(b.body, f.stored...)
}

func (b *packBuilder) full() bool { return len(b.body) >= packTarget }

// finish closes the pack and names it.
func (b *packBuilder) finish() (body []byte, digest release.Digest, err error) {
	footer, err := json.Marshal(b.index)
	if err != nil {
		return nil, digest, err
	}
	body = append(b.body, footer...)
	body = binary.BigEndian.AppendUint32(body, uint32(len(footer)))
	body = append(body, packMagic...)
	return body, release.Sum(body), nil
}

// ReadPackIndex reads the footer of a whole pack and checks that it fits.
func ReadPackIndex(pack []byte) (PackIndex, error) {
	var idx PackIndex
	end := len(pack) - packTrailer
	if end < 0 || string(pack[end+4:]) != packMagic {
		return idx, fmt.Errorf("%w: not a pack", ErrCorrupt)
	}
	length := int(binary.BigEndian.Uint32(pack[end:]))
	if length > end {
		return idx, fmt.Errorf("%w: a footer of %d bytes in a pack of %d", ErrCorrupt, length, len(pack))
	}
	frames := int64(end - length)
	if err := json.Unmarshal(pack[frames:end], &idx); err != nil {
		return idx, fmt.Errorf("%w: pack footer: %w", ErrCorrupt, err)
	}
	var at int64
	for i, f := range idx.Frames {
		if f.Offset != at || f.Size < 1 || f.Size > frames-at || f.Raw < 1 || f.Raw > maxFrame || f.Size > f.Raw {
			return idx, fmt.Errorf("%w: frame %d does not fit into the pack", ErrCorrupt, i)
		}
		at += f.Size
		for _, e := range f.Contents {
			if e.Size < 1 || e.Size > f.Raw || e.Offset < 0 || e.Offset > f.Raw-e.Size || e.At < 0 {
				return idx, fmt.Errorf("%w: %s does not fit into frame %d", ErrCorrupt, e.Digest, i)
			}
		}
	}
	if at != frames {
		return idx, fmt.Errorf("%w: %d bytes between the frames and the footer", ErrCorrupt, frames-at)
	}
	return idx, nil
}
