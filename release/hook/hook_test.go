package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// script writes a program that only its owner can change.
func script(t testing.TB, body string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "hook")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func newHook(t testing.TB, h Hook) *Hook {
	t.Helper()
	if h.Kind == "" {
		h.Kind = Verify
	}
	if h.Limit == 0 {
		h.Limit = time.Minute
	}
	made, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// record is a log that can be read while it is written.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func logTo(w *record) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// failure runs a script that has to fail.
func failure(t *testing.T, h *Hook) *Failure {
	t.Helper()
	err := h.Run(t.Context(), About{}, slog.New(slog.DiscardHandler))
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("Run: %v, want a *Failure", err)
	}
	return f
}

func TestRun_exit(t *testing.T) {
	for _, c := range []struct {
		body string
		code int
		want string
	}{
		{"echo all is well", 0, ""},
		{"exit 3", 3, "verify hook: exit code 3"},
		{"for i in 1 2 3 4; do echo line $i; done; printf '\\033[31mred\\377\\n\\n' >&2; exit 1", 1, "verify hook: exit code 1: line 3 | line 4 | [31mred?"},
		{"echo unended; kill -9 $$", -1, "verify hook: signal: killed: unended"},
	} {
		h := newHook(t, Hook{Path: script(t, c.body)})
		if c.want == "" {
			if err := h.Run(t.Context(), About{}, slog.New(slog.DiscardHandler)); err != nil {
				t.Errorf("%s: %v", c.body, err)
			}
			continue
		}
		if f := failure(t, h); f.Code != c.code || f.Error() != c.want {
			t.Errorf("%s: %d, %q; want %d, %q", c.body, f.Code, f, c.code, c.want)
		}
	}
}

// TestRun_environment: what a program gets, and nothing else.
func TestRun_environment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("HOME", "/home/op")
	t.Setenv("LANG", "")
	h := newHook(t, Hook{Kind: PostFlip, Path: script(t, `pwd; read x || echo no input; env | grep -v '^\(PWD\|SHLVL\|_\|OLDPWD\)='`)})
	log := &record{}
	err := h.Run(t.Context(), About{
		Site: "www", Release: "000002-aaaaaaaaaaaa", Epoch: 7, Previous: "000001-bbbbbbbbbbbb",
		Tree: "/tree", Node: "web-1", More: []string{"RELMAN_CONVERGED=true"},
	}, logTo(log))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{
		"/": true, "no input": true, "HOME=/home/op": true, "LANG=C.UTF-8": true, "PATH=" + os.Getenv("PATH"): true,
		"RELMAN_HOOK=post-flip": true, "RELMAN_SITE=www": true, "RELMAN_RELEASE=000002-aaaaaaaaaaaa": true, "RELMAN_EPOCH=7": true,
		"RELMAN_PREVIOUS=000001-bbbbbbbbbbbb": true, "RELMAN_TREE=/tree": true, "RELMAN_NODE=web-1": true, "RELMAN_CONVERGED=true": true,
	}
	for entry := range strings.Lines(log.String()) {
		_, line, ok := strings.Cut(strings.TrimSpace(entry), " line=")
		if !ok {
			continue
		}
		line, _, _ = strings.Cut(line, " hook=")
		if plain, err := strconv.Unquote(line); err == nil {
			line = plain
		}
		if !want[line] {
			t.Errorf("printed %q", line)
		}
		delete(want, line)
	}
	if len(want) > 0 {
		t.Errorf("not printed: %v\n%s", want, log)
	}
}

// TestRun_limit: a program that does not end is killed with a child that
// ignores being asked, and so is one of which only a child is left.
func TestRun_limit(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want string
	}{
		"asked":   {"echo $$; echo begun; exec sleep 600", "verify hook: killed after 1s, its time limit: "},
		"ignored": {"trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 600; sleep 600' & wait", "verify hook: killed after 1s, its time limit: "},
		"left":    {"sh -c 'trap \"\" TERM; echo $$; sleep 600; sleep 600' & while ! [ -e $0.x ]; do touch $0.x; sleep 0.2; done", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, Hook{Path: script(t, c.body), Limit: time.Second})
			h.grace = 500 * time.Millisecond
			log := &record{}
			began := time.Now()
			err := h.Run(t.Context(), About{}, logTo(log))
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			gone(t, log.String())
		})
	}
}

// gone: the process that printed its number does not run any more.
func gone(t *testing.T, log string) {
	t.Helper()
	_, line, ok := strings.Cut(log, " line=")
	fields := strings.Fields(line)
	if !ok || len(fields) == 0 {
		t.Fatalf("no process printed its number:\n%s", log)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatalf("no process printed its number:\n%s", log)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d still runs: %s", pid, stat)
		}
	}
}

// TestRun_stopped: the end of the context ends the program, and is the error.
func TestRun_stopped(t *testing.T) {
	withdrawn := errors.New("withdrawn")
	ctx, cancel := context.WithCancelCause(t.Context())
	h := newHook(t, Hook{Path: script(t, "echo $$; sleep 600")})
	log := &record{}
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, About{}, logTo(log)) }()
	for !strings.Contains(log.String(), " line=") {
		time.Sleep(5 * time.Millisecond)
	}
	cancel(withdrawn)
	if err := <-ended; !errors.Is(err, withdrawn) {
		t.Errorf("%v", err)
	}
	gone(t, log.String())
}

