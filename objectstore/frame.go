package objectstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	frameTarget = 4 << 20  // raw bytes of small files, or of deltas, that share a frame
	maxFrame    = 8 << 20  // raw bytes of any frame: a file above it is cut into pieces
	packTarget  = 8 << 20  // stored bytes at which a pack is closed
	maxOld      = maxFrame // old bytes that one delta may need
	deltaPiece  = 4 << 20  // new bytes that one delta of a large file makes
)

// effort says how hard bytes are compressed.
type effort zstd.EncoderLevel

const (
	// thorough is for what every new node reads, but for pages.
	thorough = effort(zstd.SpeedBetterCompression)
	// quick takes a third to half of the time for a tenth more bytes: for what has
	// a delta, which nodes read instead, and for pages. They shrink to a tenth
	// in any case, and are most of many sites.
	quick = effort(zstd.SpeedDefault)
)

// effortFor is the effort that a file deserves, 0 for that of its lane.
func effortFor(name string) effort {
	switch strings.ToLower(path.Ext(name)) {
	case ".html", ".htm", ".xhtml":
		return quick
	}
	return 0
}

// encoders are shared: one compresses for many goroutines, one frame each.
var encoders = map[effort]func() (*zstd.Encoder, error){thorough: newEncoder(thorough), quick: newEncoder(quick)}

func newEncoder(e effort) func() (*zstd.Encoder, error) {
	return sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(e)), zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(maxFrame), zstd.WithLowerEncoderMem(true))
	})
}

// decoders are shared in the same way. The memory bound holds for each frame.
var newDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(maxFrame))
})

// compress appends one zstd frame.
func compress(to, raw []byte, e effort) ([]byte, error) {
	enc, err := encoders[e]()
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return enc.EncodeAll(raw, to), nil
}

// decompress undoes compress where the size is not known: it gives at most
// limit bytes. The decoder's own memory is bounded by the encoders' window.
func decompress(stored []byte, limit int64) ([]byte, error) {
	dec, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderMaxWindow(maxFrame), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(dec, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("it decompresses to more than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// packFrame compresses raw bytes into a buffer of frameBuffers or partBuffers,
// or keeps them when that saves nothing.
func packFrame(raw []byte, e effort) (stored []byte, compressed bool, err error) {
	if dense(raw) {
		e = quick
	}
	to := buffersFor(len(raw)).get()
	z, err := compress(to, raw, e)
	if err != nil {
		return nil, false, err
	}
	if len(z) >= len(raw)-len(raw)/64 {
		recycle(z)
		return raw, false, nil
	}
	return z, true, nil
}

// buffers are empty ones of one capacity, used again and again: fresh memory
// costs more than what is done with it.
type buffers struct {
	room int
	pool sync.Pool
}

func newBuffers(room int) *buffers {
	return &buffers{room: room, pool: sync.Pool{New: func() any { b := make([]byte, 0, room); return &b }}}
}

func (p *buffers) get() []byte { return *p.pool.Get().(*[]byte) }

// put takes a buffer that nobody looks at any more. One that had to grow, or
// comes from elsewhere, is left to the garbage collector.
func (p *buffers) put(b []byte) {
	if cap(b) == p.room {
		b = b[:0]
		p.pool.Put(&b)
	}
}

// zstdRoom is what a frame may take more than its raw bytes.
const zstdRoom = 4 << 10

var (
	frameBuffers = newBuffers(frameTarget + zstdRoom) // frames that many contents share, raw or stored
	partBuffers  = newBuffers(maxFrame + zstdRoom)    // larger ones
	packBuffers  = newBuffers(packTarget + packTarget/4)
)

// buffersFor have the room for a frame of n raw bytes.
func buffersFor(n int) *buffers {
	if n <= frameTarget {
		return frameBuffers
	}
	return partBuffers
}

// recycle takes back the buffer of a frame.
func recycle(b []byte) {
	frameBuffers.put(b)
	partBuffers.put(b)
}

// dense reports whether bytes look as if they were compressed already: a part
// from the middle does not shrink.
func dense(raw []byte) bool {
	const part = 64 << 10
	if len(raw) < 4*part {
		return false
	}
	middle := raw[len(raw)/2:][:part]
	z, err := compress(make([]byte, 0, part+zstdRoom), middle, quick)
	return err == nil && len(z) > part-part/16
}

var errFrame = errors.New("frame does not decode")

// unpackFrame is packFrame backwards; raw is how many bytes have to come out. It
// puts them into the buffer to where that is large enough, or returns stored.
func unpackFrame(to, stored []byte, compressed bool, raw int64) ([]byte, error) {
	if !compressed {
		if int64(len(stored)) != raw {
			return nil, fmt.Errorf("%w: %d bytes instead of %d", errFrame, len(stored), raw)
		}
		return stored, nil
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if int64(cap(to)) < raw {
		to = make([]byte, 0, raw)
	}
	out, err := dec.DecodeAll(stored, to[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if int64(len(out)) != raw {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", errFrame, len(out), raw)
	}
	return out, nil
}

// scratch is bytes that are needed for a moment, again and again.
type scratch []byte

// room is n bytes with something in them, until it is asked for others.
func (s *scratch) room(n int64) []byte {
	if int64(cap(*s)) < n {
		*s = make([]byte, 1<<bits.Len64(uint64(n-1)))
	}
	return (*s)[:n]
}
