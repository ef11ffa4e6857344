package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a Store in a bucket. It does not retry; see Retry.
type S3 struct {
	url    URL
	client *minio.Client

	unconditional atomic.Bool // the store has refused a conditional write
}

var _ Store = (*S3)(nil)

// OpenS3 makes the client; nothing is sent yet.
func OpenS3(u URL, c Credentials) (*S3, error) {
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	if c == (Credentials{}) {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	lookup := minio.BucketLookupAuto
	if u.PathStyle {
		lookup = minio.BucketLookupPath
	}
	transport, err := minio.DefaultTransport(!u.Plain)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", u, err)
	}
	transport.MaxIdleConnsPerHost = 32
	transport.ResponseHeaderTimeout = 30 * time.Second
	region := u.Region
	if region == "" {
		region = "us-east-1" // without one, the client asks for the bucket's before every first call
	}
	client, err := minio.New(u.Endpoint, &minio.Options{
		Creds: creds, Secure: !u.Plain, Region: region, BucketLookup: lookup, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", u, err)
	}
	return &S3{url: u, client: client}, nil
}

// EnsureBucket makes the bucket if it does not exist.
func (s *S3) EnsureBucket(ctx context.Context) error {
	err := s.client.MakeBucket(ctx, s.url.Bucket, minio.MakeBucketOptions{Region: s.url.Region})
	switch code := minio.ToErrorResponse(err).Code; {
	case err == nil, code == "BucketAlreadyOwnedByYou", code == "BucketAlreadyExists":
		return nil
	default:
		return s.translate(ctx, "make the bucket", s.url.Bucket, err)
	}
}

// Put stores an object.
func (s *S3) Put(ctx context.Context, key string, body []byte, create bool) error {
	if err := checkSize(key, body); err != nil {
		return err
	}
	if !create {
		return s.translate(ctx, "put", key, s.put(ctx, key, body, false))
	}
	if !s.unconditional.Load() {
		err := s.put(ctx, key, body, true)
		if minio.ToErrorResponse(err).Code != "NotImplemented" {
			silent := errors.Is(err, errTaken)
			err = s.translate(ctx, "put", key, err)
			// A store that has the object may hang up while it is still sent, and its
			// answer is lost.
			if errors.Is(err, ErrUnavailable) && !silent && ctx.Err() == nil {
				if _, statErr := s.Stat(ctx, key); statErr == nil {
					return fmt.Errorf("put %s (%s): %w", key, s.url, ErrExists)
				}
			}
			return err
		}
		s.unconditional.Store(true)
	}
	// Where two writers race past this, they write the same bytes: keys are
	// digests of contents.
	if _, err := s.Stat(ctx, key); err == nil {
		return fmt.Errorf("put %s (%s): %w", key, s.url, ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.translate(ctx, "put", key, s.put(ctx, key, body, false))
}

func (s *S3) put(ctx context.Context, key string, body []byte, condition bool) error {
	// The signature covers this sum, and the store compares it with the body.
	// That is one sum for both sides; the client alone would sign piece by piece
	// without TLS, and send an MD5 with it.
	o := minio.PutObjectOptions{DisableContentSha256: true, ContentType: "application/octet-stream"}
	if condition {
		o.SetMatchETagExcept("*")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, mostPut, errPut)
	defer cancel()
	// Once all is sent, the transport's own limit holds for the answer.
	taken := newIdle(ctx)
	defer taken.stop()
	r := &lent{r: bytes.NewReader(body), idle: taken}
	defer r.end()
	core := minio.Core{Client: s.client}
	_, err := core.PutObject(taken.ctx, s.url.Bucket, s.url.Prefix+key, r, int64(len(body)), "", sumOf(key, body).Hex(), o) //nolint:contextcheck // made from ctx
	if cause := context.Cause(taken.ctx); err != nil && errors.Is(cause, errIdle) && ctx.Err() == nil {                     //nolint:contextcheck // the same
		return fmt.Errorf("%w of the %d bytes of the object", errTaken, len(body))
	}
	return err
}

// lent is a body that the caller of Put wants back: net/http may still read it
// when a request has failed.
type lent struct {
	idle *idle

	mu sync.Mutex
	r  *bytes.Reader
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.r.Read(p)
	if l.r.Len() > 0 {
		l.idle.wait()
	} else {
		l.idle.rest()
	}
	return n, err
}

func (l *lent) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.Reset(nil)
}

// Get reads a range of an object.
func (s *S3) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		_, err := s.Stat(ctx, key)
		return io.NopCloser(bytes.NewReader(nil)), err
	}
	var o minio.GetObjectOptions
	if length > 0 {
		if err := o.SetRange(offset, offset+length-1); err != nil {
			return nil, fmt.Errorf("get %s: %w", key, err)
		}
	} else if offset > 0 {
		if err := o.SetRange(offset, 0); err != nil {
			return nil, fmt.Errorf("get %s: %w", key, err)
		}
	}
	core := minio.Core{Client: s.client}
	idle := newIdle(ctx)
	body, info, _, err := core.GetObject(idle.ctx, s.url.Bucket, s.url.Prefix+key, o) //nolint:contextcheck // made from ctx
	if err != nil {
		idle.stop()
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return io.NopCloser(beyond{key}), nil
		}
		return nil, s.translate(ctx, "get", key, err)
	}
	idle.rest()
	if length < 0 {
		length = info.Size
	}
	return &s3Body{body: body, s: s, key: key, left: length, idle: idle}, nil
}

