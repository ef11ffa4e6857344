package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// level says how bad a finding is.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn" // works, and should not stay so
	levelBad  level = "bad"  // something does not work, or will not when it is needed
)

// finding is one thing that the doctor looked at.
type finding struct {
	Level level  `json:"level"`
	About string `json:"about"` // "etcd", "manager", "store", "nginx", a site, or a node
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
	// blind: what it is about could not be looked at.
	blind bool
}

func fine(about, format string, args ...any) finding {
	return finding{Level: levelOK, About: about, Text: fmt.Sprintf(format, args...)}
}

func warn(about, format string, args ...any) finding {
	return finding{Level: levelWarn, About: about, Text: fmt.Sprintf(format, args...)}
}

func bad(about, format string, args ...any) finding {
	return finding{Level: levelBad, About: about, Text: fmt.Sprintf(format, args...)}
}

// todo adds what to do.
func (f finding) todo(format string, args ...any) finding {
	f.Do = fmt.Sprintf(format, args...)
	return f
}

// blinded says that nothing more can be known of it.
func (f finding) blinded() finding {
	f.blind = true
	return f
}

func (f finding) line() string {
	text := f.About + ": " + f.Text
	if f.Do != "" {
		text += "; to do: " + f.Do
	}
	return fmt.Sprintf("%-4s  %s", f.Level, text)
}

// doctorReport is `relman doctor` in -o json.
type doctorReport struct {
	OK       int       `json:"ok"`
	Warnings int       `json:"warnings"`
	Bad      int       `json:"bad"`
	Findings []finding `json:"findings"` // the worst first
}

// doctorOptions say what a doctor looks at.
type doctorOptions struct {
	site  string // "" for all
	nginx []string
	// restWithin is how long a sweep may give no sign: longer than its owner
	// takes to give one.
	restWithin time.Duration
	nginxDir   string
}

func newDoctorCommand(a *app) *cobra.Command {
	o := doctorOptions{restWithin: 20 * time.Second, nginxDir: "/etc/nginx"}
	cmd := &cobra.Command{
		Use:   "doctor [SITE]",
		Short: "Say what is wrong with the cluster, and what to do about it",
		Long: `Say what is wrong with the cluster, and what to do about it. Nothing is changed.

It asks every member of etcd by itself, the manager, every node of SITE, or of
all sites, and the store: whether all that the active and the previous release
need is there. On a host with nginx it also looks at nginx' configuration. Run it
where etcd, the store and the nodes' --admin-addr can be reached.

Each line begins with ok, warn or bad. Exit code 0: nothing is bad. 10: something
is. 3: so much that etcd or the store could not be looked at.`,
		Example: `  relman doctor
  relman doctor www -o json
  relman doctor --nginx-conf /opt/nginx/nginx.conf`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site = a.cfg.Site
			if len(args) > 0 {
				o.site = args[0]
			}
			return a.doctor(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&o.nginx, "nginx-conf", nil, "a file of nginx' configuration to look at, besides those in "+o.nginxDir)
	return cmd
}

// doctor looks, and prints what it found.
func (a *app) doctor(ctx context.Context, o doctorOptions) error {
	c, err := a.examine(ctx, o)
	if err != nil {
		return err
	}
	r, blind := reportFindings(diagnose(c))
	out := outcome{Site: release.Site(o.site), State: stateDone, Doctor: r}
	var failed error
	if r.Bad > 0 {
		out.State = stateFailed
		f := &failure{code: exitCorrupt, class: classUnwell, out: &out}
		f.text = fmt.Sprintf("%d bad, %s, %d ok", r.Bad, plural(r.Warnings, "warning"), r.OK)
		if blind {
			f.code = exitUnreachable
		}
		if from, _ := a.settings.origin("endpoints"); from == originDefault && !c.etcd.Answers() {
			f = f.withHint("start a cluster here with `relman dev`, or name one with --endpoints")
		}
		failed = f
	}
	if failed != nil && a.format().structured() {
		return failed // it is printed with that
	}
	return errors.Join(a.print(out, func(t *tables) {
		for _, f := range r.Findings {
			if !a.cfg.Quiet || f.Level != levelOK {
				t.line("%s", harmless(f.line()))
			}
		}
	}, r.unwell()...), failed)
}

// reportFindings counts. blind: something could not be looked at.
func reportFindings(all []finding) (r *doctorReport, blind bool) {
	r = &doctorReport{Findings: all}
	for _, f := range all {
		switch f.Level {
		case levelOK:
			r.OK++
		case levelWarn:
			r.Warnings++
		case levelBad:
			r.Bad++
		}
		blind = blind || f.blind
	}
	return r, blind
}

// unwell names what something bad was found of, each once.
func (r *doctorReport) unwell() (names []string) {
	for _, f := range r.Findings {
		if f.Level == levelBad && !slices.Contains(names, f.About) {
			names = append(names, f.About)
		}
	}
	return names
}

// checkup is all that a doctor looks at.
type checkup struct {
	now     time.Time
	etcd    cluster.EtcdHealth
	etcdErr error // it could not be asked what it holds

	leader  string
	gc      cluster.Entry[cluster.GC]
	resting bool // the sweep under way gave no sign
	uploads []cluster.Uploading
	sites   []siteCheckup
	nodes   []nodeCheckup

	storeAt  string
	storeErr error // the store could not be opened, or does not answer

	nginx nginxLook
}

// siteCheckup is what there is to know of one site.
type siteCheckup struct {
	site  release.Site
	view  *cluster.View // nil: it could not be read
	err   error
	store *objectstore.Audited // of the active and previous releases; nil: not looked at
	// storeErr is why it was not.
	storeErr error
}

// examine asks everybody. An error is one of the command line; what is wrong with
// the cluster stands in the checkup.
func (a *app) examine(ctx context.Context, o doctorOptions) (*checkup, error) {
	if o.site != "" {
		if _, err := release.ParseSite(o.site); err != nil {
			return nil, usageError(err)
		}
	}
	c := &checkup{now: time.Now()}
	c.nginx = lookAtNginx(o.nginxDir, o.nginx)
	cfg, err := a.clusterConfig()
	if err != nil {
		return nil, err
	}
	if !a.cfg.Verbose {
		cfg.Log = nil
	}
	client, err := cluster.Open(ctx, cfg)
	if err != nil {
		return nil, a.dialError(err, cfg.Endpoints)
	}
	defer client.Close() // nothing is under way any more
	progress := a.newUI().progress
	progress.begin("looking", nodesDone)
	defer progress.end()
	c.etcd = client.Health(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.etcd.Answers() {
		return c, nil // nothing else would be answered
	}
	sites, err := client.Sites(ctx)
	if err != nil {
		c.etcdErr = err
		return c, nil
	}
	if o.site != "" {
		site, err := resolveSite(ctx, client, o.site)
		if err != nil {
			return nil, err
		}
		sites = []release.Site{site}
	}
	s := newSession(client, "", a.storeURL(), cfg.Log)
	c.askEtcd(ctx, client, sites, o)
	c.askStore(ctx, s)
	c.askNodes(ctx)
	return c, ctx.Err()
}

// askEtcd reads what etcd holds.
func (c *checkup) askEtcd(ctx context.Context, client *cluster.Client, sites []release.Site, o doctorOptions) {
	for _, site := range sites {
		v, err := client.Observe(ctx, site)
		if err != nil {
			v = nil
		}
		c.sites = append(c.sites, siteCheckup{site: site, view: v, err: err})
	}
	var err error
	if c.leader, err = client.Leader(ctx); err == nil {
		c.uploads, err = client.Uploads(ctx)
	}
	if err == nil {
		c.gc, err = client.GC(ctx)
	}
	if err == nil && c.gc.Value.Phase == cluster.GCSweep {
		c.resting, err = rests(ctx, client, c.gc, o.restWithin)
	}
	c.etcdErr = err
}

// rests reports whether the owner of a sweep gives no sign for so long.
func rests(ctx context.Context, client *cluster.Client, seen cluster.Entry[cluster.GC], within time.Duration) (bool, error) {
	look := time.NewTicker(within / 20)
	defer look.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-look.C:
		}
		if now, err := client.GC(ctx); err != nil || now.Mod != seen.Mod {
			return false, err
		}
	}
	return true, nil
}

