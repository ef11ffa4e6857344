package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
)

// floorName is the row of what cannot be avoided.
const floorName = "floor"

// Floors: each is done alone, with nothing around it.
const (
	readFloor cell = "read and SHA-256 all"
	tarFloor  cell = "tar | zstd -3"
	untarOf   cell = "zstd -d | untar"
	linkFloor cell = "hard-link copy"
	putFloor  cell = "raw PUT of the bytes"
	getFloor  cell = "raw GET of the bytes"
)

var allFloors = []cell{readFloor, tarFloor, untarOf, linkFloor, putFloor, getFloor}

// floorOf is what a cell is compared with. A local cache may well get below
// the floor of a publish without changes, which reads everything.
var floorOf = map[cell]cell{
	firstPublish: tarFloor, updatePublish: readFloor, noopPublish: readFloor, coldPublish: readFloor,
	firstPrefetch: untarOf, updatePrefetch: linkFloor, freshPrefetch: untarOf,
}

type floorStep struct {
	cell cell
	step step
}

func floors(b *bed, s site, run int) []floorStep {
	dir := filepath.Join(b.dir, "work", fmt.Sprintf("%s-%d", s.name, run), floorName)
	in := func(name string) string { return filepath.Join(dir, name) }
	shell := func(script string, args ...string) func(context.Context) (sample, error) {
		return program{argv: append([]string{"sh", "-c", script}, args...)}.measure
	}
	object := prefix(s.name, floorName, run) + "/all"
	return []floorStep{
		{readFloor, step{work: timed(func(context.Context) error { _, err := readTree(s.v2); return err })}},
		{tarFloor, step{work: shell(`tar -C "$0" -cf - . | zstd -3 -q -c >/dev/null`, s.v2)}},
		{untarOf, step{
			before: program{argv: []string{"sh", "-c", `mkdir -p "$1" "$2" && tar -C "$0" -cf - . | zstd -3 -q -c >"$2/all.tar.zst"`, s.v2, in("untar"), dir}}.run,
			work:   shell(`zstd -d -q -c "$0/all.tar.zst" | tar -C "$1" -xf -`, dir, in("untar")),
			into:   fixed(in("untar")), want: s.v2,
		}},
		{linkFloor, step{work: shell(`cp -al "$0" "$1"`, in("untar"), in("links")), into: fixed(in("links")), want: s.v2}},
		{putFloor, step{work: timed(func(ctx context.Context) error { return putRaw(ctx, b.store, object, s.v2) })}},
		{getFloor, step{work: timed(func(ctx context.Context) error { return getRaw(ctx, b.store, object) })}},
	}
}

// timed is for what this program does itself; only its time is known.
func timed(do func(context.Context) error) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		began := time.Now()
		err := do(ctx)
		return sample{Wall: time.Since(began).Seconds()}, err
	}
}

// putRaw sends all files as one object, one after the other.
func putRaw(ctx context.Context, store *minio.Client, object, dir string) error {
	r := &concat{}
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			r.paths, size = append(r.paths, path), size+info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = store.PutObject(ctx, bucket, object, r, size, minio.PutObjectOptions{DisableMultipart: true})
	return err
}

func getRaw(ctx context.Context, store *minio.Client, object string) error {
	o, err := store.GetObject(ctx, bucket, object, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer o.Close()
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{o}, make([]byte, 1<<20))
	return err
}

// concat reads files one after the other.
type concat struct {
	paths []string
	now   *os.File
}

func (c *concat) Read(b []byte) (int, error) {
	for {
		if c.now == nil {
			if len(c.paths) == 0 {
				return 0, io.EOF
			}
			f, err := os.Open(c.paths[0])
			if err != nil {
				return 0, err
			}
			c.now, c.paths = f, c.paths[1:]
		}
		n, err := c.now.Read(b)
		if n > 0 {
			return n, nil
		}
		_ = c.now.Close() // it was only read
		if c.now = nil; err != io.EOF {
			return 0, err
		}
	}
}
