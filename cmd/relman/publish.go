package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/failpoint"
	"relman/nodeagent"
	"relman/nodeagent/siterules"
	"relman/objectstore"
	"relman/release"
)

// A publisher is short-lived: garbage is collected seldom, until it comes near
// what the runtime tries to stay within. Frames and packs are large.
const (
	publishGC     = 400
	publishMemory = 190 << 20
)

// publishOptions say what to publish and how.
type publishOptions struct {
	askOptions
	scan    objectstore.ScanOptions
	dir     string
	message string
	commit  string
	hold    bool // prepare, and do not flip
	dryRun  bool
	noCache bool
	full    bool // send also what the active release has
}

func newPublishCommand(a *app) *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "Upload a build, have every node hold it, flip, and wait until all show it",
		Long: `Upload a build, have every node hold it, flip, and wait until all show it.

Nothing changes on any node until all hold the release, verified; then one
transaction flips it. A build that equals what is active changes nothing. When
another request is under way, or comes first, this one ends with exit code 4.`,
		Example: `  relman publish dist/ -m "PR 412"
  relman publish dist/ -s www -m "$CI_COMMIT_MESSAGE" --commit "$CI_COMMIT_SHA" --queue
  relman publish dist/ --canary=5%            show it to one visitor in twenty at first
  relman publish dist/ --swap-at +2s          all nodes swap together, two seconds after the flip
  relman publish dist/ --no-flip -o name      prepare it, and print the release`,
		Args: argsNamed("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.dir, o.askOptions = args[0], a.given(o.askOptions)
			if info, err := os.Stat(o.dir); err != nil {
				return usageError(err)
			} else if !info.IsDir() {
				return usagef("%s is not a directory", o.dir)
			}
			debug.SetGCPercent(publishGC)
			debug.SetMemoryLimit(publishMemory)
			return a.change(cmd.Context(), func(ctx context.Context, s *session, u *ui) (outcome, error) {
				return publish(ctx, s, o, u)
			})
		},
	}
	addAskFlags(cmd, &o.askOptions)
	f := cmd.Flags()
	f.StringVarP(&o.message, "message", "m", "", "why; it stands in the history")
	f.StringVar(&o.commit, "commit", "", "the commit that the build was made from")
	f.BoolVar(&o.hold, "no-flip", false, "have every node hold the release, and do not flip")
	addCanaryFlag(cmd, &o.askOptions)
	cmd.MarkFlagsMutuallyExclusive("no-flip", "swap-at")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be uploaded, and change nothing")
	f.BoolVar(&o.noCache, "no-cache", false, "read every file, also those that are as they were when they were last published from here")
	f.BoolVar(&o.full, "full", false, "send everything, also what the active release has, and replace packs that are damaged: as after a loss of objects")
	f.BoolVar(&o.scan.FollowSymlinks, "follow-symlinks", false, "take what symbolic links inside the build point to")
	f.BoolVar(&o.scan.Secrets, "allow-secrets", false, "take what usually is a secret or a tool's own, such as .env and .git")
	return cmd
}

// publish makes a release of a directory and has it flipped to.
//
// Until it asks (T2) nothing but objects and a release that nobody uses has
// come into being, and a publisher that dies leaves only these. From then on
// the request goes on without it.
func publish(ctx context.Context, s *session, o publishOptions, u *ui) (outcome, error) {
	v, err := s.ground(ctx, o.askOptions, u)
	if first := (cluster.Desired{Mode: cluster.Publish, Override: o.override, Hold: o.hold}); err == nil {
		err = cmp.Or(unfrozen(v, first), noCanary(v, first))
	}
	if err != nil {
		return stays(v, err, u)
	}
	p := &publisher{s: s, u: u, o: o, v: v}
	out, err := p.prepare(ctx)
	if err != nil {
		return stays(v, err, u)
	}
	if out.State != "" {
		return out, nil // there was nothing to ask for
	}
	v, err = s.ask(ctx, v, p.d, o.askOptions, u)
	if err != nil {
		return stays(v, err, u)
	}
	if err := failpoint.Point("publish.after-ask"); err != nil {
		return stays(v, err, u)
	}
	done, err := s.follow(ctx, v, p.d, o.askOptions, u)
	done.Upload = out.Upload
	return done, err
}

