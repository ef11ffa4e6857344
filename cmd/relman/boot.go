package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"relman/cluster"
)

// boot is one start of an agent on its directory.
type boot struct {
	id     string
	before string // the start before this one, "" for none; it has ended
	file   *os.File
}

// takeBoot begins a boot: it notes it in the directory, for the next one, and
// holds the note locked to the end of the process. That nobody else held it
// means that the boot before has ended, however that was: its session in etcd
// need not run out first.
func takeBoot(dir string) (b *boot, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	b = &boot{id: cluster.NewULID()}
	b.file, err = lockFile(filepath.Join(dir, "boot"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("agent: another one works in %s", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := b.exchange(); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: %s: %w", b.file.Name(), err), b.file.Close())
	}
	return b, nil
}

// exchange reads the boot before and writes this one. If it is cut off half
// way, the next boot finds a name that nobody has, and waits.
func (b *boot) exchange() error {
	raw, err := io.ReadAll(io.LimitReader(b.file, 1024))
	if err != nil {
		return err
	}
	b.before = strings.TrimSpace(string(raw))
	if err := b.file.Truncate(0); err != nil {
		return err
	}
	_, err = b.file.WriteAt([]byte(b.id+"\n"), 0)
	return err
}

// end lets the next one begin.
func (b *boot) end() error { return b.file.Close() }
