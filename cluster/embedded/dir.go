//go:build !noembed

package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// constants are what a data directory holds fast. etcd itself ignores a
// change of them without a word.
type constants struct {
	Format  int    `json:"format"`
	Name    string `json:"name"`
	Cluster string `json:"initial_cluster"`
}

// openDir makes the data directory, takes its lock and compares its
// constants. The lock is ours because etcd waits for its own without end.
func openDir(c Config) (*os.File, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil { // it may have been there before
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(c.Dir, "relman.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another process", c.Dir)
		}
		return nil, fmt.Errorf("lock %s: %w", c.Dir, err)
	}
	if err := holdFast(filepath.Join(c.Dir, "relman.json"), constants{1, c.Name, c.InitialCluster}); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// holdFast writes the constants at the first start, and refuses others later.
func holdFast(path string, want constants) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err := json.Marshal(want)
		if err != nil {
			return err
		}
		// A cut here leaves a file that does not parse beside no data: remove
		// it by hand or take another directory. etcd's data comes after it.
		return os.WriteFile(path, append(raw, '\n'), 0o600)
	}
	if err != nil {
		return err
	}
	var have constants
	if err := json.Unmarshal(raw, &have); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if have != want {
		return fmt.Errorf("%s was made for member %q of %q; it cannot become %q of %q", filepath.Dir(path), have.Name, have.Cluster, want.Name, want.Cluster)
	}
	return nil
}
