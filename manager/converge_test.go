//go:build !noembed

package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
	"relman/release/hook"
)

// purge is a post-converge hook that writes down what it is told; while its
// file .bad exists it fails.
const purge = `
paths=unknown
if [ -n "$RELMAN_CHANGED_PATHS" ]; then paths=$(tr '\n' ',' < $RELMAN_CHANGED_PATHS); echo $RELMAN_CHANGED_PATHS >> $0.files; fi
echo "$RELMAN_EPOCH converged=$RELMAN_CONVERGED $RELMAN_PREVIOUS>$RELMAN_RELEASE $paths" >> $0.runs
[ ! -e $0.bad ]`

// builds publishes whole builds to a store in memory.
type builds struct {
	*etcdWorld
	store *objectstore.Memory
	hook  string
	last  *objectstore.Stored
}

func newBuilds(t *testing.T, managers int, within time.Duration) *builds {
	t.Helper()
	dir := t.TempDir()
	b := &builds{store: objectstore.NewMemory(), hook: filepath.Join(dir, "purge")}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(b.hook, []byte("#!/bin/sh\n"+purge+"\n"), 0o755), os.Chmod(b.hook, 0o755)); err != nil {
		t.Fatal(err)
	}
	h, err := hook.New(hook.Hook{Kind: hook.PostConverge, Path: b.hook, Limit: time.Minute, Retries: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.etcdWorld = newEtcdWorldWith(t, 2, managers, Config{
		PostConverge: h, ConvergeWithin: within,
		Store: func(context.Context) (objectstore.Store, error) { return b.store, nil },
	})
	return b
}

// flip publishes a build, and returns when it is active.
func (b *builds) flip(pages map[string]string) release.ID {
	b.Helper()
	dir := b.TempDir()
	for path, content := range pages {
		name := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	ctx, req := b.Context(), cluster.NewRequestID()
	scan, err := objectstore.Scan(ctx, dir, objectstore.ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	up, err := b.client.BeginUpload(ctx, b.site, req, "here", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = up.Close(ctx) }()
	p := &objectstore.Publisher{Store: b.store, Site: b.site, Base: b.last, Workers: 2}
	sent, err := p.Upload(ctx, scan)
	if err != nil {
		b.Fatal(err)
	}
	var m *release.Manifest
	id, err := b.client.Register(ctx, up, func(seq uint64) (release.ID, cluster.ReleaseRecord, error) {
		if m, err = sent.Commit(ctx, seq, time.Unix(1_700_000_000, 0)); err != nil {
			return "", cluster.ReleaseRecord{}, err
		}
		return m.ID(), cluster.ReleaseRecord{Manifest: m.Digest()}, nil
	})
	if err == nil {
		b.last, err = objectstore.Load(ctx, b.store, b.site, id, m.Digest())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ask(b.view(), cluster.Desired{Mode: cluster.Publish, Release: id, Request: req})
	return id
}

func (b *builds) runs() []string {
	b.Helper()
	raw, err := os.ReadFile(b.hook + ".runs")
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(raw)))
}

// told waits until an epoch is written down as told, and compares what the
// hook heard so far.
func (b *builds) told(epoch uint64, want ...string) {
	b.Helper()
	b.until(fmt.Sprintf("epoch %d is told", epoch), func(v *cluster.View) bool { return v.Told.Value == epoch })
	got := b.runs()
	for i := range got {
		got[i] = strings.TrimSuffix(got[i], "\n")
	}
	if !slices.Equal(got, want) {
		b.Errorf("the hook heard\n%q, want\n%q", got, want)
	}
}

// TestConverge: an epoch is told once, with what changed, over a change of the
// leader; what failed is told again by the next leader, and what was not told of is part of
// what changed later.
func TestConverge(t *testing.T) {
	b := newBuilds(t, 2, time.Hour)
	b.reports.Store(true)
	one := b.flip(map[string]string{"index.html": "1", "a/index.html": "a", "b c.html": "b", "same": "s"})
	first := fmt.Sprintf("1 converged=true >%s /,/a,/a/,/a/index.html,/b%%20c.html,/index.html,/same,", one)
	b.told(1, first)

	b.depose()
	two := b.flip(map[string]string{"index.html": "2", "a/index.html": "a", "same": "s"}) // by the new leader
	second := fmt.Sprintf("2 converged=true %s>%s /,/b%%20c.html,/index.html,", one, two)
	b.told(2, first, second)

	if err := os.WriteFile(b.hook+".bad", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	three := b.flip(map[string]string{"index.html": "3", "a/index.html": "a", "same": "s"})
	third := fmt.Sprintf("3 converged=true %s>%s /,/index.html,", two, three)
	b.eventually("it is tried as often as it may be", func() bool { return len(b.runs()) == 4 })
	if v := b.view(); v.Told.Value != 2 {
		t.Errorf("told of %d", v.Told.Value)
	}
	four := b.flip(map[string]string{"index.html": "3", "a/index.html": "a2", "same": "s"})
	fourth := fmt.Sprintf("4 converged=true %s>%s /,/a/,/a/index.html,/index.html,", three, four)
	b.eventually("the next epoch is tried", func() bool { return len(b.runs()) == 6 })
	if err := os.Remove(b.hook + ".bad"); err != nil {
		t.Fatal(err)
	}
	b.depose()
	b.told(4, first, second, third, third, fourth, fourth, fourth)
	files, err := os.ReadFile(b.hook + ".files")
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(files)) {
		if _, err := os.Stat(strings.TrimSpace(name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

func (b *builds) eventually(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not so, the hook heard %q", what, b.runs())
		}
	}
}

// TestConverger_due: when an epoch is told of.
func TestConverger_due(t *testing.T) {
	v := siteView()
	epoch := v.Active.Value.Epoch
	shows := func(e release.Epoch) {
		for _, n := range v.EnteredNodes() {
			v.Live[n], v.Status[n] = cluster.Live{}, cluster.Status{Epoch: e}
		}
	}
	shows(epoch - 1)
	c := &converger{within: time.Minute}
	expect := func(what string, at time.Duration, want bool, until time.Duration) {
		t.Helper()
		got, end := c.due(v, now.Add(at))
		if got != want || !end.IsZero() != (until > 0) || until > 0 && !end.Equal(now.Add(until)) {
			t.Errorf("%s: due %v, at the latest %v", what, got, end)
		}
	}
	expect("nobody shows it", 0, false, time.Minute)
	expect("some time later", time.Second, false, time.Minute)
	expect("at the end of its time", time.Minute, true, 0)
	shows(epoch)
	expect("all show it", time.Second, true, 0)
	v.Told.Value = uint64(epoch)
	expect("another leader has told of it", time.Minute, false, 0)
	v.Told.Value = 0
	c.over = epoch
	expect("this leader has", time.Minute, false, 0)
	v.Active.Value.Epoch++
	expect("a new epoch", 2*time.Minute, false, 3*time.Minute)
	v.Active = cluster.Entry[cluster.Active]{}
	expect("nothing is active", time.Hour, false, 0)
}

// TestDiffer: the URL paths of what differs between two releases.
func TestDiffer(t *testing.T) {
	file := func(path, content string) release.File {
		return release.File{Path: path, Digest: release.Sum([]byte(content))}
	}
	typed := file("t", "1")
	typed.Type = "text/x-t"
	moved := file("same", "1")
	moved.MTime, moved.Exec = 5, true
	for _, c := range []struct {
		name     string
		old, now []release.File
		want     string
	}{
		{"nothing", []release.File{file("same", "1")}, []release.File{moved}, ""},
		{"changed", []release.File{file("a", "1"), file("d/index.html", "1")}, []release.File{file("a", "2"), file("d/index.html", "2")}, "/a /d/ /d/index.html"},
		{"came and went", []release.File{file("a", "1"), file("d/index.html", "1")}, []release.File{file("b?#.html", "1"), file("index.html", "1")},
			"/ /a /b%3F%23.html /d /d/ /d/index.html /index.html"},
		{"another type", []release.File{file("t", "1")}, []release.File{typed}, "/t"},
		{"not an index page", nil, []release.File{file("xindex.html", "1")}, "/xindex.html"},
	} {
		found := map[string]bool{}
		differ(c.old, c.now, found)
		if got := strings.Join(slices.Sorted(maps.Keys(found)), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestConverge_late: nodes that do not say what they show are waited for, but
// not for ever. A release that is lost from the store makes the changes
// unknown.
func TestConverge_late(t *testing.T) {
	b := newBuilds(t, 1, 700*time.Millisecond)
	began := time.Now()
	one := b.flip(map[string]string{"index.html": "1"})
	b.told(1, fmt.Sprintf("1 converged=false >%s /,/index.html,", one))
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("told after %v", took)
	}
	err := b.store.List(t.Context(), "sites/", func(o objectstore.Info) error {
		if strings.Contains(o.Key, string(one)+"/manifest") {
			return b.store.Delete(t.Context(), o.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.reports.Store(true)
	two := b.flip(map[string]string{"index.html": "2"})
	b.told(2, fmt.Sprintf("1 converged=false >%s /,/index.html,", one), fmt.Sprintf("2 converged=true %s>%s unknown", one, two))
}
