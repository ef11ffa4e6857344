package nodeagent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"relman/release"
)

// What a release that is given up had and what is active lacks is kept for a
// while: a tab that was opened long ago may still ask for it. It costs names, no
// bytes: they are links to inodes that were verified.
//
//	retained/<release>/…         what is kept of it
//	retained/<release>.manifest  all of it, written when the links are there
const retainedDir = "retained"

// retained is what is kept of a release that no buffer holds any more.
type retained struct {
	rel   *Release
	since time.Time
}

// kept are the files of a release that are retained, by path.
type kept map[string]release.File

// Lookup finds a file.
func (k kept) Lookup(path string) (release.File, bool) {
	f, ok := k[path]
	return f, ok
}

// worthKeeping are the files of a release that a page of it may still need: those
// that are no pages, and that what is active does not have. Of a release that was
// never active, only those that nobody can ask for without having been told.
func worthKeeping(old, active *release.Manifest, wasActive bool) []release.File {
	var files []release.File
	for _, f := range old.Files {
		now, ok := active.Lookup(f.Path)
		if ok && now.Digest == f.Digest || isPage(f) || !wasActive && !surelyHashed(f.Path) {
			continue
		}
		files = append(files, f)
	}
	return files
}

// retain keeps what a buffer holds beyond what is active, before it is given up.
// It is called by the worker. What cannot be kept is lost: no fill waits for it.
func (s *site) retain(b *buffer, old *release.Manifest) {
	s.mu.Lock()
	serving := s.front.holdings.Load().serving
	active := s.view.Active.Value.Release
	var now *release.Manifest
	if r := s.holding(active, release.Digest{}); r != nil {
		now = r.manifest
	}
	was := s.wasActive[old.ID()]
	delete(s.wasActive, old.ID())
	s.mu.Unlock()
	if serving.Retain == 0 || now == nil || old.ID() == active {
		return
	}
	files := worthKeeping(old, now, was)
	if len(files) == 0 {
		return
	}
	if err := s.keep(b, old, files); err != nil {
		s.log.Warn("old assets are not kept for open pages", "release", old.ID(), "error", err)
		return
	}
	s.prune()
}

// keep links files of a buffer and opens them for serving.
func (s *site) keep(b *buffer, old *release.Manifest, files []release.File) error {
	s.drop(old.ID())
	dir := retainedDir + "/" + string(old.ID())
	made := map[string]bool{}
	for _, f := range files {
		to := dir + "/" + f.Path
		if parent := path.Dir(to); !made[parent] {
			if err := s.disk.root.MkdirAll(parent, modeDir); err != nil {
				return errors.Join(err, s.disk.root.RemoveAll(dir))
			}
			made[parent] = true
		}
		if err := s.disk.root.Link("buffers/"+b.name+"/"+f.Path, to); err != nil {
			return errors.Join(err, s.disk.root.RemoveAll(dir))
		}
	}
	if err := s.disk.root.WriteFile(dir+".manifest", old.Raw(), 0o644); err != nil {
		return errors.Join(err, s.disk.root.RemoveAll(dir))
	}
	return s.openRetained(old.ID(), files, time.Now())
}

// openRetained takes what is kept of a release into use.
func (s *site) openRetained(id release.ID, files []release.File, since time.Time) error {
	root, err := s.disk.root.OpenRoot(retainedDir + "/" + string(id))
	if err != nil {
		return err
	}
	k := make(kept, len(files))
	for _, f := range files {
		k[f.Path] = f
	}
	r := &Release{id: id, files: k, root: root, idText: []string{string(id)}}
	r.refs.Store(1)
	r.public.Store(true) // what nobody was shown is not in it, but for what nobody guesses
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retained = append(s.retained, retained{r, since})
	slices.SortFunc(s.retained, func(a, b retained) int { return b.since.Compare(a.since) })
	s.hold()
	return nil
}

// readRetained opens what was kept before a restart: what of it is still there.
func (s *site) readRetained() error {
	entries, err := fs.ReadDir(s.disk.root.FS(), retainedDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".manifest")
		if !ok {
			continue
		}
		if err := s.reopen(name, e); err != nil {
			s.log.Warn("old assets are not kept for open pages", "release", name, "error", err)
			continue
		}
		known[name] = true
	}
	var errs []error
	for _, e := range entries { // what was cut off, or cannot be read
		if !known[strings.TrimSuffix(e.Name(), ".manifest")] {
			errs = append(errs, s.disk.root.RemoveAll(retainedDir+"/"+e.Name()))
		}
	}
	return errors.Join(errs...)
}

func (s *site) reopen(name string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	raw, err := s.disk.root.ReadFile(retainedDir + "/" + e.Name())
	if err != nil {
		return err
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		return err
	}
	if string(m.ID()) != name {
		return fmt.Errorf("%s holds release %s", e.Name(), m.ID())
	}
	var files []release.File
	for _, f := range m.Files {
		info, err := s.disk.root.Lstat(retainedDir + "/" + name + "/" + f.Path)
		if err == nil && info.Mode().IsRegular() && asVerified(info, f) {
			files = append(files, f)
		}
	}
	return s.openRetained(m.ID(), files, info.ModTime())
}

// prune gives up what has been kept for long enough.
func (s *site) prune() {
	s.mu.Lock()
	serving := s.front.holdings.Load().serving
	var old []release.ID
	for i, r := range s.retained {
		if i >= serving.Retain || time.Since(r.since) > serving.RetainTime() {
			old = append(old, r.rel.ID())
		}
	}
	s.mu.Unlock()
	for _, id := range old {
		s.drop(id)
	}
}

// dropRetained gives up all of it: trees share inodes, and one was found damaged.
func (s *site) dropRetained() {
	s.mu.Lock()
	all := slices.Clone(s.retained)
	s.mu.Unlock()
	for _, r := range all {
		s.drop(r.rel.ID())
	}
}

// drop gives up what is kept of one release. Requests that are under way end on
// it.
func (s *site) drop(id release.ID) {
	s.mu.Lock()
	var gone []retained
	s.retained = slices.DeleteFunc(s.retained, func(r retained) bool {
		if r.rel.ID() == id {
			gone = append(gone, r)
		}
		return r.rel.ID() == id
	})
	s.hold()
	s.mu.Unlock()
	var err error
	for _, r := range gone {
		err = errors.Join(err, r.rel.Close())
	}
	name := retainedDir + "/" + string(id)
	if removed := s.disk.root.Remove(name + ".manifest"); !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	if err = errors.Join(err, s.disk.root.RemoveAll(name)); err != nil {
		s.log.Warn("old assets not removed", "release", id, "error", err)
	}
}

// newest orders releases, the newest first.
func newest(a, b *Release) int { return cmp.Compare(b.ID().Seq(), a.ID().Seq()) }