// TestRun_output: the log gets the beginning, the error the end, and the
// program never waits.
func TestRun_output(t *testing.T) {
	h := newHook(t, Hook{Path: script(t, `i=0; while [ $i -lt 3000 ]; do echo "$i 0123456789012345678901234567890123456789"; i=$((i+1)); done; printf '%2000s\n' x; echo the end; exit 9`)})
	log := &record{}
	err := h.Run(t.Context(), About{}, logTo(log))
	if err == nil || !strings.HasSuffix(err.Error(), " | the end") || len(err.Error()) > 400 {
		t.Errorf("error %v", err)
	}
	var bytes int
	for entry := range strings.Lines(log.String()) {
		if _, line, ok := strings.Cut(entry, "line=\""); ok {
			bytes += strings.IndexByte(line, '"') + 1
		}
	}
	if bytes < maxLogged-100 || bytes > maxLogged+100 || strings.Count(log.String(), "prints too much") != 1 {
		t.Errorf("%d bytes were logged:\n%s", bytes, log.String()[max(0, len(log.String())-500):])
	}
}

func TestOutput_longLine(t *testing.T) {
	log := &record{}
	o := &output{log: logTo(log)}
	for range 5 {
		if n, err := o.Write(bytes.Repeat([]byte("é"), 300)); n != 600 || err != nil {
			t.Fatal(n, err)
		}
	}
	o.flush()
	if n := strings.Count(log.String(), "hook output"); n != 3 {
		t.Errorf("%d entries:\n%s", n, log)
	}
	if last := o.last(); len(last) > tailText+10 || !strings.HasPrefix(last, "…é") {
		t.Errorf("last: %q", last)
	}
}

// TestCheck: which files are run.
func TestCheck(t *testing.T) {
	path := script(t, "exit 0")
	dir := filepath.Dir(path)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		path      string
		file, dir os.FileMode
		insecure  bool
		want      string
	}{
		{name: "good", path: path, file: 0o755, dir: 0o755},
		{name: "link", path: link, file: 0o755, dir: 0o755},
		{name: "missing", path: path + "x", file: 0o755, dir: 0o755, want: "no such file"},
		{name: "directory", path: dir, file: 0o755, dir: 0o755, want: "no regular file"},
		{name: "not executable", path: path, file: 0o644, dir: 0o755, want: "not executable"},
		{name: "group", path: path, file: 0o775, dir: 0o755, want: "can be written by others"},
		{name: "others, allowed", path: path, file: 0o757, dir: 0o755, insecure: true},
		{name: "link, group", path: link, file: 0o775, dir: 0o755, want: "can be written by others"},
		{name: "directory of all", path: path, file: 0o755, dir: 0o777, want: "can be written by others"},
		{name: "sticky directory of all", path: path, file: 0o755, dir: 0o777 | os.ModeSticky},
	} {
		if err := errors.Join(os.Chmod(path, c.file), os.Chmod(dir, c.dir)); err != nil {
			t.Fatal(err)
		}
		h := newHook(t, Hook{Path: c.path, Insecure: c.insecure})
		_, err := h.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if runErr := h.Run(t.Context(), About{}, slog.New(slog.DiscardHandler)); (runErr == nil) != (err == nil) {
			t.Errorf("%s: Check says %v, Run %v", c.name, err, runErr)
		}
	}
}

// TestCheck_owner: a file of somebody else is not run by root.
func TestCheck_owner(t *testing.T) {
	path := script(t, "exit 0")
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skipf("SKIPPED: files cannot be given away: %v", err)
	}
	if _, err := newHook(t, Hook{Path: path}).Check(); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("%v", err)
	}
}

// TestCheck_stamp: a mended file is another one.
func TestCheck_stamp(t *testing.T) {
	h := newHook(t, Hook{Path: script(t, "exit 0")})
	first, err := h.Check()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Check(); err != nil || again != first {
		t.Errorf("%v, %v", again, err)
	}
	if err := os.WriteFile(h.Path, []byte("#!/bin/sh\nexit 1\n\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if now, err := h.Check(); err != nil || now == first {
		t.Errorf("the same stamp %v, %v", now, err)
	}
}

func TestNew(t *testing.T) {
	for _, h := range []Hook{
		{Path: "hook", Limit: time.Second}, {Path: "/hook"}, {Path: "/hook", Limit: -1}, {Path: "/hook", Limit: 1, Retries: -1},
	} {
		if _, err := New(h); err == nil {
			t.Errorf("%+v is taken", h)
		}
	}
}

// TestRun_notStarted: a file that no system can run.
func TestRun_notStarted(t *testing.T) {
	path := script(t, "")
	if err := os.WriteFile(path, []byte("#!/nowhere/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if f := failure(t, newHook(t, Hook{Path: path})); !strings.Contains(f.Error(), "cannot be started") || f.Code != -1 {
		t.Errorf("%v", f)
	}
}

// TestInsist: as often as allowed, and no more once something newer has come.
func TestInsist(t *testing.T) {
	for _, c := range []struct {
		name  string
		good  int // the run that succeeds; 0: none
		stale bool
		runs  int
		ok    bool
	}{
		{"at once", 1, false, 1, true}, {"at last", 3, false, 3, true}, {"never", 0, false, 3, false}, {"stale", 2, true, 1, false},
	} {
		path := script(t, fmt.Sprintf(`echo x >> $0.runs; [ $(wc -l < $0.runs) = %d ]`, c.good))
		var failed int
		h := newHook(t, Hook{Path: path, Retries: 2})
		h.pause = time.Millisecond
		err := h.Insist(t.Context(), About{}, slog.New(slog.DiscardHandler),
			func(error) { failed++ }, func() bool { return c.stale })
		runs, readErr := os.ReadFile(path + ".runs")
		if readErr != nil {
			t.Fatal(readErr)
		}
		bad := c.runs
		if c.ok {
			bad--
		}
		if (err == nil) != c.ok || len(runs)/2 != c.runs || failed != bad {
			t.Errorf("%s: %d runs, %d failed, %v", c.name, len(runs)/2, failed, err)
		}
	}
}
