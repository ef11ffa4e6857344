package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTree_differs(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{"same": "x", "sub/other": "1", "missing": "y"} {
		write(t, filepath.Join(a, path), content)
	}
	for path, content := range map[string]string{"same": "x", "sub/other": "2", "more": "z"} {
		write(t, filepath.Join(b, path), content)
	}
	want, err := readTree(a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readTree(b)
	if err != nil {
		t.Fatal(err)
	}
	if n := want.differs(got); n != 3 {
		t.Errorf("%d files differ: one is missing, one is other, one is too many", n)
	}
	if n := want.differs(want); n != 0 || want.bytes != 3 {
		t.Errorf("a tree of %d bytes differs from itself in %d files", want.bytes, n)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGenerated: the same bytes every time, and as many changes as is said.
func TestGenerated(t *testing.T) {
	var before [2]tree
	for i := range before {
		dir := t.TempDir()
		s := site{v1: filepath.Join(dir, "v1"), v2: filepath.Join(dir, "v2")}
		if err := makeMany(s, 400, 4); err != nil {
			t.Fatal(err)
		}
		big := site{v1: filepath.Join(dir, "b1"), v2: filepath.Join(dir, "b2")}
		if err := makeBig(big, 1<<20); err != nil {
			t.Fatal(err)
		}
		var v [4]tree
		for k, d := range []string{s.v1, s.v2, big.v1, big.v2} {
			var err error
			if v[k], err = readTree(d); err != nil {
				t.Fatal(err)
			}
		}
		if len(v[0].digests) != 400 || v[0].bytes != 400*4096 || v[0].differs(v[1]) != 4 {
			t.Errorf("%d files with %d bytes, of which %d change", len(v[0].digests), v[0].bytes, v[0].differs(v[1]))
		}
		if v[2].differs(v[3]) != 2 || v[3].bytes < 1<<20+1000 {
			t.Errorf("the big file has %d bytes then, %d files change", v[3].bytes, v[2].differs(v[3]))
		}
		if i == 0 {
			before = [2]tree{v[1], v[3]}
		} else if before[0].differs(v[1]) != 0 || before[1].differs(v[3]) != 0 {
			t.Error("the second time other bytes were made")
		}
	}
}

func TestProgram_measure(t *testing.T) {
	s, err := program{argv: []string{"sh", "-c", "head -c 100000000 /dev/zero | tail -c 50000000 | wc -c"}}.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Wall <= 0 || s.CPU <= 0 || s.RSS < 20<<20 {
		t.Errorf("a pipe whose middle holds 50 MB took %+v", s)
	}
}

// TestProgram_limit: what takes too long is ended with its children, and is
// reported with what it said.
func TestProgram_limit(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	late := errors.New("not in time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, late)
	defer cancel()
	_, err := program{argv: []string{"sh", "-c", `echo begun; sleep 600 & echo $! >"$0"; wait`, pidFile}}.measure(ctx)
	if !errors.Is(err, late) || !strings.Contains(err.Error(), "begun") {
		t.Errorf("it ended with %v", err)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	stat := "/proc/" + strings.TrimSpace(string(b)) + "/stat"
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(b), ") Z ") {
			return // gone, but for whoever is to hear of it
		}
		if time.Now().After(deadline) {
			t.Fatalf("its child lives: %s", b)
		}
	}
}

func TestDaemon(t *testing.T) {
	d, err := program{argv: []string{"sh", "-c", "echo no; exit 3"}}.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = d.until(t.Context(), func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "no") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a daemon that ends is reported as %v", err)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

func TestConcat(t *testing.T) {
	dir := t.TempDir()
	c := &concat{}
	for _, content := range []string{"one ", "", "two"} {
		path := filepath.Join(dir, "f"+content)
		write(t, path, content)
		c.paths = append(c.paths, path)
	}
	var b strings.Builder
	buf := make([]byte, 3)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if b.String() != "one two" {
		t.Errorf("it reads %q", b.String())
	}
}

func TestUsage(t *testing.T) {
	if err := resetPeak(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	u, err := usageOf(os.Getpid())
	if err != nil || u.now <= 0 || u.peak <= 0 || u.cpu < 0 {
		t.Errorf("this process has taken %+v, %v", u, err)
	}
	if highWater(os.Getpid()) <= 0 {
		t.Error("it has no memory")
	}
}
