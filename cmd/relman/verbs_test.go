package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/objectstore"
	"relman/release"
)

// TestVerbs is the life of a site: publish, look, flip, roll back, freeze.
func TestVerbs(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 2)
	expect := func(code exitCode, says string, args ...string) string {
		t.Helper()
		got, out, errs := l.relman(t, args...)
		if got != code || !strings.Contains(out+errs, says) {
			t.Errorf("relman %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
		}
		return out
	}
	expect(exitOK, "nothing yet", "status")
	expect(exitUsage, "no previous release", "rollback")

	first, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a", "b"), message: "first"})
	if f != nil || !first.Changed || first.State != stateLive || first.Epoch != 1 || first.Upload.NewFiles != 2 {
		t.Fatalf("%+v %v\n%s", first, f, report)
	}
	v2 := site(t, "a", "c")
	second, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: v2, message: "second", commit: "abc"})
	if f != nil {
		t.Fatal(f)
	}
	want := `^uploaded   000002-\w{12}   1 new of 2 files   \S+ \S+ in 1 pack +\S+
ready      2/2 nodes +\S+
flipped    epoch 2 \(was ` + string(first.Release) + `\)( +\S+)?
converged  2/2 serving, skew \S+ ms
LIVE       www = ` + string(second.Release) + `
$`
	if !regexp.MustCompile(want).MatchString(report) {
		t.Errorf("got:\n%swant:\n%s", report, want)
	}
	same, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: v2})
	if f != nil || same.Changed || same.State != stateUnchanged || same.Release != second.Release || strings.Contains(report, "LIVE") {
		t.Errorf("%+v %v\n%s", same, f, report)
	}
	held, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "d"), hold: true})
	if f != nil || held.State != stateReady || held.Changed || held.Active != second.Release || !strings.Contains(report, "READY      www stays "+string(second.Release)) {
		t.Errorf("%+v %v\n%s", held, f, report)
	}
	dry, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "e"), dryRun: true})
	if f != nil || dry.State != stateDryRun || dry.Upload.NewFiles != 1 || !strings.HasPrefix(report, "DRY RUN") || len(l.view(t).Releases) != 3 {
		t.Errorf("%+v %v\n%s", dry, f, report)
	}

	expect(exitConflict, "--if-active", "flip", "latest", "--if-active", "1")
	expect(exitConflict, "--if-epoch", "flip", "latest", "--if-epoch", "1")
	var o outcome
	out := expect(exitOK, "", "flip", "latest", "--if-active", "2", "-o", "json", "-m", "why not")
	if err := json.Unmarshal([]byte(out), &o); err != nil || o.Release != held.Release || !o.Changed || o.Epoch != 3 || o.Previous != second.Release || *o.Shown != (count{2, 2}) {
		t.Errorf("%v\n%s", err, out)
	}
	expect(exitOK, "UNCHANGED  www = "+string(held.Release), "flip", string(held.Release))
	expect(exitOK, "LIVE       www = "+string(second.Release), "rollback", "-m", "oops")
	expect(exitFrozen, "oops", "flip", "3")
	expect(exitConflict, "rolled back to", "rollback") // not back to what was left
	if _, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: v2}); f == nil || f.code != exitFrozen || !strings.HasPrefix(report, "NOT FLIPPED  www stays") {
		t.Errorf("frozen: %v\n%s", f, report)
	}
	expect(exitOK, "UNFROZEN", "unfreeze")
	expect(exitOK, "UNCHANGED", "unfreeze")
	expect(exitOK, "FROZEN", "freeze", "-m", "hands off")
	expect(exitOK, "hands off", "status")
	expect(exitOK, "hands off", "freeze") // somebody else's stays
	expect(exitOK, string(first.Release), "rollback", "@1", "--no-freeze", "-o", "name")

	expect(exitOK, "nothing is under way", "abort")
	expect(exitOK, "is converged", "wait")
	expect(exitOK, "is ready", "wait", "--for=ready", "previous")
	expect(exitNotReady, "is not active within", "wait", "--for=active", "2", "--timeout", "50ms")
	expect(exitUsage, "ready, active or converged", "wait", "--for=ever")
	expect(exitUsage, "no release 77", "flip", "77")
	expect(exitUsage, "REL is missing", "flip")

	var history []cluster.Active
	out = expect(exitOK, "", "history", "-o", "json", "-n", "100")
	if err := json.Unmarshal([]byte(out), &history); err != nil || len(history) != 5 || history[0].Release != first.Release || history[4].Message != "first" {
		t.Errorf("%v\n%s", err, out)
	}
	if out := expect(exitOK, "", "releases", "list", "-o", "name"); len(strings.Fields(out)) != 3 {
		t.Error(out)
	}
	expect(exitOK, "abc", "releases", "show", "2")
	expect(exitOK, string(second.Release)+"\n", "releases", "show", "@4", "-o", "name")
	expect(exitOK, "n1\nn2\n", "nodes", "-o", "name")
	expect(exitOK, "http://127.0.0.1", "nodes", "show", "n1")
	expect(exitUsage, "no node n9", "nodes", "show", "n9")
	expect(exitOK, "VERIFIED   0 violations of", "history", "--verify")
}

