package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// archives are the real sites, by name: an archive and the folder in it.
var archives = map[string][2]string{
	"docs":   {"docs.tar.zst", "docs-linux"},
	"mkt":    {"mkt.tar.zst", "mkt"},
	"etcdio": {"etcdio.tar.zst", "etcdio"},
}

// inputs finds or makes sites.
type inputs struct {
	archives string            // where the real ones are
	trees    map[string]string // named by the user: NAME to DIR1,DIR2
	dir      string            // where to unpack and to generate
}

// site is the site of a name.
func (in inputs) site(ctx context.Context, name string) (site, error) {
	dir := filepath.Join(in.dir, "inputs", name)
	s := site{name: name, v1: filepath.Join(dir, "v1"), v2: filepath.Join(dir, "v2")}
	if dirs, ok := in.trees[name]; ok {
		v1, v2, ok := strings.Cut(dirs, ",")
		if !ok {
			return s, fmt.Errorf("-tree %s=%s: it looks like NAME=DIR1,DIR2", name, dirs)
		}
		var err1, err2 error
		s.v1, err1 = existing(v1)
		s.v2, err2 = existing(v2)
		return s, errors.Join(err1, err2)
	}
	if a, ok := archives[name]; ok {
		archive, err := existing(filepath.Join(in.archives, a[0]))
		if err != nil {
			return s, fmt.Errorf("site %s: %w (-sites names where the archives are, -tree %s=DIR1,DIR2 a site of your own)", name, err, name)
		}
		s.v1, s.v2 = filepath.Join(dir, a[1], "v1"), filepath.Join(dir, a[1], "v2")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return s, err
		}
		return s, program{argv: []string{"sh", "-c", `zstd -d --long=31 -q -c "$0" | tar -C "$1" -xf -`, archive, dir}}.run(ctx)
	}
	g, ok := generated[name]
	if !ok {
		return s, fmt.Errorf("there is no site %q", name)
	}
	s.big = g.big
	return s, g.make(ctx, s)
}

func existing(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	return path, err
}
