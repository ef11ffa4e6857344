package objectstore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"relman/release"
)

// KeptRelease is a release that has to stay readable.
type KeptRelease struct {
	Site     release.Site
	ID       release.ID
	Manifest release.Digest
}

// SweepOptions say what a sweep may do.
type SweepOptions struct {
	Grace time.Duration // nothing younger is deleted
	Now   time.Time
	Log   *slog.Logger // nil for none
}

// PackFate is what becomes of a pack.
type PackFate string

// The fates of packs.
const (
	PackKeep   PackFate = "keep"   // releases need it
	PackYoung  PackFate = "young"  // none needs it, and it may belong to one that is being published
	PackRepack PackFate = "repack" // what releases need of it is put into another pack
	PackDelete PackFate = "delete" // none needs it
)

// SweepPlan is what a sweep would do.
type SweepPlan struct {
	Packs   []SweepPack    // every pack in the store, in the order of their keys
	Objects []SweepObject  // what else goes: manifests and layouts of releases that are not kept
	Uploads []SweepUpload  // multipart uploads that were begun and never ended
	Sites   []release.Site // of which there are releases, kept or not, in order

	keep    []KeptRelease
	live    map[release.Digest]map[int64]frameRef // what is needed of packs, by where it begins
	missing map[release.Digest]bool               // packs that were lost or damaged before
	log     *slog.Logger
}

// SweepPack is a pack, and what becomes of it.
type SweepPack struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Live     int64     `json:"live"` // bytes of it that releases need
	Modified time.Time `json:"modified"`
	Fate     PackFate  `json:"fate"`
	Why      string    `json:"why"`
	Releases int       `json:"releases"` // that need it

	digest release.Digest
}

// SweepObject is another object that goes.
type SweepObject struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// SweepUpload is a multipart upload that was never ended. relman makes none;
// stores and tools in between do.
type SweepUpload struct {
	Key   string    `json:"key"`
	ID    string    `json:"id"`
	Begun time.Time `json:"begun"`
}

// leastDead is how many bytes repacking has to save in all to be worth reading
// and writing packs, and layouts that refer to them.
const leastDead = 1 << 20

