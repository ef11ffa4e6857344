package objectstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"relman/release"
)

// auditPacks is how many packs an audit has in memory at once.
const auditPacks = 4

// Kept is a release that the store should have.
type Kept struct {
	ID       release.ID
	Manifest release.Digest
}

// AuditOptions say how an audit goes on.
type AuditOptions struct {
	Progress func(read, all int64) // bytes of packs; called from several goroutines; may be nil
}

// Audited is what an audit has read, and what of it is not as it was published.
type Audited struct {
	Releases int     `json:"releases"`
	Packs    int     `json:"packs"`
	Bytes    int64   `json:"bytes"`    // of these packs, as they are stored
	Frames   int     `json:"frames"`   // that were decoded
	Contents int     `json:"contents"` // that were compared with their digests
	Files    int     `json:"files"`    // of all releases, that have these contents
	Deltas   int     `json:"deltas"`   // contents whose deltas were decoded
	Made     int     `json:"made"`     // of these, made from the old content, which is in the store too
	Faults   []Fault `json:"faults"`
}

// Fault is an object that is not as it was published.
type Fault struct {
	Key     string   `json:"key"`
	Missing bool     `json:"missing"`
	What    []string `json:"what"` // is wrong with it
	Needs   []Need   `json:"needs"`
}

// Need is a release that needs an object.
type Need struct {
	Release release.ID `json:"release"`
	Files   []string   `json:"files"`  // that cannot be had right from the store as it is
	Deltas  []string   `json:"deltas"` // files whose deltas are of no use: nodes fetch them whole
}

// Audit reads all that the store has of some releases of a site: manifests,
// layouts, and every pack that a layout refers to, once. It decodes every frame
// once, whatever the number of releases that need it, and compares every
// content with its digest. Deltas are decoded too; those whose old content
// belongs to one of the releases are applied, for which the old bytes are read
// again, by ranges.
//
// What is wrong with an object is a fault, not an error. Errors are those of a
// store that does not answer, and ErrNotFound where there is nothing at all of
// any of the releases: it is another store then.
func Audit(ctx context.Context, s Store, site release.Site, releases []Kept, o AuditOptions) (*Audited, error) {
	a := &audit{
		s: s, site: site, o: o, faults: map[string]*Fault{}, packs: map[release.Digest]*auditPack{},
		contents: map[string]*auditContent{}, good: map[release.Digest]*auditContent{},
		lost: map[contentOf]bool{}, useful: map[contentOf]bool{},
	}
	for _, k := range releases {
		if err := a.load(ctx, k); err != nil {
			return nil, err
		}
	}
	if len(releases) > 0 && a.found == 0 {
		return nil, fmt.Errorf("read the releases of %s: none of %d is in the store: %w", site, len(releases), ErrNotFound)
	}
	for _, k := range a.releases {
		a.note(k)
	}
	if err := a.readPacks(ctx); err != nil {
		return nil, err
	}
	if err := a.tryDeltas(ctx); err != nil {
		return nil, err
	}
	return a.report(len(releases)), nil
}

// audit is the state of one call of Audit.
type audit struct {
	s    Store
	site release.Site
	o    AuditOptions

	releases []*Stored
	packs    map[release.Digest]*auditPack
	contents map[string]*auditContent // by where they are
	all      int64                    // bytes of packs

	mu     sync.Mutex // guards the rest
	found  int        // objects that are there
	read   int64
	result Audited
	faults map[string]*Fault                // by key
	good   map[release.Digest]*auditContent // a place where a content is right
	lost   map[contentOf]bool               // contents that cannot be had
	useful map[contentOf]bool               // contents that have deltas; false: useless ones
}

// contentOf is a content of a release, as that one's layout leads to it.
type contentOf struct {
	release *Stored
	digest  release.Digest
}

