package release

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrInvalid is what every error of this package's parsers unwraps to.
var ErrInvalid = errors.New("invalid")

// Site names a web site: [a-z0-9][a-z0-9-]{0,62}.
type Site string

// NodeID names a node of the cluster: [a-z0-9][a-z0-9-]{0,62}.
type NodeID string

// Group names a set of nodes, "main" by default: [a-z0-9][a-z0-9-]{0,62}.
type Group string

// DefaultGroup is the group of a node that names none.
const DefaultGroup Group = "main"

// Epoch counts the changes of a site's active release. It grows by one with
// every change, also with a rollback, and never goes back. 0 means that
// nothing was ever active.
type Epoch uint64

// ID names a release of one site: its sequence number in at least six decimal
// digits, a dash, and the first twelve hex digits of its manifest's digest,
// for example 000042-3f9ac1d2e4b5.
type ID string

const (
	maxName   = 63
	idHex     = 12
	idMinSeq  = 6
	maxSeqLen = 18
	maxSeq    = 999_999_999_999_999_999
)

// ParseSite checks a site name.
func ParseSite(s string) (Site, error) { return parseName[Site]("site", s) }

// ParseNodeID checks a node id.
func ParseNodeID(s string) (NodeID, error) { return parseName[NodeID]("node id", s) }

// ParseGroup checks a group name.
func ParseGroup(s string) (Group, error) { return parseName[Group]("group", s) }

// parseName checks the alphabet that sites, nodes and groups share: the names
// stand inside etcd keys, grants, S3 keys and file names.
func parseName[T ~string](what, s string) (T, error) {
	if s == "" || len(s) > maxName {
		return "", fmt.Errorf("%w %s %q: 1 to %d characters are allowed", ErrInvalid, what, s, maxName)
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return "", fmt.Errorf("%w %s %q: lower-case letters, digits and, after the first character, '-' are allowed", ErrInvalid, what, s)
		}
	}
	return T(s), nil
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// NewID is the id of the release with this sequence number and manifest.
func NewID(seq uint64, manifest Digest) ID {
	return ID(fmt.Sprintf("%06d-%s", seq, manifest.Hex()[:idHex]))
}

// ParseID checks a whole release id.
func ParseID(s string) (ID, error) {
	seq, hash, ok := strings.Cut(s, "-")
	if !ok || len(hash) != idHex || !isLowerHex(hash) || !isSeq(seq) {
		return "", fmt.Errorf("%w release id %q: it looks like 000042-3f9ac1d2e4b5", ErrInvalid, s)
	}
	return ID(s), nil
}

// isSeq reports whether s is the one way to write a sequence number in an id.
// The first release has 1.
func isSeq(s string) bool {
	if len(s) < idMinSeq || len(s) > maxSeqLen || (len(s) > idMinSeq && s[0] == '0') || s == "000000" {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Seq is the sequence number in the id, 0 for an id that is not valid.
func (id ID) Seq() uint64 {
	seq, _, _ := strings.Cut(string(id), "-")
	if !isSeq(seq) {
		return 0
	}
	n, _ := strconv.ParseUint(seq, 10, 64) // at most 18 digits: cannot fail
	return n
}

// Names reports whether the id can name the release whose manifest has this
// digest.
func (id ID) Names(manifest Digest) bool {
	_, hash, ok := strings.Cut(string(id), "-")
	return ok && hash == manifest.Hex()[:idHex]
}
