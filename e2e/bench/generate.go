package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// generated are the sites that are made: the same bytes every time.
var generated = map[string]struct {
	make func(context.Context, site) error
	big  bool
}{
	"many100k": {make: func(_ context.Context, s site) error { return makeMany(s, 100_000, 10) }},
	"many10k":  {make: func(_ context.Context, s site) error { return makeMany(s, 10_000, 100) }},
	"big500":   {make: func(_ context.Context, s site) error { return makeBig(s, 500<<20) }, big: true},
	"exe":      {make: makeExecutable, big: true},
}

// makeMany makes files of 4 KiB, a hundred in each folder, of which some
// change.
func makeMany(s site, files, changed int) error {
	every := files / changed
	for version, dir := range []string{s.v1, s.v2} {
		for i := range files {
			path := filepath.Join(dir, fmt.Sprintf("%03d", i/100), fmt.Sprintf("%06d.html", i))
			if i%100 == 0 {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
			}
			seed := uint64(i)
			if version == 1 && i%every == 0 {
				seed += uint64(files)
			}
			if err := os.WriteFile(path, page(seed, 4<<10), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// page is text that compresses about as well as HTML does.
func page(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < size {
		// Few words are frequent, and many are not.
		n := int(1 / (r.Float64() + 0.0005))
		fmt.Fprintf(&b, "<p class=\"c%d\">w%x ", n%7, n*2654435761%100_000)
	}
	return b.Bytes()[:size]
}

// makeBig makes one file that does not compress. In its second version a
// hundredth is new, in one piece, and another 1,000 bytes were put in before.
func makeBig(s site, size int) error {
	content := make([]byte, size)
	fill := func(b []byte, seed byte) error {
		_, err := io.ReadFull(rand.NewChaCha8([32]byte{seed}), b)
		return err
	}
	if err := fill(content, 1); err != nil {
		return err
	}
	if err := writeTree(s.v1, map[string][]byte{"download.bin": content}); err != nil {
		return err
	}
	more := make([]byte, 1000)
	if err := fill(more, 2); err != nil {
		return err
	}
	if err := fill(content[size/2:size/2+size/100], 3); err != nil {
		return err
	}
	return writeTree(s.v2, map[string][]byte{"download.bin": slices.Insert(content, size/4, more...)})
}

// toolchains are two versions of Go; a file of 122 MB is made of the
// executables of each.
var toolchains = [2]string{"v0.0.1-go1.24.5.linux-amd64", "v0.0.1-go1.24.6.linux-amd64"}

func makeExecutable(ctx context.Context, s site) error {
	for i, dir := range []string{s.v1, s.v2} {
		out, err := program{env: []string{"HOME=" + os.Getenv("HOME"), "GOTOOLCHAIN=local"}, argv: []string{"go", "mod", "download", "-json", "golang.org/toolchain@" + toolchains[i]}}.output(ctx)
		if err != nil {
			return err
		}
		var mod struct{ Dir string }
		if err := json.Unmarshal([]byte(out), &mod); err != nil {
			return err
		}
		var all []string
		for _, folder := range []string{"bin", "pkg/tool/linux_amd64"} {
			names, err := filepath.Glob(filepath.Join(mod.Dir, folder, "*"))
			if err != nil {
				return err
			}
			all = append(all, names...)
		}
		var content []byte
		for _, name := range all {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			content = append(content, b...)
		}
		if err := writeTree(dir, map[string][]byte{"download": content}); err != nil {
			return err
		}
	}
	return nil
}

// writeTree writes files, and a page that links to them.
func writeTree(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	index := new(strings.Builder)
	for name, content := range files {
		fmt.Fprintf(index, "<a href=%q>%d bytes</a>\n", name, len(content))
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "index.html"), []byte(index.String()), 0o644)
}
