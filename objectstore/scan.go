package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// ErrBuild is what every error about a build's own files unwraps to: it is for
// whoever made the build to mend.
var ErrBuild = errors.New("bad build")

// ScanOptions say what a build may contain beyond regular files with ordinary
// names. The zero value refuses both.
type ScanOptions struct {
	FollowSymlinks bool // a link to a regular file inside the build counts as that file
	Secrets        bool // names such as .env, .git and id_rsa, which are published by mistake, are taken
}

// Build is a directory as it was when it was scanned.
type Build struct {
	Root  string
	Files []BuildFile // in no promised order
	Bytes int64

	top  string // Root without symbolic links
	dirs []buildDir
}

// buildDir is a directory of a build. Files are found by their paths, since a
// root would open every directory on the way to each again; so it counts that
// the directories are the same after the last of them as before the first.
type buildDir struct {
	path string
	id   inode
}

type inode struct{ dev, ino uint64 }

// stands makes sure that every directory is the one that was scanned, and not
// one outside the build that a symbolic link in its place leads to.
func (b *Build) stands() error {
	for _, d := range b.dirs {
		info, err := os.Lstat(filepath.Join(b.top, filepath.FromSlash(d.path)))
		if err == nil && info.IsDir() && identify(info).inode() == d.id {
			continue
		}
		return fmt.Errorf("directory %s: %w: let the build finish before it is published", d.path, ErrChanged)
	}
	return nil
}

// BuildFile is one regular file of a build.
type BuildFile struct {
	Path string // as in the manifest
	Size int64
	Exec bool
	id   fileID
}

// fileID tells whether a file is the one it was: a file that is written to, or
// replaced, differs in one of these.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func (f fileID) inode() inode { return inode{f.dev, f.ino} }

func identify(i fs.FileInfo) fileID {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{size: i.Size()}
	}
	return identifyStat(s)
}

func identifyStat(s *syscall.Stat_t) fileID {
	return fileID{dev: uint64(s.Dev), ino: s.Ino, size: s.Size, mtime: s.Mtim, ctime: s.Ctim} //nolint:unconvert // differs by platform
}

const mostProblems = 10

// Scan lists a build: regular files only, by the rules for paths. It reports
// up to ten problems at once; they are ErrBuild.
func Scan(ctx context.Context, dir string, o ScanOptions) (*Build, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: %s is not a directory", ErrBuild, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	defer root.Close()
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBuild, err)
	}
	s := &scan{ctx: ctx, root: root, o: o, build: &Build{Root: dir, top: top}}
	s.walking.SetLimit(2 * runtime.GOMAXPROCS(0))
	s.dir(".")
	if err := errors.Join(s.walking.Wait(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir, err)
	}
	if err := s.build.stands(); err != nil && len(s.problems) == 0 {
		return nil, fmt.Errorf("scan %s: %w", dir, err)
	}
	slices.SortFunc(s.problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(s.problems) == 0 {
		s.whole()
	}
	if s.more {
		s.problems = append(s.problems, errors.New("and more"))
	}
	if len(s.problems) > 0 {
		return nil, fmt.Errorf("%w %s: %w", ErrBuild, dir, errors.Join(s.problems...))
	}
	return s.build, nil
}

type scan struct {
	ctx     context.Context //nolint:containedctx // lives as long as one call of Scan
	root    *os.Root
	o       ScanOptions
	walking errgroup.Group

	mu       sync.Mutex // guards what follows
	build    *Build
	problems []error
	more     bool // there were more problems
}

func (s *scan) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) == mostProblems {
		s.more = true
		return
	}
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