// stays says that what is live stays; v may be nil when that is not known.
func stays(v *cluster.View, err error, u *ui) (outcome, error) {
	f := *failureOf(err)
	if f.code == exitInterrupted {
		f.text, f.hint = "interrupted: nothing was asked for, nothing goes on", ""
	}
	if v == nil {
		return outcome{}, &f
	}
	if f.out == nil {
		f.out = outcomeOf(v)
	}
	why := strings.TrimPrefix(f.Error(), string(v.Site)+": ")
	if first, rest, more := strings.Cut(why, "\n"); more { // all of them come with the error
		why = fmt.Sprintf("%s (and %d more)", first, 1+strings.Count(rest, "\n"))
	}
	if f.code == exitUnknown {
		u.end("UNKNOWN", fmt.Sprintf("%s was %s: %s", v.Site, orNothing(v.Active.Value.Release), why))
	} else {
		u.end("NOT FLIPPED", fmt.Sprintf("%s stays %s: %s", v.Site, orNothing(v.Active.Value.Release), why))
	}
	return *f.out, &f
}

// publisher makes one release.
type publisher struct {
	s *session
	u *ui
	o publishOptions
	v *cluster.View // what it began with
	d cluster.Desired

	marker  *cluster.UploadMarker
	objects *objectstore.Publisher
	packs   *objectstore.PackCache // nil for none
	build   *objectstore.Build
	sent    *objectstore.Upload
	saving  sync.WaitGroup // of caches, while the release is registered
}

// prepare uploads the build and registers it as a release; p.d then asks for
// it. The outcome has a state when there is nothing to ask for.
func (p *publisher) prepare(ctx context.Context) (outcome, error) {
	out := *outcomeOf(p.v)
	out.State = ""
	began := time.Now()
	p.d = p.s.desired(cluster.Publish, "", p.o.message, p.o.askOptions)
	p.d.Hold = p.o.hold
	defer p.saving.Wait()
	defer p.unmark(ctx)
	if err := p.look(ctx); err != nil {
		return out, err
	}
	if p.o.dryRun {
		return p.dryRun(ctx, out, began)
	}
	if err := p.upload(ctx); err != nil {
		return out, err
	}
	out.Upload = p.uploaded(began)
	if p.unchanged() {
		if err := p.stillSo(ctx); err != nil {
			return out, err
		}
		out.State, out.Release, out.Epoch = stateUnchanged, out.Active, p.v.Active.Value.Epoch
		p.u.end("UNCHANGED", fmt.Sprintf("%s = %s: %s, all as in the build", p.s.site, out.Active, plural(out.Upload.Files, "file")))
		return out, nil
	}
	var err error
	if p.d.Release, err = p.register(ctx); err != nil {
		return out, err
	}
	if err := failpoint.Point("publish.after-register"); err != nil {
		return out, err
	}
	p.u.step("uploaded", time.Since(began), string(p.d.Release)+"   "+uploadText(out.Upload))
	return out, nil
}

// stillSo: nothing was asked for or flipped while the build was read.
func (p *publisher) stillSo(ctx context.Context) error {
	now, err := p.s.client.Observe(ctx, p.s.site)
	if err != nil {
		return err
	}
	if now.Active.Mod != p.v.Active.Mod || now.Desired.Mod != p.v.Desired.Mod {
		return conflict(now)
	}
	return nil
}

// look reads the names of the build and, at the same time since it takes as
// long, the base. What is wrong with the build comes first, and at once.
func (p *publisher) look(ctx context.Context) (err error) {
	octx, cancel := context.WithCancel(ctx)
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- p.open(octx) }()
	if p.build, err = objectstore.Scan(ctx, p.o.dir, p.o.scan); err == nil {
		err = p.checkRules(ctx)
	}
	if err != nil {
		cancel()
	}
	return cmp.Or(err, <-opened)
}

