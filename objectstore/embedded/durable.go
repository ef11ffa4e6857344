//go:build !noembed

package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// durable is the POSIX backend whose answered writes survive a power cut. An
// object's bytes are synced before it becomes visible; then the file once more
// (its attributes) and every directory from it up to the root, before the
// client hears of it. Attributes that are written by path are synced by the
// metadata storer.
type durable struct {
	*posix.Posix
	syncer
	root     string // absolute
	metadata meta.MetadataStorer
	keys     keyLocks
	busy     atomic.Int64 // writes under way and bodies being read
}

var _ backend.Backend = (*durable)(nil)

// syncer makes a file or directory durable; tests replace the call.
type syncer struct{ sync func(*os.File) error }

func (s syncer) syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(f), f.Close())
}

// syncUp makes path and the entries that lead to it durable. Directories that
// have not changed cost next to nothing.
func (d *durable) syncUp(path string) error { return d.syncBetween(path, d.root) }

func (s syncer) syncBetween(path, root string) error {
	for {
		if err := s.syncPath(path); err != nil {
			return err
		}
		if path == root || path == filepath.Dir(path) {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// syncRemoved makes the absence of path durable: the nearest directory that is
// still there is the one that lost an entry.
func (s syncer) syncRemoved(path, root string) error {
	for path != root && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		if err := s.syncPath(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	ctx, c := d.commit(ctx, in.Bucket, in.Key)
	defer c.end()
	out, err := d.PutObjectWithPostFunc(ctx, in, func(f *os.File) error {
		if err := d.sync(f); err != nil {
			return fmt.Errorf("sync %s: %w", c.name(), err)
		}
		return c.lock(ctx)
	})
	return out, c.finish(ctx, err, in.IfNoneMatch != nil)
}

func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	ctx, c := d.commit(ctx, in.Bucket, in.Key)
	defer c.end()
	if err := c.lock(ctx); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	out, err := d.Posix.CopyObject(ctx, in)
	return out, c.finish(ctx, err, false)
}

func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	ctx, c := d.commit(ctx, in.Bucket, in.Key)
	defer c.end()
	if err := c.lock(ctx); err != nil {
		return s3response.CompleteMultipartUploadResult{}, "", err
	}
	// A copy that fails is tried again by the backend, behind what it has
	// already written; a sync that fails must therefore not look like one.
	var failed error
	out, version, err := d.CompleteMultipartUploadWithCopy(ctx, in, func(from, to *os.File) (bool, error) {
		if _, err := io.Copy(to, from); err != nil {
			return true, err
		}
		failed = errors.Join(failed, d.sync(to))
		return true, nil
	})
	if err == nil && failed != nil {
		return out, "", c.undo(ctx, fmt.Errorf("sync %s: %w", c.name(), failed))
	}
	return out, version, c.finish(ctx, err, in.IfNoneMatch != nil)
}

// uploadPath is where the backend keeps the parts of an upload.
func (d *durable) uploadPath(bucket, key, upload string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(d.root, bucket, posix.MetaTmpMultipartDir, fmt.Sprintf("%x", sum), upload)
}

func (d *durable) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	out, err := d.Posix.CreateMultipartUpload(ctx, in)
	if err != nil {
		return out, err
	}
	return out, d.syncUp(d.uploadPath(out.Bucket, out.Key, out.UploadId))
}

func (d *durable) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	d.busy.Add(1)
	defer d.busy.Add(-1)
	ctx = context.WithoutCancel(ctx)
	out, err := d.UploadPartWithPostFunc(ctx, in, func(f *os.File) error { return d.sync(f) })
	if err != nil {
		return out, err
	}
	dir := d.uploadPath(*in.Bucket, *in.Key, *in.UploadId)
	return out, d.syncUp(filepath.Join(dir, strconv.Itoa(int(*in.PartNumber))))
}

func (d *durable) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	d.busy.Add(1)
	defer d.busy.Add(-1)
	ctx = context.WithoutCancel(ctx)
	out, err := d.Posix.UploadPartCopy(ctx, in)
	if err != nil {
		return out, err
	}
	dir := d.uploadPath(*in.Bucket, *in.Key, *in.UploadId)
	return out, d.syncUp(filepath.Join(dir, strconv.Itoa(int(*in.PartNumber))))
}

func (d *durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	ctx, c := d.commit(ctx, in.Bucket, in.Key)
	defer c.end()
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	out, err := d.Posix.DeleteObject(ctx, in)
	if err != nil {
		return out, err
	}
	if err := d.syncRemoved(c.path(), d.root); err != nil {
		return nil, fmt.Errorf("sync the removal of %s: %w", c.name(), err)
	}
	d.keys.setDoubt(c.name(), nil)
	return out, nil
}

// DeleteObjects is the backend's own loop, over the DeleteObject above.
func (d *durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	var res s3response.DeleteResult
	for _, o := range in.Delete.Objects {
		if _, err := d.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: in.Bucket, Key: o.Key, VersionId: o.VersionId}); err != nil {
			res.Error = append(res.Error, s3err.ObjectDeleteError(o.Key, o.VersionId, err))
			continue
		}
		res.Deleted = append(res.Deleted, types.DeletedObject{Key: o.Key, VersionId: o.VersionId})
	}
	return res, nil
}

func (d *durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	if err := d.Posix.CreateBucket(ctx, in, acl); err != nil {
		return err
	}
	return d.syncUp(filepath.Join(d.root, *in.Bucket))
}

func (d *durable) DeleteBucket(ctx context.Context, bucket string) error {
	if err := d.Posix.DeleteBucket(ctx, bucket); err != nil {
		return err
	}
	return d.syncPath(d.root)
}
