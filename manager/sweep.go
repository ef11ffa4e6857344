package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// What a sweep's safety rests on, besides the guards of its transactions. The
// store cannot compare anything before it deletes. So the owner of a sweep holds
// it, by a transaction, and whatever it does to the store has ended 20 s after
// it asked for that (objectstore.SweepPlan.Run); and nobody takes a sweep over,
// or lets publishers go on, before it has rested for 60 s.
const (
	sweepQuiet  = 60 * time.Second // without a sign of its owner, a sweep is dead
	sweepSettle = 20 * time.Second // after which a request that was not answered has ended
	holdWithin  = 10 * time.Second // for a hold to be answered
	holdEvery   = 15 * time.Second // while the owner reads
	sweepLook   = time.Second      // between looks at another's sweep
	sweepTries  = 3                // when something is asked for in between
)

// Defaults of SweepConfig.
const (
	DefaultSweepKeep  = 10
	DefaultSweepGrace = 7 * 24 * time.Hour
)

// SweepCluster is what a sweep does with etcd.
type SweepCluster interface {
	// Sites lists the sites.
	Sites(ctx context.Context) ([]release.Site, error)
	// Observe reads all of one site at one revision, never an older one than
	// any read before. cluster.ErrNotFound: there is no such site.
	Observe(ctx context.Context, site release.Site) (*cluster.View, error)
	// Commit commits t or nothing. It repeats the same transaction until it
	// knows what became of it; a *cluster.Refusal is a certain no.
	Commit(ctx context.Context, t cluster.Txn) (revision int64, err error)
	// GC reads the state of the sweep.
	GC(ctx context.Context) (cluster.Entry[cluster.GC], error)
	// Uploads lists the publishers at work.
	Uploads(ctx context.Context) ([]cluster.Uploading, error)
}

// SweepConfig says what a sweep keeps.
type SweepConfig struct {
	By    string        // who sweeps, for whoever waits for it
	Grace time.Duration // nothing younger goes
	Keep  int           // of each site, so many of the newest releases
	Log   *slog.Logger  // nil: silent
}

// Busy says that no sweep can begin now, and whom to wait for. It is
// cluster.ErrConflict.
type Busy struct {
	Class cluster.Class // ClassSweeping or ClassUploading
	Text  string
}

func (b *Busy) Error() string { return b.Text }

// Is makes a Busy a conflict.
func (b *Busy) Is(target error) bool { return target == cluster.ErrConflict }

// errStrange: the store does not look like this cluster's.
var errStrange = errors.New("nothing is swept")

// Swept is what a sweep did or, if it was a dry run, would do.
type Swept struct {
	Sites []SweptSite
	Plan  *objectstore.SweepPlan
	Stats objectstore.SweepStats // of a dry run zero
}

// SweptSite is what becomes of a site's releases.
type SweptSite struct {
	Site     release.Site
	Releases []Fate
}

// Forgotten counts the releases that go.
func (s *Swept) Forgotten() int {
	n := 0
	for _, site := range s.Sites {
		n += len(site.victims())
	}
	return n
}

func (s SweptSite) victims() []release.ID {
	var ids []release.ID
	for _, f := range s.Releases {
		if !f.Keep {
			ids = append(ids, f.Release)
		}
	}
	return ids
}

// Sweeper removes from etcd and from the store what nothing refers to any
// more. Any number may be at work: one at a time sweeps.
type Sweeper struct {
	cluster SweepCluster
	store   objectstore.Store
	config  SweepConfig
	log     *slog.Logger

	// What reads and what changes the store; tests put themselves in between.
	look func(context.Context, objectstore.Store, []objectstore.KeptRelease, objectstore.SweepOptions) (*objectstore.SweepPlan, error)
	work func(*objectstore.SweepPlan, context.Context, objectstore.Store, func(context.Context) error) (objectstore.SweepStats, error)
}

// NewSweeper makes a sweeper of a cluster's store.
func NewSweeper(c SweepCluster, s objectstore.Store, cfg SweepConfig) *Sweeper {
	return &Sweeper{
		cluster: c, store: s, config: cfg, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		look: objectstore.SurveySweep, work: (*objectstore.SweepPlan).Run,
	}
}

