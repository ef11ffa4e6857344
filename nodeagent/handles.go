package nodeagent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"relman/release"
)

// handles keeps directories below a root open while a buffer is filled. A name
// in an open directory is one system call away; by its path every directory on
// the way is opened and closed for each file, which was most of the time that
// placing took. Directories are found without following links, and none is
// replaced while they are open.
type handles struct {
	root *os.Root
	top  *os.File // the root itself
	mu   sync.Mutex
	open map[string]*os.File // guarded by mu
}

// mostHandles bounds the directories that are open at once.
const mostHandles = 1024

func newHandles(root *os.Root) (*handles, error) {
	top, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	return &handles{root: root, top: top, open: map[string]*os.File{}}, nil
}

// in calls do with the open directory of a path, and the name in it.
func (h *handles) in(name string, do func(dir int, base string) error) error {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	h.mu.Lock()
	d := h.open[dir]
	keep := d == nil && len(h.open) < mostHandles
	h.mu.Unlock()
	if d == nil {
		var err error
		if d, err = openDir(h.top, dir); err != nil {
			return err
		}
		if !keep || !h.keep(dir, d) {
			defer d.Close() // only a handle
		}
	}
	return do(int(d.Fd()), base)
}

// keep leaves a directory open for the next name in it, unless another
// goroutine did.
func (h *handles) keep(dir string, d *os.File) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[dir] != nil {
		return false
	}
	h.open[dir] = d
	return true
}

func (h *handles) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := []error{h.top.Close()}
	for _, d := range h.open {
		errs = append(errs, d.Close())
	}
	clear(h.open)
	return errors.Join(errs...)
}

// asVerified compares all of a file with a manifest, but its content.
func (h *handles) asVerified(name string, want release.File) (bool, error) {
	st, err := h.stat(name)
	return err == nil && st.Mode == unix.S_IFREG|uint32(modeOf(want)) && st.Size == want.Size &&
		st.Mtim == unix.Timespec{Sec: want.MTime}, err
}

// same reports whether two names are one file. A name that nothing has is none.
func (h *handles) same(a, b string) (bool, error) {
	x, err := h.stat(a)
	if err != nil {
		return false, gone(err)
	}
	y, err := h.stat(b)
	return err == nil && x.Dev == y.Dev && x.Ino == y.Ino, gone(err)
}

func (h *handles) stat(name string) (st unix.Stat_t, err error) {
	err = h.in(name, func(dir int, base string) error {
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "look at", Path: name, Err: err}
		}
		return nil
	})
	return st, err
}

// link makes one more name for an inode.
func (h *handles) link(from, to string) error {
	return h.both("link", from, to, func(d int, a string, e int, b string) error { return unix.Linkat(d, a, e, b, 0) })
}

// rename gives an inode another name, in place of what has that name.
func (h *handles) rename(from, to string) error {
	return h.both("rename", from, to, unix.Renameat)
}

func (h *handles) both(op, from, to string, do func(int, string, int, string) error) error {
	return h.in(from, func(d int, a string) error {
		return h.in(to, func(e int, b string) error {
			if err := do(d, a, e, b); err != nil {
				return &os.LinkError{Op: op, Old: from, New: to, Err: err}
			}
			return nil
		})
	})
}

// create makes a file under a name that nothing has, and has it written. On an
// error there is no such file.
func (h *handles) create(name string, mode fs.FileMode, mtime int64, write func(io.Writer) error) error {
	return h.in(name, func(dir int, base string) error {
		fd, err := openNew(dir, base, mode)
		if err != nil {
			return &fs.PathError{Op: "create", Path: name, Err: err}
		}
		f := &newFile{fd, name}
		if err := errors.Join(write(f), f.finish(mode)); err != nil {
			return errors.Join(err, unix.Unlinkat(dir, base, 0))
		}
		t := unix.Timespec{Sec: mtime}
		if err := unix.UtimesNanoAt(dir, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return errors.Join(f.failed("set the time of", err), unix.Unlinkat(dir, base, 0))
		}
		return nil
	})
}

func openNew(dir int, base string, mode fs.FileMode) (fd int, err error) {
	for {
		fd, err = unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, uint32(mode.Perm()))
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// newFile is a file that is being written.
type newFile struct {
	fd   int
	name string
}

func (f *newFile) failed(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// Write is io.Writer.
func (f *newFile) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(f.fd, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, f.failed("write", err)
		default:
			n += m
		}
	}
	return n, nil
}

// finish closes the file, with the mode that it was to have: the process's
// umask may have taken bits away.
func (f *newFile) finish(mode fs.FileMode) (err error) {
	if umask()&mode != 0 {
		if err = unix.Fchmod(f.fd, uint32(mode.Perm())); err != nil {
			err = f.failed("chmod", err)
		}
	}
	if cerr := unix.Close(f.fd); cerr != nil {
		err = errors.Join(err, f.failed("close", cerr))
	}
	return err
}

// umask is the process's; where it cannot be read, all bits.
var umask = sync.OnceValue(func() fs.FileMode {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fs.ModePerm
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			if bits, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32); err == nil {
				return fs.FileMode(bits)
			}
		}
	}
	return fs.ModePerm
})
