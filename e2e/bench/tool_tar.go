package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/minio/minio-go/v7"
)

// tarTool keeps a whole build as one compressed object: tar | zstd -3, and
// back. It knows nothing of updates.
type tarTool struct{}

func (tarTool) name() string    { return "tar.zst" }
func (tarTool) needs() []string { return []string{"tar", "zstd"} }

func (t tarTool) open(_ context.Context, b *bed, s site, run int) (map[cell]step, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in := func(verb, object, dir string) program {
		return program{env: awsEnv, argv: []string{self, verb, b.s3, prefix(s.name, t.name(), run) + "/" + object, dir}}
	}
	put := func(object, dir string) step { return step{work: in(putVerb, object, dir).measure} }
	get := func(object, name, want string) (step, error) {
		dir, err := b.place(s.name, t.name(), run, name)
		return fetchStep(in(getVerb, object, dir), dir, want), err
	}
	steps := map[cell]step{firstPublish: put("v1.tar.zst", s.v1), updatePublish: put("v2.tar.zst", s.v2)}
	for c, args := range map[cell][3]string{
		firstPrefetch:  {"v1.tar.zst", "v1", s.v1},
		updatePrefetch: {"v2.tar.zst", "v2", s.v2},
		freshPrefetch:  {"v2.tar.zst", "fresh", s.v2},
	} {
		if steps[c], err = get(args[0], args[1], args[2]); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// This program is its own client for single objects, so that what it costs is
// that of a process of its own, as with the other tools.
const (
	putVerb = "put-tar" // ADDR KEY DIR
	getVerb = "get-tar"
)

// objectPart is how much of a stream is sent at once: the parts go up while
// the rest is compressed.
const objectPart = 16 << 20

func putTar(ctx context.Context, addr, key, dir string) error {
	store, err := newStoreClient(addr)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `tar -C "$0" -cf - . | zstd -3 -q -c`, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := putStream(ctx, store, key, out); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return cmd.Wait()
}

// putStream sends what fits into one part in one request.
func putStream(ctx context.Context, store *minio.Client, key string, in io.Reader) error {
	first := make([]byte, objectPart)
	n, err := io.ReadFull(in, first)
	size, whole := int64(-1), io.MultiReader(bytes.NewReader(first[:n]), in)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		size, whole = int64(n), bytes.NewReader(first[:n])
	case err != nil:
		return err
	}
	_, err = store.PutObject(ctx, bucket, key, whole, size, minio.PutObjectOptions{PartSize: objectPart, ConcurrentStreamParts: true, NumThreads: 2})
	return err
}

func getTar(ctx context.Context, addr, key, dir string) error {
	store, err := newStoreClient(addr)
	if err != nil {
		return err
	}
	o, err := store.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	defer o.Close()
	cmd := exec.CommandContext(ctx, "sh", "-c", `zstd -d -q -c | tar -C "$0" -xf -`, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := io.Copy(in, o); err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if err := in.Close(); err != nil {
		return err
	}
	return cmd.Wait()
}
