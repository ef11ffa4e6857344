//go:build !noembed

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

var errDisk = errors.New("the disk is broken")

// disk records what is synced and fails when it is told to.
type disk struct {
	mu     sync.Mutex
	synced []string
	fail   func(nth int, name string) error // of the calls since reset; nil: never
}

func (k *disk) sync(f *os.File) error {
	k.mu.Lock()
	name, nth, fail := f.Name(), len(k.synced), k.fail
	k.synced = append(k.synced, name)
	k.mu.Unlock()
	if fail != nil {
		if err := fail(nth, name); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (k *disk) reset(fail func(nth int, name string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.synced, k.fail = nil, fail
}

func (k *disk) calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.synced)
}

// eachMetadata runs a test with both kinds of metadata.
func eachMetadata(t *testing.T, test func(t *testing.T, d *durable, k *disk)) {
	for _, kind := range []string{"attributes", "files"} {
		t.Run(kind, func(t *testing.T) {
			d, k := newDurable(t, kind == "files")
			test(t, d, k)
		})
	}
}

func newDurable(t *testing.T, sidecar bool) (*durable, *disk) {
	t.Helper()
	c, err := testConfig(t.TempDir()).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if sidecar {
		if err := os.Mkdir(filepath.Join(c.Dir, "metadata"), 0o700); err != nil {
			t.Fatal(err)
		}
	} else if !attributesWork(c.Dir) {
		t.Skip("no extended attributes here")
	}
	t.Chdir(c.Dir) // the backend changes it; this changes it back
	k := &disk{}
	d, err := openBackend(t.Context(), c, syncer{k.sync})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Shutdown)
	return d, k
}

const object = "sites/www/one.pack"

func put(ctx context.Context, d *durable, key, body string, create bool) error {
	bucket, length := "relman", int64(len(body))
	in := s3response.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body), ContentLength: &length}
	if star := "*"; create {
		in.IfNoneMatch = &star
	}
	_, err := d.PutObject(ctx, in)
	return err
}

func get(ctx context.Context, d *durable, key string) (string, error) {
	bucket, whole := "relman", ""
	out, err := d.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key, Range: &whole})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	return string(b), err
}

func status(err error) int {
	var api s3err.S3Error
	if errors.As(err, &api) {
		return api.StatusCode()
	}
	return 0
}

func TestPut_isDurableWhenAnswered(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		final := filepath.Join(d.root, "relman", object)
		visible := false
		k.reset(func(nth int, name string) error {
			if _, err := os.Lstat(final); err == nil && !visible {
				visible = true
				staged := func(n string) bool {
					return n != final && !strings.HasPrefix(n, d.root+string(filepath.Separator)+"relman/sites")
				}
				if nth == 0 || !slices.ContainsFunc(k.synced[:nth], staged) {
					t.Errorf("the object is visible at sync %d (%s), before its bytes are synced", nth, name)
				}
			}
			return nil
		})
		if err := put(t.Context(), d, object, "hello", true); err != nil {
			t.Fatal(err)
		}
		got := k.calls()
		want := []string{final}
		for p := final; p != d.root; {
			p = filepath.Dir(p)
			want = append(want, p)
		}
		if len(got) < len(want)+1 || !slices.Equal(got[len(got)-len(want):], want) {
			t.Errorf("synced %q, want some staged file and then %q", got, want)
		}
		if body, err := get(t.Context(), d, object); body != "hello" || err != nil {
			t.Errorf("read %q, %v", body, err)
		}
	})
}

func TestPut_failsWhenAnySyncFails(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		k.reset(nil)
		if err := put(t.Context(), d, "count/syncs", "hello", true); err != nil {
			t.Fatal(err)
		}
		for n := range k.calls() {
			key := fmt.Sprintf("fails/at%d", n)
			k.reset(func(nth int, _ string) error {
				if nth == n {
					return errDisk
				}
				return nil
			})
			if err := put(t.Context(), d, key, "hello", true); !errors.Is(err, errDisk) {
				t.Errorf("sync %d failed, and the put answered %v", n, err)
			}
			k.reset(nil)
			if _, err := get(t.Context(), d, key); status(err) != 404 {
				t.Errorf("sync %d failed, and the object is reported: %v", n, err)
			}
			err := put(t.Context(), d, key, "hello", true)
			if status(err) == 503 {
				err = put(t.Context(), d, key, "hello", true)
			}
			if err != nil {
				t.Errorf("after sync %d failed, the next put: %v", n, err)
			}
		}
		if n := len(d.keys.m); n != 0 {
			t.Errorf("%d keys are still locked or in doubt", n)
		}
	})
}

func TestPut_overAnotherStaysInDoubt(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		if err := put(t.Context(), d, object, "old", false); err != nil {
			t.Fatal(err)
		}
		k.reset(func(_ int, name string) error {
			if name == filepath.Join(d.root, "relman", object) {
				return errDisk
			}
			return nil
		})
		if err := put(t.Context(), d, object, "new", false); !errors.Is(err, errDisk) {
			t.Fatalf("the put answered %v", err)
		}
		k.reset(nil)
		if _, err := get(t.Context(), d, object); !errors.Is(err, errDisk) {
			t.Errorf("an object in doubt is served: %v", err)
		}
		if err := put(t.Context(), d, object, "new", true); !errors.Is(err, errDisk) {
			t.Errorf("an object in doubt exists: %v", err)
		}
		if err := put(t.Context(), d, object, "again", false); err != nil {
			t.Fatal(err)
		}
		if body, err := get(t.Context(), d, object); body != "again" || err != nil {
			t.Errorf("read %q, %v", body, err)
		}
	})
}

