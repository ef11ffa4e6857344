package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// debian names the packages of programs that Debian has.
var debian = map[string]string{
	"tar": "tar", "zstd": "zstd", "rsync": "rsync", "s3cmd": "s3cmd",
	"casync": "casync", "ostree": "ostree", "rclone": "rclone", "restic": "restic",
	"nginx": "nginx-light", "wrk": "wrk",
}

// built are programs that Go builds: Debian's are years old. Each is made in a
// module of its own, so that none of it comes into this one.
var built = map[string][3]string{ // module, version, folder of the command
	"rclone": {"github.com/rclone/rclone", "v1.71.0", ""},
	"restic": {"github.com/restic/restic", "v0.18.0", "/cmd/restic"},
}

// install fetches a program: from the Go module proxy, or from Debian.
func install(ctx context.Context, name string, say func(string, ...any)) error {
	var err error
	if b, ok := built[name]; ok {
		say("building %s %s", name, b[1])
		if err = buildTool(ctx, name, b); err == nil {
			return nil
		}
	}
	pkg, ok := debian[name]
	if !ok || os.Getuid() != 0 {
		return errors.Join(err, fmt.Errorf("%s: install it, or run this as root", name))
	}
	say("installing %s with apt-get", pkg)
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	aptErr := program{env: env, argv: []string{"apt-get", "install", "-y", "-qq", "--no-install-recommends", pkg}}.run(ctx)
	if aptErr != nil { // its lists may be old
		aptErr = program{env: env, argv: []string{"apt-get", "update", "-qq"}}.run(ctx)
		if aptErr == nil {
			aptErr = program{env: env, argv: []string{"apt-get", "install", "-y", "-qq", "--no-install-recommends", pkg}}.run(ctx)
		}
	}
	if aptErr != nil {
		return errors.Join(err, aptErr)
	}
	return nil
}

func buildTool(ctx context.Context, name string, b [3]string) (err error) {
	dir, err := os.MkdirTemp("", "relman-bench-tool-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out, err := filepath.Abs(filepath.Join(toolDir, name))
	if err != nil {
		return err
	}
	env := []string{"HOME=" + os.Getenv("HOME"), "CGO_ENABLED=0", "GOFLAGS=-mod=mod -buildvcs=false"}
	for _, args := range [][]string{
		{"go", "mod", "init", "tools.invalid/" + name},
		{"go", "get", b[0] + "@" + b[1]},
		{"go", "build", "-trimpath", "-o", out, b[0] + b[2]},
	} {
		if err := (program{dir: dir, env: env, argv: args}).run(ctx); err != nil {
			return err
		}
	}
	return nil
}
