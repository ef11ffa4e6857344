package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"relman/release"
)

// What a caller branches on.
var (
	// ErrNotFound: there is no such object, or no such bucket.
	ErrNotFound = errors.New("object not found")
	// ErrExists: a create-only Put found the object there.
	ErrExists = errors.New("object exists")
	// ErrCorrupt: the bytes are not those whose digest was asked for.
	ErrCorrupt = errors.New("corrupt object")
	// ErrUnavailable: the store cannot be reached or does not answer properly.
	ErrUnavailable = errors.New("object store unavailable")
	// ErrDenied: the store refused the credentials.
	ErrDenied = errors.New("denied by the object store")
	// ErrChanged: a file of the build changed while it was read.
	ErrChanged = errors.New("file changed while it was read")
)

// CorruptError says which bytes were wrong; it is ErrCorrupt.
type CorruptError struct {
	Key  string // the object
	What string // "frame 3", or the path of the file that came out wrong
	Want release.Digest
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: %s does not hold the bytes of %s", e.Key, e.What, e.Want)
}

func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// Info is what a store knows of an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Store is a flat set of immutable objects: bytes by key. Every method is safe
// for concurrent use and does not retry (see Retry); a Put that has been
// answered is durable and visible to every later call. Errors name the key and
// unwrap to the sentinels above.
type Store interface {
	// Put stores body as one object of 1 byte to 64 MiB. With create it is
	// ErrExists, and changes nothing, when the key exists. (No object of relman
	// is empty, and not every server gets an empty upload right.) Once Put has
	// returned, nobody reads body any more.
	Put(ctx context.Context, key string, body []byte, create bool) error
	// Get reads length bytes from offset, or all from offset on when length is
	// negative. A range that reaches beyond the object is an error of the
	// reader: io.ErrUnexpectedEOF.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat is ErrNotFound when there is no such object.
	Stat(ctx context.Context, key string) (Info, error)
	// List calls each with every object whose key begins with prefix, in no
	// particular order, until it returns an error.
	List(ctx context.Context, prefix string, each func(Info) error) error
	// Delete removes an object; one that is not there is removed already.
	Delete(ctx context.Context, key string) error
}

const maxObject = 64 << 20

// checkSize refuses what is no object of relman.
func checkSize(key string, body []byte) error {
	if len(body) == 0 || len(body) > maxObject {
		return fmt.Errorf("put %s: %d bytes, 1 to %d are allowed", key, len(body), maxObject)
	}
	return nil
}