// mostIdle is how long a store may send nothing, or take for one object, before
// the connection is given up.
var mostIdle = 30 * time.Second //nolint:gochecknoglobals // tests shorten it

const mostPut = 5 * time.Minute

var (
	errIdle  = errors.New("the store sent nothing for 30 s")
	errTaken = errors.New("the store took no more for 30 s")
	errPut   = errors.New("an object was not taken within 5 minutes")
)

// idle ends a body that stands still: the other end may be gone without a word.
// A reader that takes its time between two reads is not meant.
type idle struct {
	ctx    context.Context //nolint:containedctx // the body's own
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func newIdle(ctx context.Context) *idle {
	ctx, cancel := context.WithCancelCause(ctx)
	return &idle{ctx, cancel, time.AfterFunc(mostIdle, func() { cancel(errIdle) })}
}

func (i *idle) wait() { i.timer.Reset(mostIdle) }
func (i *idle) rest() { i.timer.Stop() }

func (i *idle) stop() {
	i.timer.Stop()
	i.cancel(nil)
}

// beyond is a range that begins after the end of its object.
type beyond struct{ key string }

func (b beyond) Read([]byte) (int, error) {
	return 0, fmt.Errorf("get %s: %w: the range is beyond the object", b.key, io.ErrUnexpectedEOF)
}

// s3Body counts, so that a body that ends early is not taken for a whole one.
type s3Body struct {
	body io.ReadCloser
	s    *S3
	key  string
	left int64
	idle *idle
}

func (b *s3Body) Read(p []byte) (int, error) {
	b.idle.wait()
	n, err := b.body.Read(p)
	b.idle.rest()
	b.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && b.left <= 0:
		return n, io.EOF
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return n, fmt.Errorf("get %s: %w, %d bytes are missing", b.key, io.ErrUnexpectedEOF, b.left)
	case errors.Is(context.Cause(b.idle.ctx), errIdle):
		return n, fmt.Errorf("get %s (%s): %w: %w", b.key, b.s.url, ErrUnavailable, errIdle)
	default:
		return n, b.s.translate(b.idle.ctx, "get", b.key, err)
	}
}

func (b *s3Body) Close() error {
	b.idle.stop()
	return b.body.Close()
}

// Stat asks for an object's size and time.
func (s *S3) Stat(ctx context.Context, key string) (Info, error) {
	i, err := s.client.StatObject(ctx, s.url.Bucket, s.url.Prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.translate(ctx, "look for", key, err)
	}
	return Info{Key: key, Size: i.Size, Modified: i.LastModified}, nil
}

// List goes through all objects with a prefix.
func (s *S3) List(ctx context.Context, prefix string, each func(Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range s.client.ListObjects(ctx, s.url.Bucket, minio.ListObjectsOptions{Prefix: s.url.Prefix + prefix, Recursive: true}) {
		if i.Err != nil {
			return s.translate(ctx, "list", prefix, i.Err)
		}
		if err := each(Info{Key: i.Key[len(s.url.Prefix):], Size: i.Size, Modified: i.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete removes an object.
func (s *S3) Delete(ctx context.Context, key string) error {
	err := s.client.RemoveObject(ctx, s.url.Bucket, s.url.Prefix+key, minio.RemoveObjectOptions{})
	if err = s.translate(ctx, "delete", key, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// translate keeps the client's errors inside this file. Whether ctx ended is
// asked of ctx: what the client returns then may be the cause alone.
func (s *S3) translate(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("%s %s (%s)", op, key, s.url)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w: %w", where, ErrUnavailable, ctx.Err())
	}
	r := minio.ToErrorResponse(err)
	switch r.Code {
	case "NoSuchKey", "NotFound":
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case "NoSuchBucket":
		return fmt.Errorf("%s: %w: there is no bucket %s", where, ErrNotFound, s.url.Bucket)
	case "PreconditionFailed":
		return fmt.Errorf("%s: %w", where, ErrExists)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
		"XAdminUserNotFound": // versitygw's word for an unknown access key, with status 404
		return fmt.Errorf("%s: %w: %s; check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)", where, ErrDenied, r.Code)
	}
	switch r.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: %s; check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)", where, ErrDenied, r.Code)
	default:
		return fmt.Errorf("%s: %w: %v", where, ErrUnavailable, err) //nolint:errorlint // the client's errors stay in this file
	}
}
