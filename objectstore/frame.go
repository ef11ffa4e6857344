package objectstore

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	frameTarget = 1 << 20 // raw bytes of small files that share a frame
	maxFrame    = 8 << 20 // raw bytes of any frame: a file above it is cut into pieces
	packTarget  = 8 << 20 // stored bytes at which a pack is closed
)

// encoders are shared: one compresses for many goroutines, one frame each.
var newEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxFrame))
})

// decoders are shared in the same way. The memory bound holds for each frame.
var newDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(maxFrame))
})

// packFrame compresses raw bytes, or keeps them when that saves nothing.
func packFrame(raw []byte) (stored []byte, compressed bool, err error) {
	enc, err := newEncoder()
	if err != nil {
		return nil, false, fmt.Errorf("zstd: %w", err)
	}
	z := enc.EncodeAll(raw, make([]byte, 0, len(raw)/2+64))
	if len(z) >= len(raw)-len(raw)/64 {
		return raw, false, nil
	}
	return z, true, nil
}

var errFrame = errors.New("frame does not decode")

// unpackFrame is packFrame backwards; raw is how many bytes have to come out.
func unpackFrame(stored []byte, compressed bool, raw int64) ([]byte, error) {
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
	out, err := dec.DecodeAll(stored, make([]byte, 0, raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if int64(len(out)) != raw {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", errFrame, len(out), raw)
	}
	return out, nil
}
