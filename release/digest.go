package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is the SHA-256 of some content.
type Digest [sha256.Size]byte

const digestPrefix = "sha256:"

// Sum is the digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads 64 lower-case hex digits, with or without "sha256:"
// before them.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	h := strings.TrimPrefix(s, digestPrefix)
	if len(h) != 2*len(d) || !isLowerHex(h) {
		return d, fmt.Errorf("%w digest %q: 64 lower-case hex digits are wanted", ErrInvalid, s)
	}
	if _, err := hex.Decode(d[:], []byte(h)); err != nil {
		return d, fmt.Errorf("%w digest %q: %w", ErrInvalid, s, err)
	}
	return d, nil
}

// Hex is the digest as 64 lower-case hex digits.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// String is the digest with its algorithm, "sha256:3f9a…".
func (d Digest) String() string { return digestPrefix + d.Hex() }

// IsZero reports whether d is no digest at all.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes what String shows.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}