// askStore looks whether all is there that the sites' nodes may need.
func (c *checkup) askStore(ctx context.Context, s *session) {
	info, err := s.client.Info(ctx)
	if err != nil && (s.url == "" || !errors.Is(err, cluster.ErrNotFound)) {
		c.storeErr = err
		return
	}
	if c.storeAt = s.url; c.storeAt == "" {
		c.storeAt = info.Store
	}
	st, err := openStore(ownCredentials(info), s.url)
	if err != nil {
		c.storeErr = err
		return
	}
	// Once, and not again and again: that a store fails is what is to be known.
	if _, err := st.Stat(ctx, "packs/none"); err != nil && !errors.Is(err, objectstore.ErrNotFound) {
		c.storeErr = err
		return
	}
	for i := range c.sites {
		if site := &c.sites[i]; site.view != nil {
			site.store, site.storeErr = objectstore.Look(ctx, st, site.site, neededOf(site.view))
		}
	}
}

// neededOf are the releases that nodes may have to fetch: what is active, what
// was before, and what is rolled out.
func neededOf(v *cluster.View) (all []objectstore.Kept) {
	var ids []release.ID
	if a := v.Active; a.Exists() {
		for _, h := range a.Value.Needed() {
			ids = append(ids, h.Release)
		}
	}
	if v.Rollout.Exists() {
		ids = append(ids, v.Rollout.Value.Release)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if rec, ok := v.Releases[id]; ok {
			all = append(all, objectstore.Kept{ID: id, Manifest: rec.Value.Manifest})
		}
	}
	return all
}

// diagnose says what is wrong, the worst first.
func diagnose(c *checkup) []finding {
	all := diagnoseEtcd(c.etcd)
	if c.etcdErr != nil {
		all = append(all, bad("etcd", "it cannot be asked what it holds: %v", c.etcdErr).
			todo("without a majority of members nothing flips, and nodes serve on: bring members back").blinded())
	}
	if c.etcdErr == nil && c.etcd.Answers() {
		all = append(all, diagnoseManager(c)...)
		all = append(all, diagnoseStore(c)...)
	}
	for _, s := range c.sites {
		all = append(all, diagnoseSite(s, c.now)...)
	}
	all = append(all, diagnoseNodes(c)...)
	all = append(all, diagnoseNginx(c.nginx)...)
	rank := map[level]int{levelBad: 0, levelWarn: 1, levelOK: 2}
	slices.SortStableFunc(all, func(f, g finding) int { return rank[f.Level] - rank[g.Level] })
	return all
}

// listed is a list in words.
func listed[T ~string](names []T) string {
	var all []string
	for _, n := range names {
		all = append(all, string(n))
	}
	return strings.Join(all, ", ")
}