// TestBadInput: each has its own error, and changes nothing.
func TestBadInput(t *testing.T) {
	l := newLab(t)
	if err := l.client.CreateSite(t.Context(), "shop", cluster.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	link := site(t, "a")
	if err := os.Symlink("/etc/hostname", filepath.Join(link, "host")); err != nil {
		t.Fatal(err)
	}
	good := site(t, "a")
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"publish"}, []string{"DIR is missing"}},
		{[]string{"publish", good, "-m", strings.Repeat("x", maxReasonBytes+1)}, []string{"-m: 1001 bytes"}},
		{[]string{"flip", "1", "--no-flip", "--swap-at", "+2s"}, []string{"--no-flip and --swap-at exclude each other"}},
		{[]string{"flip", "1", "--canary=5"}, []string{"percent sign"}},
		{[]string{"publish", good, good}, []string{"one argument too many"}},
		{[]string{"publish", "/nowhere", "-s", "www"}, []string{"/nowhere"}},
		{[]string{"publish", filepath.Join(good, "p0.html"), "-s", "www"}, []string{"is not a directory"}},
		{[]string{"publish", t.TempDir(), "-s", "www"}, []string{"no files"}},
		{[]string{"publish", link, "-s", "www"}, []string{"host"}},
		{[]string{"publish", link, "-s", "www", "--follow-symlinks"}, []string{"host", "leaves the build"}},
		{[]string{"publish", good}, []string{"which site?", "www, shop", "-s SITE"}},
		{[]string{"publish", good, "-s", "blog"}, []string{"no site blog", "www, shop", "relman admin site add blog"}},
		{[]string{"publish", good, "-s", "Blog!"}, []string{"Blog!"}},
		{[]string{"publish", good, "-s", "www", "--queue", "--supersede"}, []string{"queue"}},
		{[]string{"publish", good, "-s", "www", "--if-active", "9"}, []string{"no release 9"}},
		{[]string{"flip", "@0", "-s", "www"}, []string{"epoch"}},
		{[]string{"flip", "@7", "-s", "www"}, []string{"at epoch 0"}},
		{[]string{"history", "-n", "0", "-s", "www"}, []string{"-n is 0"}},
		{[]string{"history", "www"}, []string{"without --verify"}},
		{[]string{"history", "--verify", "-n", "3"}, []string{"leave -n out"}},
		{[]string{"history", "--verify", "blog"}, []string{"no site blog"}},
		{[]string{"history", "--verify", "www", "shop"}, []string{"at most 1 arg"}},
		{[]string{"pubish", good}, []string{"no command", "relman publish"}},
		{[]string{"status", "--cert", "/nowhere"}, []string{"--cert and --key"}},
		{[]string{"status", "--cacert", "/nowhere"}, []string{"/nowhere"}},
	} {
		code, out, errs := l.relman(t, c.args...)
		if code != exitUsage || !strings.HasPrefix(errs, "relman: ") || strings.Count(errs, "\n") > 2 {
			t.Errorf("%v: exit %d, want 2 and two lines at most\n%s%s", c.args, code, out, errs)
		}
		for _, s := range c.says {
			if !strings.Contains(errs, s) {
				t.Errorf("%v: it does not say %q:\n%s", c.args, s, errs)
			}
		}
	}
	if v := l.view(t); v.Desired.Exists() || len(v.Releases) != 0 {
		t.Errorf("something has changed: %+v", v)
	}
}