// load reads what says where everything is. A release of which that is not
// right is not looked at any further: it could not be fetched either.
func (a *audit) load(ctx context.Context, k Kept) error {
	m, err := ReadManifest(ctx, a.s, a.site, k.ID, k.Manifest)
	if wrong, err := a.wrong(manifestKey(a.site, k.ID), err, k.ID); err != nil {
		return err
	} else if wrong {
		if _, err := a.s.Stat(ctx, layoutKey(a.site, k.ID)); err == nil {
			a.found++
		}
		return nil
	}
	key := layoutKey(a.site, k.ID)
	raw, err := getCompressed(ctx, a.s, key, maxLayoutBytes)
	var l *Layout
	if err == nil {
		l, err = parseLayout(raw, m)
	}
	wrong, err := a.wrong(key, err, k.ID)
	if err != nil {
		return err
	}
	if wrong {
		n := a.faults[key].need(k.ID)
		for _, f := range m.Files {
			n.Files = append(n.Files, f.Path)
		}
		return nil
	}
	a.releases = append(a.releases, &Stored{m, l})
	return nil
}

// wrong makes a fault of an error that is the object's, and returns all others.
func (a *audit) wrong(key string, err error, need ...release.ID) (bool, error) {
	missing := errors.Is(err, ErrNotFound)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !missing {
		a.found++
	}
	switch {
	case err == nil:
		return false, nil
	case !missing && !errors.Is(err, ErrCorrupt) && !errors.Is(err, release.ErrInvalid) && !ended(err):
		return false, err
	}
	f := a.fault(key)
	f.Missing = missing
	if !missing {
		f.What = append(f.What, err.Error())
	}
	for _, id := range need {
		f.need(id)
	}
	return true, nil
}

// fault is the one of an object. Its caller holds mu.
func (a *audit) fault(key string) *Fault {
	f := a.faults[key]
	if f == nil {
		f = &Fault{Key: key, What: []string{}, Needs: []Need{}}
		a.faults[key] = f
	}
	return f
}

// say adds to what is wrong with an object.
func (a *audit) say(key, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.fault(key)
	if what := fmt.Sprintf(format, args...); !slices.Contains(f.What, what) {
		f.What = append(f.What, what)
	}
}

func (f *Fault) need(id release.ID) *Need {
	for i := range f.Needs {
		if f.Needs[i].Release == id {
			return &f.Needs[i]
		}
	}
	f.Needs = append(f.Needs, Need{Release: id, Files: []string{}, Deltas: []string{}})
	return &f.Needs[len(f.Needs)-1]
}

// readPacks reads packs that nothing connects at once, and those that hold the
// pieces of one content after each other.
func (a *audit) readPacks(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(auditPacks)
	for _, chain := range a.chains() {
		g.Go(func() error {
			for _, p := range chain {
				if err := a.pack(gctx, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return a.again(ctx)
}

// chains are the packs, those together that hold pieces of one content, in the
// order of the pieces.
func (a *audit) chains() [][]*auditPack {
	all := slices.SortedFunc(maps.Values(a.packs), func(p, q *auditPack) int { return cmp.Compare(p.order, q.order) })
	first := map[*auditPack]*auditPack{}
	var find func(p *auditPack) *auditPack
	find = func(p *auditPack) *auditPack {
		if first[p] == nil || first[p] == p {
			return p
		}
		first[p] = find(first[p])
		return first[p]
	}
	for _, c := range a.contents {
		for _, at := range c.at[min(1, len(c.at)):] {
			first[find(at.pack)] = find(c.at[0].pack)
		}
	}
	index := map[*auditPack]int{}
	var out [][]*auditPack
	for _, p := range all {
		top := find(p)
		i, ok := index[top]
		if !ok {
			i = len(out)
			index[top] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], p)
	}
	return out
}

// report lists what was found, by objects.
func (a *audit) report(releases int) *Audited {
	r := a.result
	r.Releases, r.Faults = releases, []Fault{}
	for _, s := range a.releases {
		r.Files += len(s.Manifest.Files)
	}
	for _, p := range a.packs {
		if f := a.faults[packKey(p.ref.Digest)]; f != nil {
			for _, s := range p.users {
				f.need(s.Manifest.ID())
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a.faults)) {
		f := a.faults[key]
		slices.SortFunc(f.Needs, func(m, n Need) int { return cmp.Compare(m.Release, n.Release) })
		for i := range f.Needs {
			n := &f.Needs[i]
			slices.Sort(n.Files)
			slices.Sort(n.Deltas)
			n.Files, n.Deltas = slices.Compact(n.Files), slices.Compact(n.Deltas)
		}
		r.Faults = append(r.Faults, *f)
	}
	return &r
}
