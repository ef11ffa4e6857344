//go:build !noembed

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3err"
)

// commit is one write on its way from visible to durable.
type commit struct {
	d           *durable
	bucket, key string
	locked      bool
	existed     bool // the object was there when the lock was taken
}

// commit begins a write. Its context lasts to the end of it: the server's own
// ends when the server is told to stop, and what is under way is finished then.
func (d *durable) commit(ctx context.Context, bucket, key *string) (context.Context, *commit) {
	d.busy.Add(1)
	c := &commit{d: d}
	if bucket != nil && key != nil {
		c.bucket, c.key = *bucket, *key
	}
	return context.WithoutCancel(ctx), c
}

func (c *commit) name() string { return lockName(&c.bucket, &c.key) }

func lockName(bucket, key *string) string {
	if bucket == nil || key == nil {
		return ""
	}
	return *bucket + "/" + *key
}

func (c *commit) path() string { return filepath.Join(c.d.root, c.bucket, c.key) }

// lock is taken when the bytes are staged and durable, so that a slow client
// does not hold up others that write the same key.
func (c *commit) lock(ctx context.Context) error {
	if c.locked {
		return nil
	}
	if err := c.d.keys.lock(ctx, c.name()); err != nil {
		return err
	}
	_, err := os.Lstat(c.path())
	c.locked, c.existed = true, err == nil
	return nil
}

// end is deferred by whoever began.
func (c *commit) end() {
	c.d.busy.Add(-1)
	if c.locked {
		c.d.keys.unlock(c.name())
	}
}

// finish turns what the backend answered into what the client may be told:
// success only when the object is durable, and "it exists" only when the one
// that exists is.
func (c *commit) finish(ctx context.Context, err error, createOnly bool) error {
	if lerr := c.lock(ctx); lerr != nil {
		return errors.Join(err, lerr)
	}
	if err != nil {
		if doubt := c.d.keys.doubt(c.name()); doubt != nil {
			return doubt
		}
		var api s3err.S3Error
		if createOnly && !c.existed && errors.As(err, &api) && api.StatusCode() == http.StatusPreconditionFailed {
			// The backend looks at the ETag. That one belongs to a writer that
			// had to take its object back, or that ended between writing the
			// metadata and the object: the client shall ask again.
			if derr := c.d.metadata.DeleteAttributes(c.bucket, c.key); derr != nil {
				return derr
			}
			return s3err.GetAPIError(s3err.ErrSlowDown)
		}
		return err
	}
	if err := c.d.syncUp(c.path()); err != nil {
		return c.undo(ctx, fmt.Errorf("sync %s: %w", c.name(), err))
	}
	c.d.keys.setDoubt(c.name(), nil)
	return nil
}

// undo takes back an object that could not be made durable. One that replaced
// another stays, because the other one was promised; the key is then in doubt
// until it is written again or the server is restarted, and whoever asks for
// it is told so. (A second fsync of the same file would say yes without having
// written anything.)
func (c *commit) undo(ctx context.Context, cause error) error {
	if c.existed {
		c.d.keys.setDoubt(c.name(), cause)
		return cause
	}
	if _, err := c.d.Posix.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.bucket, Key: &c.key}); err != nil {
		cause = errors.Join(cause, fmt.Errorf("take %s back: %w", c.name(), err))
		c.d.keys.setDoubt(c.name(), cause)
	}
	return cause
}