// TestConflict: of two requests one is told who came first, whether that one
// is still under way, or came in between.
func TestConflict(t *testing.T) {
	l := newLab(t)
	s, u := l.session(), &ui{progress: newProgress(nil, false)}
	o := patient()
	o.wait = false
	winner, _, f := l.publish(t.Context(), t, publishOptions{askOptions: o, dir: site(t, "first")})
	if f != nil || winner.State != stateAsked {
		t.Fatalf("%+v %v", winner, f)
	}
	names := func(f *failure) {
		t.Helper()
		if f == nil || f.code != exitConflict || f.out.Winner == nil || f.out.Winner.Release != winner.Release || !strings.Contains(f.Error(), string(winner.Release)) {
			t.Errorf("%+v, want exit 4 and %s", f, winner.Release)
		}
	}
	_, report, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "second")})
	names(f)
	if !strings.HasPrefix(report, "NOT FLIPPED  www stays nothing") || len(l.view(t).Releases) != 1 {
		t.Errorf("it did not end at once:\n%s", report)
	}
	code, out, _ := l.relman(t, "flip", "1", "-o", "json")
	var said outcome
	if err := json.Unmarshal([]byte(out), &said); err != nil || code != exitConflict || said.Class != cluster.ClassConflict || said.Winner.Release != winner.Release {
		t.Errorf("exit %d %v\n%s", code, err, out)
	}

	// It ends, and another one comes between looking and asking.
	l.ends(t, cluster.Result{State: cluster.StateFailed, Error: &cluster.ErrorInfo{Class: cluster.ClassNotReady, Text: "0/3 ready"}})
	v, err := s.ground(t.Context(), o, u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Ask(t.Context(), v, s.desired(cluster.FlipTo, winner.Release, "", o)); err != nil {
		t.Fatal(err)
	}
	_, err = s.ask(t.Context(), v, s.desired(cluster.FlipTo, winner.Release, "", o), o, u)
	names(failureOf(err))

	// --supersede takes its place.
	mine := s.desired(cluster.FlipTo, winner.Release, "", o)
	super := o
	super.supersede = true
	if _, err := s.ask(t.Context(), v, mine, super, u); err != nil || l.view(t).Desired.Value.Request != mine.Request {
		t.Errorf("supersede: %v", err)
	}

	// --queue waits for its end.
	queue := o
	queue.queue = true
	asked := make(chan error, 1)
	next := s.desired(cluster.FlipTo, winner.Release, "", o)
	go func() {
		_, err := s.ask(t.Context(), v, next, queue, u)
		asked <- err
	}()
	select {
	case err := <-asked:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	l.ends(t, cluster.Result{State: cluster.StateFailed})
	if err := <-asked; err != nil || l.view(t).Desired.Value.Request != next.Request {
		t.Errorf("queue: %v", err)
	}
}

// cutStore ends a context at the first Put.
type cutStore struct {
	objectstore.Store
	cut context.CancelFunc
}

func (s cutStore) Put(ctx context.Context, key string, body []byte, create bool) error {
	s.cut()
	return s.Store.Put(ctx, key, body, create)
}

// TestInterrupt_before: nothing was asked for, and nothing is left but objects.
func TestInterrupt_before(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.store = cutStore{l.store, cancel}
	_, report, f := l.publish(ctx, t, publishOptions{askOptions: patient(), dir: site(t, "a")})
	if f == nil || f.code != exitInterrupted || !strings.Contains(report, "nothing was asked for") || strings.Contains(report, "LIVE") {
		t.Errorf("%+v\n%s", f, report)
	}
	if v := l.view(t); v.Desired.Exists() || len(v.Releases) != 0 {
		t.Errorf("%+v", v.Desired)
	}
}

// TestInterrupt_after: the request goes on, and it is said how to end it.
func TestInterrupt_after(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = l.client.Follow(ctx, "www", func(v *cluster.View) bool { return v.Desired.Exists() })
		cancel()
	}()
	_, report, f := l.publish(ctx, t, publishOptions{askOptions: patient(), dir: site(t, "a")})
	d := l.view(t).Desired.Value
	if f == nil || f.code != exitInterrupted || !strings.Contains(f.Error(), string(d.Request)) || !strings.Contains(f.hint, "relman abort -s www") || strings.Contains(report, "LIVE") {
		t.Errorf("%+v\n%s", f, report)
	}
	if d.Release == "" {
		t.Error("nothing was asked for")
	}
}

