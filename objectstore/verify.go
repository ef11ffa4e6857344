package objectstore

import (
	"errors"
	"hash"
	"io"

	"relman/release"
)

// verifier hashes what passes through; at the end it is io.EOF only for the
// content that was asked for.
type verifier struct {
	r     io.Reader
	h     hash.Hash
	want  release.Digest
	wrong func() error
	whole bool // the end was reached, and the content was right
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if !sameSum(v.h, v.want) {
			return n, v.wrong()
		}
		v.whole = true
	}
	return n, err
}