// SurveySweep reads the store and says what a sweep that keeps these releases
// would do. It changes nothing. A kept release whose manifest or layout cannot
// be read is an error that names it: nothing is deleted on a guess.
func SurveySweep(ctx context.Context, s Store, keep []KeptRelease, o SweepOptions) (*SweepPlan, error) {
	p := &SweepPlan{keep: keep, live: map[release.Digest]map[int64]frameRef{}, missing: map[release.Digest]bool{}, log: o.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	packs, err := listPacks(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, k := range keep {
		if err := p.need(ctx, s, k, packs); err != nil {
			return nil, err
		}
	}
	for _, pack := range packs {
		p.Packs = append(p.Packs, *pack)
	}
	slices.SortFunc(p.Packs, func(a, b SweepPack) int { return strings.Compare(a.Key, b.Key) })
	p.decide(o)
	if err := p.leftovers(ctx, s, o); err != nil {
		return nil, err
	}
	return p, listUploads(ctx, s, func(u SweepUpload) error {
		if old(u.Begun, o) {
			p.Uploads = append(p.Uploads, u)
		}
		return nil
	})
}

// old: what is younger may belong to something that is under way.
func old(t time.Time, o SweepOptions) bool { return o.Now.Sub(t) > o.Grace }

// listPacks finds all packs. Other objects below their prefix are not relman's.
func listPacks(ctx context.Context, s Store) (map[release.Digest]*SweepPack, error) {
	packs := map[release.Digest]*SweepPack{}
	err := s.List(ctx, "packs/", func(i Info) error {
		name := strings.TrimSuffix(i.Key[strings.LastIndexByte(i.Key, '/')+1:], packSuffix)
		if d, err := release.ParseDigest("sha256:" + name); err == nil && packKey(d) == i.Key {
			packs[d] = &SweepPack{Key: i.Key, Size: i.Size, Modified: i.Modified, digest: d}
		}
		return nil
	})
	return packs, err
}

// need notes what a release needs of packs.
func (p *SweepPlan) need(ctx context.Context, s Store, k KeptRelease, packs map[release.Digest]*SweepPack) error {
	r, err := Load(ctx, s, k.Site, k.ID, k.Manifest)
	if err != nil {
		return fmt.Errorf("release %s of %s is to be kept and cannot be read, so nothing is swept: %w", k.ID, k.Site, err)
	}
	for _, ref := range r.Layout.packs {
		pack := packs[ref.Digest]
		if pack == nil || pack.Size != ref.Size {
			p.missing[ref.Digest] = true
			p.log.Warn("a pack is missing, or not as long as it was", "pack", packKey(ref.Digest), "site", k.Site, "release", k.ID)
		}
		if pack != nil {
			pack.Releases++
		}
	}
	for _, f := range r.Layout.frames {
		d := r.Layout.packs[f.Pack].Digest
		if p.live[d] == nil {
			p.live[d] = map[int64]frameRef{}
		}
		f.Pack = 0 // of this layout; the others number otherwise
		other, ok := p.live[d][f.Offset]
		if ok && other != f {
			p.missing[d] = true // one of the two layouts is wrong
			p.log.Warn("layouts do not agree about a pack, which is left alone", "pack", packKey(d), "at", f.Offset)
		}
		if !ok && packs[d] != nil {
			packs[d].Live += f.Size
		}
		p.live[d][f.Offset] = f
	}
	return nil
}

// decide gives every pack its fate.
func (p *SweepPlan) decide(o SweepOptions) {
	var dead int64
	for i := range p.Packs {
		k := &p.Packs[i]
		switch {
		case k.Releases == 0 && !old(k.Modified, o):
			k.Fate, k.Why = PackYoung, "no release needs it, and it is younger than the grace"
		case k.Releases == 0:
			k.Fate, k.Why = PackDelete, "no release needs it"
		case p.missing[k.digest]:
			k.Fate, k.Why = PackKeep, "it is damaged: `relman verify` tells more"
		case k.Live*2 < k.Size && old(k.Modified, o):
			k.Fate, k.Why = PackRepack, fmt.Sprintf("%d of %d bytes are needed", k.Live, k.Size)
			dead += k.Size - k.Live
		default:
			k.Fate, k.Why = PackKeep, fmt.Sprintf("%d of %d bytes are needed", k.Live, k.Size)
		}
	}
	for i := range p.Packs {
		if k := &p.Packs[i]; k.Fate == PackRepack && dead < leastDead {
			k.Fate, k.Why = PackKeep, k.Why+"; repacking would save too little"
		}
	}
}

// leftovers finds manifests and layouts of releases that are not kept: those
// that were forgotten, and those of publishers that died.
func (p *SweepPlan) leftovers(ctx context.Context, s Store, o SweepOptions) error {
	kept := make(map[string]bool, len(p.keep))
	for _, k := range p.keep {
		kept[releasePrefix(k.Site, k.ID)] = true
	}
	foreign := 0
	err := s.List(ctx, "sites/", func(i Info) error {
		site, prefix, ok := releaseObject(i.Key)
		if !ok {
			foreign++
		}
		if ok && !slices.Contains(p.Sites, site) {
			p.Sites = append(p.Sites, site)
		}
		if ok && !kept[prefix] && old(i.Modified, o) {
			p.Objects = append(p.Objects, SweepObject(i))
		}
		return nil
	})
	if slices.Sort(p.Sites); foreign > 0 {
		p.log.Info("objects that are not relman's are left alone", "below", "sites/", "count", foreign)
	}
	// The layout before the manifest, as their names go.
	slices.SortFunc(p.Objects, func(a, b SweepObject) int { return strings.Compare(a.Key, b.Key) })
	return err
}

// releaseObject is the site that an object belongs to, and the prefix of the
// release. What has another name is not relman's.
func releaseObject(key string) (site release.Site, prefix string, ok bool) {
	parts := strings.Split(key, "/")
	if len(parts) != 5 || parts[4] != manifestName && parts[4] != layoutName {
		return "", "", false
	}
	site, err1 := release.ParseSite(parts[1])
	id, err2 := release.ParseID(parts[3])
	prefix = releasePrefix(site, id)
	return site, prefix, err1 == nil && err2 == nil && prefix+parts[4] == key
}
