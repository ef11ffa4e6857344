package nodeagent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"

	"relman/cluster"
	"relman/release"
)

// variants are the files of a site in other codings, so that a client that
// takes them gets fewer bytes and no request compresses anything. There are
// two sources. What the build has beside a file (app.js.br, app.js.zst,
// app.js.gz) is a variant of it once it was seen to decode to it. Of the rest
// the node makes variants itself, when a release is held and nothing else is to
// be done:
//
//	variants/<digest of the file>-<coding>-<size>-<sum>   one of them
//	variants/<n>.tmp                                      being written
//
// They go by content, so releases share them. The name says all there is to
// know, and a file gets it after its bytes are durable: there is no index that
// could be wrong. A variant is sent only when this process has made it, or has
// read it and found its sum; until then, and whenever it is not what it was,
// the file itself is sent. So they can be removed at any time.
//
// One goroutine makes, checks and removes them (run); requests only look.
type variants struct {
	log   *slog.Logger
	aside *aside
	point func(string) error
	sync  func(*os.File) error
	room  func(*os.File) (bytes, inodes int64, err error)
	poke  func()        // has the agent look at a release that is suspect
	wake  chan struct{} // there is something to do

	mu       sync.RWMutex
	root     *os.Root               // of the variants; nil until run opens it
	made     map[release.Digest]set // whole: to be sent
	supplied map[supply]bool        // from the build; false: not what its name says
	count    int                    // of what is in made
	bytes    int64                  // the same
	held     []*Release             // to have variants
	undone   bool                   // something is left to do for those
}

// set is what the node made of one content.
type set [codingCount]made

// made is a variant on the disk. Without a size there is none.
type made struct {
	size int64
	sum  sum
}

// sum is the beginning of the digest of a variant's bytes. It tells damage.
type sum [16]byte

// supply is a file of the build that should be a variant of another one.
type supply struct {
	of, is release.Digest
	coding coding
}

func newVariants(log *slog.Logger, cfg *Config, a *aside, poke func()) *variants {
	return &variants{
		log: log, aside: a, point: cfg.point, sync: cfg.sync, room: room, poke: poke,
		wake: make(chan struct{}, 1),
		made: map[release.Digest]set{}, supplied: map[supply]bool{},
	}
}

// hold says which releases the node holds, those that visitors see first. It
// does not wait.
func (v *variants) hold(held []*Release) {
	v.mu.Lock()
	if !slices.Equal(v.held, held) {
		v.held, v.undone = held, true
	}
	undone := v.undone
	v.mu.Unlock()
	if undone {
		v.stir()
	}
}

func (v *variants) stir() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run makes variants of what is held until ctx ends. What fails is tried again
// when the agent looks for work the next time.
func (v *variants) run(ctx context.Context, site *os.Root) {
	m := newMaker(v, site)
	defer m.leave()
	var told cluster.Class
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		err := v.aside.do(ctx, func() error { return m.pass(ctx) })
		switch {
		case ctx.Err() != nil:
		case err == nil:
			told = ""
		case classOf(err) != told:
			told = classOf(err)
			v.log.Warn("variants not made, files are served as they are", "error", err)
		}
	}
}

// close ends it: files are served as they are from now on.
func (v *variants) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	root := v.root
	v.root, v.made, v.count, v.bytes = nil, map[release.Digest]set{}, 0, 0
	if root == nil {
		return nil
	}
	return root.Close()
}

// keep takes a variant into use.
func (v *variants) keep(d release.Digest, c coding, m made) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.made[d]
	if s[c].size == 0 {
		v.count++
	}
	v.bytes += m.size - s[c].size
	s[c] = m
	v.made[d] = s
}

// drop takes a variant out of use, if it is still this one.
func (v *variants) drop(d release.Digest, c coding, m made) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.made[d]
	if m.size == 0 || s[c] != m {
		return false
	}
	v.count--
	v.bytes -= m.size
	s[c] = made{}
	if v.made[d] = s; s == (set{}) {
		delete(v.made, d)
	}
	return true
}

// lost notes that a variant is not on the disk as it was.
func (v *variants) lost(d release.Digest, c coding, m made, why error) {
	if !v.drop(d, c, m) {
		return // somebody has noted it
	}
	v.log.Warn("variant is not as it was written, and is made anew", "variant", variantName(d, c, m), "error", why)
	v.mu.Lock()
	v.undone = true
	v.mu.Unlock()
	v.stir()
}

// size is how many variants of its own the node sends, and their bytes.
func (v *variants) size() (count int, bytes int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.count, v.bytes
}

// variant is what to send in place of a file.
type variant struct {
	coding coding
	made   made         // by the node
	file   release.File // or from the build, where made has no size
}

// noVariant is the file itself.
var noVariant = variant{coding: noCoding}

// pick chooses what to send of a file: a variant, or with ok false the file
// itself. vary: that depends on what the client takes, or will when variants
// are made. Where there are no variants it allocates nothing.
func (v *variants) pick(r *Release, f release.File, accept string) (choice variant, vary, ok bool) {
	beside := r.beside(f.Path)
	vary = beside != 0 || compressible(f)
	if !vary || accept == "" {
		return variant{}, vary, false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	s := v.made[f.Digest]
	var there codingSet
	var files [codingCount]release.File
	for c := range codingCount {
		if beside.has(c) {
			file, found := r.manifest.Lookup(f.Path + codingSuffixes[c])
			if found && v.supplied[supply{f.Digest, file.Digest, c}] {
				there, files[c], s[c] = there.with(c), file, made{}
				continue
			}
		}
		if s[c].size > 0 {
			there = there.with(c)
		}
	}
	c := negotiate(accept, there)
	if c == noCoding {
		return variant{}, vary, false
	}
	return variant{c, s[c], files[c]}, vary, true
}

// open opens a variant. A nil file without an error: send the file itself.
func (v *variants) open(r *Release, f release.File, choice variant) (*os.File, error) {
	if choice.made.size == 0 {
		file, err := r.open(choice.file)
		if err != nil {
			v.spoiled(r, f, choice, err)
		}
		return file, err
	}
	v.mu.RLock()
	root := v.root
	v.mu.RUnlock()
	if root == nil {
		return nil, os.ErrClosed
	}
	file, err := openVariant(root, f.Digest, choice.coding, choice.made)
	if err != nil {
		v.spoiled(r, f, choice, err)
	}
	return file, err
}

// spoiled notes that a variant cannot be read as what it was.
func (v *variants) spoiled(r *Release, f release.File, choice variant, why error) {
	switch {
	case isScarce(why) || errors.Is(why, os.ErrClosed):
	case choice.made.size > 0:
		v.lost(f.Digest, choice.coding, choice.made, why)
	case r.doubt():
		v.log.Warn("variant from the build cannot be read", "file", choice.file.Path, "release", r.ID(), "error", why)
		v.poke()
	}
}

// holdVariants has variants of what is held made, of what is shown first.
func (s *site) holdVariants() {
	shown, _ := s.front.Shown()
	var held []*Release
	for _, h := range s.allHeld() {
		held = append(held, h.open)
	}
	slices.SortStableFunc(held, func(a, b *Release) int {
		switch shown {
		case a.ID():
			return -1
		case b.ID():
			return 1
		}
		return 0
	})
	s.variants.hold(held)
}