// checkRules refuses a build whose _redirects or _headers the nodes would not
// understand: nobody should find out from visitors.
func (p *publisher) checkRules(ctx context.Context) error {
	paths := make(map[string]bool, len(p.build.Files))
	for _, f := range p.build.Files {
		paths[f.Path] = true
	}
	if !paths[siterules.RedirectsFile] && !paths[siterules.HeadersFile] {
		return nil
	}
	serving, err := p.s.client.Serving(ctx, p.s.site)
	if err != nil {
		return err
	}
	err = nodeagent.CheckRules(serving.Value, func(path string) bool { return paths[path] }, func(name string) ([]byte, error) {
		if !paths[name] {
			return nil, nil
		}
		return os.ReadFile(filepath.Join(p.o.dir, name))
	})
	if err != nil {
		return fmt.Errorf("%w %s: %w", objectstore.ErrBuild, p.o.dir, err)
	}
	return nil
}

// open puts up the marker that keeps a sweep away, opens the store, and reads
// the base: the release that is active. Nothing that was known of the store
// before the marker stood is used.
func (p *publisher) open(ctx context.Context) error {
	p.saving.Wait() // of an upload before this one
	if err := cmp.Or(p.mark(ctx), failpoint.Point("publish.after-mark")); err != nil {
		return err
	}
	if err := p.s.openStore(ctx); err != nil {
		return err
	}
	a, gc := p.v.Active, p.v.GC
	if p.marker != nil {
		a, gc = p.marker.Active, p.marker.GC
	}
	p.objects = &objectstore.Publisher{Store: p.s.store, Site: p.s.site, Progress: func(n objectstore.PublishProgress) {
		text := fmt.Sprintf("%s of %s files", countText(n.Files), countText(n.AllFiles))
		if n.Sent > 0 {
			text += ", sent " + bytesText(n.Sent)
		}
		if n.Files == n.AllFiles { // what is left is up to the store
			p.u.progress.set(0, 0, text+", the rest is on its way to "+p.s.at)
			return
		}
		p.u.progress.set(n.Bytes, n.AllBytes, text)
	}}
	p.objects.Distrust = p.o.full
	if !p.o.noCache {
		p.openCaches(gc)
	}
	if a.Exists() && !p.o.full {
		base, err := objectstore.Load(ctx, p.objects.Store, p.s.site, a.Value.Release, a.Value.Manifest)
		switch {
		case errors.Is(err, objectstore.ErrNotFound) || errors.Is(err, objectstore.ErrCorrupt):
			// The nodes hold it all the same, and this publish mends it for the
			// next one.
			p.s.log.Warn("what is active cannot be read back from the store: everything is uploaded", "release", a.Value.Release, "error", err)
			p.objects.Distrust = true
		case err != nil:
			return fmt.Errorf("read what is active: %w", err)
		default:
			p.objects.Base = base
		}
	}
	return failpoint.Point("publish.after-base")
}

// openCaches opens the cache of digests of the build directory and that of the
// site's packs, if there is a place for caches.
func (p *publisher) openCaches(gc cluster.Entry[cluster.GC]) {
	caches, err := os.UserCacheDir() // $XDG_CACHE_HOME, or ~/.cache
	if err != nil {
		return
	}
	dir, err := filepath.Abs(p.o.dir)
	if err != nil {
		return
	}
	p.objects.Cache = objectstore.OpenCache(filepath.Join(caches, "relman", "digests", release.Sum([]byte(dir)).Hex()[:24]+".json"))
	// Another store of a site with this name has other layouts.
	name := string(p.s.site) + "-" + release.Sum([]byte(p.s.at)).Hex()[:12]
	stamp := fmt.Sprint(gc.Mod) // a sweep rewrites layouts
	p.packs = objectstore.NewPackCache(p.objects.Store, filepath.Join(caches, "relman", "packs", name), stamp)
	p.objects.Store = p.packs
}

// saveCaches keeps what the next publish from here can use.
func (p *publisher) saveCaches() {
	if p.packs == nil || p.o.dryRun {
		return
	}
	if err := errors.Join(p.packs.Prune(p.sent.Layout(), p.v.Active.Value.Release), p.objects.Cache.Save()); err != nil {
		p.s.log.Warn("the next publish takes longer", "error", err)
	}
}

// mark puts up the marker, and waits for a sweep that is under way. A dry run
// registers nothing and needs none.
func (p *publisher) mark(ctx context.Context) (err error) {
	if p.o.dryRun {
		return nil
	}
	host, _ := os.Hostname() // only says where
	p.marker, err = p.s.client.BeginUpload(ctx, p.s.site, p.d.Request, host, func(g cluster.GC) {
		p.u.progress.note("waiting for the sweep of the store by %s, under way since %s", g.By, g.Since.Format(time.RFC3339))
	})
	return err
}

