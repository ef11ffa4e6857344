package nodeagent

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// openDir opens a directory below another one. It follows no link, neither at
// the end nor on the way: all trees are below one root, and a link could lead
// from one that is filled into one that is served.
func openDir(top *os.File, name string) (*os.File, error) {
	fd, err := openBeneath(int(top.Fd()), name)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or a strict sandbox
		fd, err = openSteps(int(top.Fd()), name)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open directory", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// openBeneath does it with one system call.
func openBeneath(top int, name string) (int, error) {
	return uninterrupted(func() (int, error) {
		return unix.Openat2(top, name, &unix.OpenHow{Flags: dirFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	})
}

// openSteps does it with one for each directory on the way.
func openSteps(top int, name string) (fd int, err error) {
	at := top
	for step := range strings.SplitSeq(name, "/") {
		if step == ".." {
			err = unix.EXDEV // as openat2 says it
		} else {
			fd, err = uninterrupted(func() (int, error) { return unix.Openat(at, step, dirFlags|unix.O_NOFOLLOW, 0) })
		}
		if at != top {
			err = errors.Join(err, unix.Close(at))
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	return fd, nil
}

func uninterrupted(open func() (int, error)) (int, error) {
	for {
		if fd, err := open(); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// mkdir makes a directory, which may be there. A new one is for everybody to
// read, whatever the process's umask: other web servers may serve from it.
func (h *handles) mkdir(name string) error {
	return h.in(name, func(dir int, base string) error {
		err := unix.Mkdirat(dir, base, modeDir)
		switch {
		case errors.Is(err, unix.EEXIST):
			return nil
		case err == nil:
			err = unix.Fchmodat(dir, base, modeDir, 0)
		}
		if err != nil {
			return &fs.PathError{Op: "make directory", Path: name, Err: err}
		}
		return nil
	})
}

// mkdirAll makes a directory with those that it is in, but for what made has.
func (h *handles) mkdirAll(name string, made map[string]bool) error {
	if name == "." || made[name] {
		return nil
	}
	if err := h.mkdirAll(path.Dir(name), made); err != nil {
		return err
	}
	made[name] = true
	return h.mkdir(name)
}

// remove removes a file; one that is not there is removed.
func (h *handles) remove(name string) error { return h.unlink(name, 0) }

// removeDir does so with an empty directory.
func (h *handles) removeDir(name string) error { return h.unlink(name, unix.AT_REMOVEDIR) }

func (h *handles) unlink(name string, flags int) error {
	return gone(h.in(name, func(dir int, base string) error {
		if err := unix.Unlinkat(dir, base, flags); err != nil {
			return &fs.PathError{Op: "remove", Path: name, Err: err}
		}
		return nil
	}))
}

// removeAll removes whatever has a name, with all that is in it.
func (h *handles) removeAll(name string) error {
	return gone(h.in(name, func(int, string) error { return h.root.RemoveAll(name) })) // no link is on the way
}