// dir takes a directory, and those below it, several at once.
func (s *scan) dir(p string) {
	entries, id, err := readDir(filepath.Join(s.build.top, filepath.FromSlash(p)))
	if err != nil {
		s.problem("%s: %w", p, reason(err))
		return
	}
	var files []BuildFile
	for _, e := range entries {
		if s.ctx.Err() != nil {
			return
		}
		name := path.Join(p, e.Name())
		if why := s.refused(e.Name()); why != "" {
			s.problem("%s: %s", name, why)
			continue
		}
		if !e.IsDir() {
			if f, err := s.file(name, e); err != nil {
				s.problem("%w", err)
			} else {
				files = append(files, f)
			}
			continue
		}
		below := func() error { s.dir(name); return nil }
		if !s.walking.TryGo(below) {
			s.dir(name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.build.dirs = append(s.build.dirs, buildDir{p, id})
	s.build.Files = append(s.build.Files, files...)
	for _, f := range files {
		s.build.Bytes += f.Size
	}
}

// readDir lists a directory, and says which one it is. It is not followed when
// it is a symbolic link.
func readDir(name string) ([]fs.DirEntry, inode, error) {
	d, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, inode{}, err
	}
	defer d.Close() // only read
	info, err := d.Stat()
	if err != nil {
		return nil, inode{}, err
	}
	entries, err := d.ReadDir(-1)
	return entries, identify(info).inode(), err
}

// file is an entry that is no directory, or why it cannot be taken.
func (s *scan) file(p string, e fs.DirEntry) (BuildFile, error) {
	info, err := s.resolve(p, e)
	if err != nil {
		return BuildFile{}, err
	}
	if err := release.ValidatePath(p); err != nil {
		return BuildFile{}, err
	}
	if info.Size() > release.MaxFileSize {
		return BuildFile{}, fmt.Errorf("%s has %d bytes, at most %d are allowed", p, info.Size(), int64(release.MaxFileSize))
	}
	return BuildFile{Path: p, Size: info.Size(), Exec: info.Mode()&0o111 != 0, id: identify(info)}, nil
}

// reason is an error of the file system without the path that it repeats.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// refused says why a name does not belong on a web site. Other names that begin
// with a dot do: real builds have them, and what is left out would be missing.
func (s *scan) refused(name string) string {
	if s.o.Secrets {
		return ""
	}
	switch name {
	case ".git", ".svn", ".hg", ".env", ".npmrc", ".netrc", ".htpasswd", ".aws", ".ssh", "id_rsa", "id_ed25519", "id_ecdsa", "id_dsa":
	default:
		if !strings.HasPrefix(name, ".env.") {
			return ""
		}
	}
	return "this is usually a secret or a tool's own: remove it from the build (--allow-secrets takes it)"
}

// resolve finds the regular file that an entry is, or stands for.
func (s *scan) resolve(p string, e fs.DirEntry) (fs.FileInfo, error) {
	switch {
	case e.Type().IsRegular():
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		return info, nil
	case e.Type()&fs.ModeSymlink == 0:
		return nil, fmt.Errorf("%s is a %s, not a regular file", p, kind(e.Type()))
	}
	to, err := s.root.Readlink(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	if !s.o.FollowSymlinks {
		return nil, fmt.Errorf("%s is a symbolic link to %s (--follow-symlinks takes links that stay inside the build)", p, to)
	}
	info, err := s.root.Stat(p)
	switch {
	case path.IsAbs(to) || err != nil && strings.Contains(err.Error(), "escapes"):
		return nil, fmt.Errorf("%s is a symbolic link that leaves the build: %s", p, to)
	case err != nil:
		return nil, fmt.Errorf("%s is a symbolic link to %s: %w", p, to, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is a symbolic link to %s, which is a %s", p, to, kind(info.Mode()))
	}
	return info, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	default:
		return "device"
	}
}

// whole checks what holds for the build as a whole.
func (s *scan) whole() {
	files := make([]release.File, len(s.build.Files))
	for i, f := range s.build.Files {
		files[i] = release.File{Path: f.Path, Size: f.Size}
	}
	switch err := release.CheckTree(files); {
	case len(files) == 0:
		s.problem("it has no files")
	case len(files) > release.MaxFiles:
		s.problem("%d files, at most %d are allowed", len(files), release.MaxFiles)
	case s.build.Bytes > release.MaxSiteSize:
		s.problem("%d bytes, at most %d are allowed", s.build.Bytes, int64(release.MaxSiteSize))
	case err != nil:
		s.problem("%w", err)
	}
}