// DryRun says what Run would do. It changes nothing, and keeps nobody away:
// what is being published meanwhile may look as if nothing referred to it.
func (s *Sweeper) DryRun(ctx context.Context) (*Swept, error) {
	out, _, err := s.survey(ctx)
	return out, err
}

// Run sweeps all sites. It is Busy, and has done nothing, when publishers are at
// work or another sweep is. When ctx ends, it stops between two requests to the
// store and ends the sweep. The Swept of an error says what was planned, and the
// part that was done.
func (s *Sweeper) Run(ctx context.Context) (*Swept, error) {
	own, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	s.log.Info("sweep begun", "gen", own.gc.Value.Gen)
	began := time.Now()
	out, err := s.owned(ctx, own)
	if eerr := own.end(ctx, err); eerr != nil {
		err = errors.Join(err, eerr)
	}
	if err == nil {
		s.log.Info("swept", "gen", own.gc.Value.Gen, "releases", out.Forgotten(), "objects", out.Stats.DeletedObjects,
			"bytes", out.Stats.DeletedBytes, "repacked", out.Stats.RepackedPacks, "seconds", time.Since(began).Round(time.Millisecond).Seconds())
	}
	return out, err
}

// owned does the work of a sweep while own is held.
func (s *Sweeper) owned(ctx context.Context, own *owner) (_ *Swept, err error) {
	ctx, stop := own.keep(ctx)
	defer stop()
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // a lost sweep, not the context that ended by it
		}
	}()
	var before []SweptSite // what was forgotten by earlier tries
	for try := 1; ; try++ {
		out, views, err := s.survey(ctx)
		if err != nil {
			return nil, err
		}
		gone, err := s.forget(ctx, own, out, views)
		if asked := moved(err) && cluster.RefusedBy(err) != cluster.ClassSweeping; asked && try < sweepTries {
			before = append(before, gone...) // what is kept may be more now
			continue
		}
		out.add(before)
		if err != nil {
			return out, err
		}
		// Not cut off by the end of ctx: a request whose answer nobody waits for
		// could be carried out when the sweep has ended.
		out.Stats, err = s.work(out.Plan, context.WithoutCancel(ctx), s.store, func(c context.Context) error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return own.hold(c)
		})
		own.loose = out.Stats.Unanswered > 0
		return out, err
	}
}

// add adds releases to those of their sites.
func (s *Swept) add(more []SweptSite) {
	for _, m := range more {
		for i := range s.Sites {
			if s.Sites[i].Site == m.Site {
				s.Sites[i].Releases = append(s.Sites[i].Releases, m.Releases...)
			}
		}
	}
}

