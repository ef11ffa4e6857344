package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// A `relman dev` whose etcd could not have its usual port leaves a pointer in
// the user's state directory, so that a second terminal needs no flags. The
// pointer is true as long as somebody holds its lock: one that a killed
// process left behind is not looked at.

// devPointer is what the file holds.
type devPointer struct {
	Etcd  string `json:"etcd"`
	State string `json:"state"`
}

// devPointerPath is $XDG_STATE_HOME/relman/dev.json, or below ~/.local/state.
func devPointerPath() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(home); err != nil {
			return "", err // it is not ours to make
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "relman", "dev.json"), nil
}

// leaveDevPointer writes the pointer; remove takes it away again. Another
// relman dev that has left one already keeps it: then the error is
// syscall.EWOULDBLOCK.
func leaveDevPointer(p devPointer) (remove func() error, err error) {
	path, err := devPointerPath()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(p)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(raw, '\n'), 0)
	}
	remove = func() error {
		err := os.Remove(path)
		_ = os.Remove(filepath.Dir(path)) // stays if anything else is in it
		return errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return remove, nil
}

// devEndpoint is the etcd of a `relman dev` that runs and could not have the
// usual port.
func devEndpoint() (url string, ok bool) {
	path, err := devPointerPath()
	if err != nil {
		return "", false
	}
	f, err := os.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return "", false // nobody holds it: it is a leftover
	}
	var p devPointer
	raw, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return "", false
	}
	return p.Etcd, p.Etcd != ""
}
