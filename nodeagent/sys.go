package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// syncDir makes the names in a directory durable.
func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeDurably replaces a small file. After a crash at any point the file is
// the old one or the new one, and after it has returned it is the new one.
func writeDurably(root *os.Root, name string, data []byte) error {
	return writeDurablyAs(root, name, data, 0o644)
}

func writeDurablyAs(root *os.Root, name string, data []byte, perm fs.FileMode) error {
	tmp := name + ".tmp"
	if err := root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // its mode may be another
		return err
	}
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(tmp))
	}
	if err := root.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(root, ".")
}

// removeDurably removes a file for good; one that is not there is removed.
func removeDurably(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(root, ".")
}

// syncAll makes everything on the file system of f durable with one call: it
// costs 1.4 times the writing itself, an fsync for each file six times. An
// error may belong to any write since f was opened.
func syncAll(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// room is how many bytes and inodes are free for this process; inodes is
// negative where the file system does not count them.
func room(f *os.File) (bytes, inodes int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	inodes = -1
	if st.Files > 0 {
		inodes = int64(st.Ffree)
	}
	return int64(st.Bavail) * st.Bsize, inodes, nil
}

// lockDir keeps a second agent out of a directory for as long as the file that
// it returns is open: two would write into one buffer. It locks the directory
// itself, which works on a disk that is full or read-only too.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	// A program that another agent of this process is just starting has a copy
	// of what was locked here before, for the moment until it runs.
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("another agent works in %s: %w", dir, err), f.Close())
		}
	}
}