// upload sends what the store does not have.
func (p *publisher) upload(ctx context.Context) (err error) {
	p.saving.Wait()
	p.u.progress.begin("reading", bytesRate)
	defer p.u.progress.end()
	if p.sent, err = p.objects.Upload(ctx, p.build); err != nil {
		return err
	}
	p.saving.Go(p.saveCaches)
	return failpoint.Point("publish.after-upload")
}

// unmark takes the marker down.
func (p *publisher) unmark(ctx context.Context) {
	if p.marker == nil {
		return
	}
	ctx, cancel := uncut(ctx)
	defer cancel()
	_ = p.marker.Close(ctx) // it runs out by itself
	p.marker = nil
}

// unchanged: the build is what is active, and nothing that was asked for would
// make it otherwise.
func (p *publisher) unchanged() bool { return p.sent.Unchanged() && p.v.Done() }

// mostUploads bounds how often an upload is done again because a sweep of the
// store came in between.
const mostUploads = 3

// register makes the upload a release (T1).
func (p *publisher) register(ctx context.Context) (release.ID, error) {
	created := time.Now().UTC().Truncate(time.Second)
	for try := 1; ; try++ {
		id, err := p.s.client.Register(ctx, p.marker, func(seq uint64) (release.ID, cluster.ReleaseRecord, error) {
			m, err := p.sent.Commit(ctx, seq, created)
			if err != nil {
				return "", cluster.ReleaseRecord{}, err
			}
			return m.ID(), cluster.ReleaseRecord{
				Manifest: m.Digest(), Files: m.Count, Bytes: m.Bytes, Created: created,
				By: p.s.by, Message: p.o.message, Commit: p.o.commit, Request: p.d.Request,
			}, nil
		})
		class := cluster.RefusedBy(err)
		swept := class == cluster.ClassSweeping || class == cluster.ClassUploadExpired
		if !swept || try == mostUploads {
			return id, err
		}
		// What there was may be gone, and the base be elsewhere.
		p.unmark(ctx)
		if err := p.open(ctx); err != nil {
			return "", err
		}
		if err := p.upload(ctx); err != nil {
			return "", err
		}
	}
}

func (p *publisher) uploaded(began time.Time) *upload {
	n := p.sent.Stats
	return &upload{
		Files: n.Files, NewFiles: n.NewFiles, Bytes: n.Bytes, Sent: n.UploadedBytes, Packs: n.Packs,
		Seconds: time.Since(began).Round(time.Millisecond).Seconds(),
	}
}

func uploadText(n *upload) string {
	return fmt.Sprintf("%s new of %s   %s in %s", countText(n.NewFiles), plural(n.Files, "file"), bytesText(n.Sent), plural(n.Packs, "pack"))
}

// dryRun goes as far as it goes without writing anything.
func (p *publisher) dryRun(ctx context.Context, out outcome, began time.Time) (outcome, error) {
	p.objects.Store = dryStore{p.objects.Store}
	if err := p.upload(ctx); err != nil {
		return out, err
	}
	out.State, out.Upload = stateDryRun, p.uploaded(began)
	what := uploadText(out.Upload)
	if p.unchanged() {
		if err := p.stillSo(ctx); err != nil {
			return out, err
		}
		what += ", all as in what is active"
	}
	p.u.end("DRY RUN", fmt.Sprintf("%s stays %s: %s", p.s.site, orNothing(out.Active), what))
	return out, nil
}

// dryStore takes everything and keeps nothing.
type dryStore struct{ objectstore.Store }

// Put is objectstore.Store.
func (dryStore) Put(context.Context, string, []byte, bool) error { return nil }

// argsNamed wants exactly these arguments.
func argsNamed(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			extra := args[len(names)]
			if strings.HasSuffix(extra, "%") {
				return usagef("%q is one argument too many", extra).withHint("it belongs to the flag: --canary=%s", extra)
			}
			return fmt.Errorf("%q is one argument too many", extra)
		}
		return nil
	}
}