// While one put is between visible and durable, a reader and a second writer
// of the same key wait, and are told what became of it.
func TestPut_othersWaitForTheCommit(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails=%v", fails), func(t *testing.T) {
			d, k := newDurable(t, true)
			final := filepath.Join(d.root, "relman", object)
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			k.reset(func(_ int, name string) error {
				if name != final {
					return nil
				}
				hit := false
				once.Do(func() { hit = true; close(reached); <-release })
				if hit && fails {
					return errDisk
				}
				return nil
			})
			first, second, read := make(chan error, 1), make(chan error, 1), make(chan error, 1)
			go func() { first <- put(t.Context(), d, object, "hello", true) }()
			<-reached
			go func() { second <- put(t.Context(), d, object, "hello", true) }()
			go func() { _, err := get(t.Context(), d, object); read <- err }()
			waitFor(t, "both wait", func() bool {
				d.keys.mu.Lock()
				defer d.keys.mu.Unlock()
				return d.keys.m["relman/"+object].users == 3
			})
			select {
			case err := <-second:
				t.Fatalf("the second put did not wait: %v", err)
			case err := <-read:
				t.Fatalf("the read did not wait: %v", err)
			default:
			}
			close(release)
			firstErr, secondErr, readErr := <-first, <-second, <-read
			if !fails && (firstErr != nil || status(secondErr) != 412 || readErr != nil) {
				t.Errorf("first %v, second %v, read %v", firstErr, secondErr, readErr)
			}
			if fails && (!errors.Is(firstErr, errDisk) || secondErr == nil || status(secondErr) == 412 || status(readErr) != 404) {
				t.Errorf("first %v, second %v, read %v", firstErr, secondErr, readErr)
			}
		})
	}
}

func TestDelete_isDurableWhenAnswered(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		bucket, key, other := "relman", object, "sites/other"
		for _, o := range []string{key, other} {
			if err := put(t.Context(), d, o, "hello", true); err != nil {
				t.Fatal(err)
			}
		}
		k.reset(nil)
		if _, err := d.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
		// sites/www was empty and is gone with it.
		if got := k.calls(); !slices.Contains(got, filepath.Join(d.root, "relman", "sites")) {
			t.Errorf("synced %q", got)
		}
		k.reset(func(int, string) error { return errDisk })
		res, err := d.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &other}}}})
		if err != nil || len(res.Error) != 1 || len(res.Deleted) != 0 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

func TestMultipart_isDurableWhenAnswered(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		body := bytes.Repeat([]byte("relman"), 900_000)
		bucket, key := "relman", object
		upload := func() error { return multipart(t.Context(), d, object, body) }
		remove := func() {
			if _, err := d.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
		if err := upload(); err != nil {
			t.Fatal(err)
		}
		remove()
		k.reset(nil)
		if err := upload(); err != nil {
			t.Fatal(err)
		}
		got := k.calls()
		if got[len(got)-1] != d.root || !slices.Contains(got, filepath.Join(d.root, "relman", object)) {
			t.Errorf("synced %q", got)
		}
		if got, err := get(t.Context(), d, object); got != string(body) || err != nil {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		remove()
		// Every upload costs a while: the last syncs, and some before them.
		for n := len(got) - 1; n >= 0; n -= 1 + (len(got)-n)/4 {
			if strings.Contains(got[n], "/metadata/relman/.sgwtmp/") {
				continue // the bookkeeping of an upload; it may fail when the object is there
			}
			k.reset(func(nth int, _ string) error {
				if nth == n {
					return errDisk
				}
				return nil
			})
			if err := upload(); !errors.Is(err, errDisk) {
				t.Errorf("sync %d failed, and the upload answered %v", n, err)
			}
			k.reset(nil)
			if _, err := get(t.Context(), d, object); status(err) != 404 {
				t.Fatalf("sync %d failed, and the object is reported: %v", n, err)
			}
		}
	})
}

func multipart(ctx context.Context, d *durable, key string, body []byte) error {
	bucket := "relman"
	up, err := d.CreateMultipartUpload(ctx, s3response.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for i, half := range [][]byte{body[:5<<20], body[5<<20:]} {
		n, length := int32(i+1), int64(len(half))
		out, err := d.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: &up.UploadId, PartNumber: &n, Body: bytes.NewReader(half), ContentLength: &length})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{PartNumber: &n, ETag: out.ETag})
	}
	_, _, err = d.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: &up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}

func TestMetadata_isDurableWhenAnswered(t *testing.T) {
	eachMetadata(t, func(t *testing.T, d *durable, k *disk) {
		if err := put(t.Context(), d, object, "hello", true); err != nil {
			t.Fatal(err)
		}
		for name, write := range map[string]func() error{
			"tagging": func() error {
				return d.PutObjectTagging(t.Context(), "relman", object, "", map[string]string{"a": "b"})
			},
			"policy":        func() error { return d.PutBucketPolicy(t.Context(), "relman", []byte("{}")) },
			"delete policy": func() error { return d.DeleteBucketPolicy(t.Context(), "relman") },
		} {
			_ = d.PutBucketPolicy(t.Context(), "relman", []byte("{}"))
			k.reset(func(int, string) error { return errDisk })
			if err := write(); !errors.Is(err, errDisk) {
				t.Errorf("%s: %v", name, err)
			}
			k.reset(nil)
		}
	})
}

func TestOpen_completesABucketThatLostItsAttributes(t *testing.T) {
	d, _ := newDurable(t, true)
	dir := filepath.Dir(d.root)
	if err := os.RemoveAll(filepath.Join(dir, "metadata", "relman")); err != nil {
		t.Fatal(err)
	}
	c, err := testConfig(dir).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	again, err := openBackend(t.Context(), c, syncer{(*os.File).Sync})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Shutdown()
	if _, err := again.GetBucketAcl(t.Context(), &s3.GetBucketAclInput{Bucket: &c.Bucket}); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}