// TestAbort: the one who waits is told who ended it.
func TestAbort(t *testing.T) {
	l := newLab(t).withManager(t)
	done := make(chan *failure, 1)
	dir := site(t, "a")
	go func() {
		_, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: dir})
		done <- f
	}()
	l.await(t, "it is under way", func(v *cluster.View) bool { return v.Rollout.Exists() })
	code, out, errs := l.relman(t, "abort", "-m", "wrong branch")
	if code != exitOK || !strings.HasPrefix(out, "ABORTED") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if f := <-done; f == nil || f.code != exitConflict || f.class != cluster.ClassAborted || !strings.Contains(f.Error(), whoami()) {
		t.Errorf("%+v", f)
	}
}

// TestNotReady: without nodes a rollout fails at its deadline.
func TestNotReady(t *testing.T) {
	l := newLab(t).withManager(t)
	o := patient()
	o.timeout = time.Second
	out, report, f := l.publish(t.Context(), t, publishOptions{askOptions: o, dir: site(t, "a")})
	if f == nil || f.code != exitNotReady || f.class != cluster.ClassQuorum || !strings.Contains(report, "NOT FLIPPED  www stays nothing: 0 ready, 1 needed") || out.Changed {
		t.Errorf("%+v %+v\n%s", out, f, report)
	}
	code, _, errs := l.relman(t, "wait", "--for=active", "latest", "--timeout", "5s")
	if code != exitNotReady || !strings.Contains(errs, "1 needed") {
		t.Errorf("waiting for what has failed: exit %d %s", code, errs)
	}
}

// TestNotConverged: a node that claims and never shows the release.
func TestNotConverged(t *testing.T) {
	l := newLab(t).withManager(t)
	lazyNode(t, l, "lazy")
	o := patient()
	o.timeout = time.Second
	out, report, f := l.publish(t.Context(), t, publishOptions{askOptions: o, dir: site(t, "a")})
	if f == nil || f.code != exitNotConverged || !out.Changed || out.Active != out.Release || !strings.Contains(f.Error(), "lazy") {
		t.Errorf("%+v %+v", out, f)
	}
	if !strings.HasSuffix(report, "\nLIVE       www = "+string(out.Release)+"\n") {
		t.Errorf("it does not say what is live:\n%s", report)
	}
	if code, _, errs := l.relman(t, "wait", "--timeout", "100ms"); code != exitNotConverged {
		t.Errorf("wait: exit %d %s", code, errs)
	}
}

// lazyNode runs a node that claims whatever is asked for, and does nothing.
func lazyNode(t *testing.T, l *lab, id release.NodeID) {
	t.Helper()
	n := l.client.Node(cluster.Self{Node: id, Group: "main"}, cluster.Live{Boot: "B"}, cluster.Join{Group: "main"})
	l.parts.start(t.Context(), "session", n.Run)
	l.parts.start(t.Context(), "node", func(ctx context.Context) error {
		return n.Follow(ctx, "www", func(v cluster.NodeView) {
			switch held, entered, err := n.Claims(ctx, "www"); {
			case err != nil, v.Member.Value != cluster.MemberIn:
			case !entered:
				_ = n.Enter(ctx, v, make([]release.ID, cluster.DefaultBuffers))
			case v.Rollout.Exists() && held[v.Rollout.Value.Buffer] != v.Rollout.Value.Release:
				_ = n.Claim(ctx, v)
			}
		})
	})
	l.await(t, "it has entered", func(v *cluster.View) bool { return v.Entered() == 1 })
}
