package objectstore

import (
	"context"
	"strings"

	"github.com/minio/minio-go/v7"
)

// Wrapper is a store around another one.
type Wrapper interface {
	Unwrap(ctx context.Context) (Store, error)
}

// Unwrap is Wrapper.
func (r *retry) Unwrap(context.Context) (Store, error) { return r.s, nil }

// Unwrap is Wrapper.
func (l *limited) Unwrap(context.Context) (Store, error) { return l.Store, nil }

// Unwrap is Wrapper.
func (c *PackCache) Unwrap(context.Context) (Store, error) { return c.Store, nil }

// s3Of is the S3 store that a store is or wraps, nil for none.
func s3Of(ctx context.Context, s Store) (*S3, error) {
	for {
		switch t := s.(type) {
		case *S3:
			return t, nil
		case Wrapper:
			var err error
			if s, err = t.Unwrap(ctx); err != nil {
				return nil, err
			}
		default:
			return nil, nil //nolint:nilnil // no store, no fault
		}
	}
}

// listUploads goes through multipart uploads that were not ended, of keys that
// are relman's. A store that knows none has none.
func listUploads(ctx context.Context, st Store, each func(SweepUpload) error) error {
	s, err := s3Of(ctx, st)
	if s == nil || err != nil {
		return err
	}
	core := minio.Core{Client: s.client}
	for _, below := range []string{"packs/", "sites/"} {
		var key, id string
		for {
			r, err := core.ListMultipartUploads(ctx, s.url.Bucket, s.url.Prefix+below, key, id, "", 1000)
			if minio.ToErrorResponse(err).Code == "NotImplemented" {
				return nil
			}
			if err != nil {
				return s.translate(ctx, "list multipart uploads", below, err)
			}
			for _, u := range r.Uploads {
				if rest, ok := strings.CutPrefix(u.Key, s.url.Prefix); ok {
					if err := each(SweepUpload{Key: rest, ID: u.UploadID, Begun: u.Initiated}); err != nil {
						return err
					}
				}
			}
			if key, id = r.NextKeyMarker, r.NextUploadIDMarker; !r.IsTruncated {
				break
			}
		}
	}
	return nil
}

// abortUpload ends a multipart upload; one that has ended is none any more.
func abortUpload(ctx context.Context, st Store, u SweepUpload) error {
	s, err := s3Of(ctx, st)
	if s == nil || err != nil {
		return err
	}
	err = minio.Core{Client: s.client}.AbortMultipartUpload(ctx, s.url.Bucket, s.url.Prefix+u.Key, u.ID)
	if minio.ToErrorResponse(err).Code == "NoSuchUpload" {
		return nil
	}
	return s.translate(ctx, "abort the multipart upload of", u.Key, err)
}
