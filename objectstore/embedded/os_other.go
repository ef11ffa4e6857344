//go:build !noembed && !linux

package embedded

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// syncAll makes everything below the directory durable, file by file.
func syncAll(dir string) error {
	s := syncer{(*os.File).Sync}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return s.syncPath(path)
	})
}

// claimDir only makes the directory: that nobody else uses it is up to the
// caller here.
func claimDir(_ context.Context, dir string) (free func(), err error) {
	return func() {}, os.MkdirAll(dir, 0o700)
}

// childAttributes are none: the child ends when its stdin does.
func childAttributes() *syscall.SysProcAttr { return nil }
