package objectstore_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"relman/objectstore"
)

// TestSweep_uploads: multipart uploads that nobody ends are aborted when they
// are old enough, and those of others are not.
func TestSweep_uploads(t *testing.T) {
	s := startS3(t, t.TempDir())
	st := openS3(t, s, "mine/")
	u, err := objectstore.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	core, err := minio.NewCore(u.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(testCredentials.AccessKey, testCredentials.SecretKey, ""), Region: u.Region, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(key string) string {
		t.Helper()
		id, err := core.NewMultipartUpload(t.Context(), u.Bucket, key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		part := bytes.Repeat([]byte("x"), 5<<20)
		if _, err := core.PutObjectPart(t.Context(), u.Bucket, key, id, 1, bytes.NewReader(part), int64(len(part)), minio.PutObjectPartOptions{}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := begin("mine/packs/ab/cd.pack")
	begin("others/packs/ab/cd.pack")

	wrapped := objectstore.Retry(objectstore.Limit(st, 1<<30), nil)
	for _, c := range []struct {
		age  time.Duration
		want int
	}{{time.Hour, 0}, {3 * time.Hour, 1}, {3 * time.Hour, 0}} {
		p, err := objectstore.SurveySweep(t.Context(), wrapped, nil, objectstore.SweepOptions{Grace: 2 * time.Hour, Now: time.Now().Add(c.age)})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Uploads) != c.want || c.want > 0 && (p.Uploads[0].Key != "packs/ab/cd.pack" || p.Uploads[0].ID != id) {
			t.Errorf("%v later: uploads %+v", c.age, p.Uploads)
		}
		stats, err := p.Run(t.Context(), wrapped, func(context.Context) error { return nil })
		if err != nil || stats.AbortedUploads != c.want {
			t.Errorf("%v later: %+v, %v", c.age, stats, err)
		}
	}
	r, err := core.ListMultipartUploads(t.Context(), u.Bucket, "", "", "", "", 10)
	if err != nil || len(r.Uploads) != 1 {
		t.Errorf("in the end there are %+v, %v", r.Uploads, err)
	}
}