// survey reads all sites and the store.
func (s *Sweeper) survey(ctx context.Context) (*Swept, []*cluster.View, error) {
	sites, err := s.cluster.Sites(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now().UTC()
	out := &Swept{Sites: []SweptSite{}}
	var views []*cluster.View
	var kept []objectstore.KeptRelease
	for _, site := range sites {
		v, err := s.cluster.Observe(ctx, site)
		if err != nil {
			return nil, nil, err
		}
		fates := fate(v, s.config.Keep, s.config.Grace, now)
		for _, f := range fates {
			if f.Keep {
				kept = append(kept, objectstore.KeptRelease{Site: site, ID: f.Release, Manifest: v.Releases[f.Release].Value.Manifest})
			}
		}
		views = append(views, v)
		out.Sites = append(out.Sites, SweptSite{site, fates})
	}
	o := objectstore.SweepOptions{Grace: s.config.Grace, Now: now, Log: s.log}
	if out.Plan, err = s.look(ctx, s.store, kept, o); err != nil {
		return nil, nil, fmt.Errorf("survey the store: %w", err)
	}
	for _, site := range out.Plan.Sites {
		if !slices.Contains(sites, site) {
			return nil, nil, fmt.Errorf("%w: the store has releases of %s, which this cluster has no site for: is it another cluster's store, too? a bucket and prefix belong to one cluster", errStrange, site)
		}
	}
	if len(kept) == 0 && len(out.Plan.Packs)+len(out.Plan.Objects) > 0 {
		// An etcd that was made anew, or another cluster's store.
		return nil, nil, fmt.Errorf("%w: no site has a release to keep, and the store has objects: is it this cluster's store? remove them by hand if they are not needed", errStrange)
	}
	return out, views, nil
}

// forget takes the victims out of their sites. What it returns is gone, also
// with an error.
func (s *Sweeper) forget(ctx context.Context, own *owner, out *Swept, views []*cluster.View) (gone []SweptSite, err error) {
	for i, site := range out.Sites {
		for ids := site.victims(); len(ids) > 0; {
			n := min(len(ids), cluster.ForgetAtOnce)
			if err := own.commit(ctx, func(gc cluster.Entry[cluster.GC]) cluster.Txn { return cluster.Forget(gc, views[i], ids[:n]) }); err != nil {
				return gone, err
			}
			done := SweptSite{Site: site.Site}
			for _, id := range ids[:n] {
				s.log.Info("release forgotten", "site", string(site.Site), "release", string(id))
				done.Releases = append(done.Releases, Fate{Release: id, Reasons: []string{}})
			}
			gone, ids = append(gone, done), ids[n:]
		}
	}
	return gone, nil
}

// begin takes the sweep (T17a). One whose owner shows no sign of life it takes
// over.
func (s *Sweeper) begin(ctx context.Context) (*owner, error) {
	var r rest
	for waits := false; ; {
		gc, err := s.cluster.GC(ctx)
		if err != nil {
			return nil, err
		}
		if gc.Value.Phase != cluster.GCSweep {
			own, err := s.take(ctx, gc)
			if cluster.RefusedBy(err) == cluster.ClassSweeping {
				continue // another one was faster
			}
			return own, err
		}
		if r.mod != 0 && r.mod != gc.Mod {
			return nil, &Busy{cluster.ClassSweeping, fmt.Sprintf("a sweep by %s is under way since %s", gc.Value.By, gc.Value.Since.Format(time.RFC3339))}
		}
		if r.quiet(gc.Mod, time.Now()) {
			if err := takeOver(ctx, s.cluster, gc, s.log); err != nil && !moved(err) {
				return nil, err
			}
			r = rest{}
			continue
		}
		if !waits {
			waits = true
			s.log.Warn("another sweep is under way: waiting for a sign of it", "by", gc.Value.By, "since", gc.Value.Since, "at_most", sweepQuiet)
		}
		if !pauseFor(ctx, sweepLook) {
			return nil, ctx.Err()
		}
	}
}

func (s *Sweeper) take(ctx context.Context, gc cluster.Entry[cluster.GC]) (*owner, error) {
	mine := cluster.GC{By: s.config.By, ID: cluster.NewULID(), Since: time.Now().UTC().Truncate(time.Second)}
	t := cluster.BeginSweep(gc, mine)
	mine.Gen, mine.Phase = gc.Value.Gen+1, cluster.GCSweep
	rev, err := s.cluster.Commit(ctx, t)
	if cluster.RefusedBy(err) == cluster.ClassUploading {
		return nil, s.uploading(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	return &owner{cluster: s.cluster, log: s.log, gc: cluster.Entry[cluster.GC]{Value: mine, Mod: rev, Create: gc.Create}}, nil
}

// uploading names the publishers at work.
func (s *Sweeper) uploading(ctx context.Context, err error) error {
	all, rerr := s.cluster.Uploads(ctx)
	if rerr != nil || len(all) == 0 { // gone by now
		return &Busy{cluster.ClassUploading, err.Error()}
	}
	var who []string
	for _, u := range all {
		who = append(who, fmt.Sprintf("%s by %s since %s", u.Site, cmp.Or(u.Host, "an unknown host"), u.Since.Format(time.RFC3339)))
	}
	return &Busy{cluster.ClassUploading, "publishers are at work: " + strings.Join(who, ", ")}
}
