package nodeagent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// TestServe_broken: a file that is not there as it was verified is a 500, once
// in the log, counted, and makes the release suspect; the agent hears of it
// once.
func TestServe_broken(t *testing.T) {
	for name, damage := range map[string]func(name string) error{
		"vanished":     os.Remove,
		"another size": func(name string) error { return replace(name, "another size") },
		"another time": func(name string) error { return os.Chtimes(name, time.Now(), time.Now()) },
		"another mode": func(name string) error { return os.Chmod(name, 0o600) },
		"a directory":  func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o755)) },
		"a pipe":       func(name string) error { return errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o644)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, f, rel := testServer(t)
			poked := 0
			f.poke = func() { poked++ }
			var log bytes.Buffer
			s := NewServer(slog.New(slog.NewTextHandler(&log, nil)))
			s.Add(f)
			for _, file := range []string{"css/app.css", "404.html"} {
				if err := damage(filepath.Join(rel.root.Name(), file)); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{"/css/app.css", "/css/app.css", "/nothing", "/404.html"} {
				if r := ask(s, "GET", path); r.Code != 500 {
					t.Errorf("%s: %d %q", path, r.Code, r.Body)
				}
			}
			if r := ask(s, "GET", "/"); r.Code != 200 {
				t.Errorf("the rest: %d", r.Code)
			}
			if lines := strings.Count(log.String(), "file not served"); lines != 2 {
				t.Errorf("%d lines in the log:\n%s", lines, &log)
			}
			if !rel.suspect.Load() || poked != 1 {
				t.Errorf("suspect %v, poked %d times", rel.suspect.Load(), poked)
			}
			reg := prometheus.NewRegistry()
			for _, c := range s.Collectors() {
				if err := reg.Register(c); err != nil {
					t.Fatal(err)
				}
			}
			_, text := get(t, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), "/metrics")
			if line := `relman_http_broken_files_total{site="www"} 4`; !strings.Contains(text, line+"\n") {
				t.Errorf("no line %s in\n%s", line, text)
			}
		})
	}
}

// TestRelease_redrawn: a request was stalled until its tree held another
// release. It is not answered with what has the same path and size there.
func TestRelease_redrawn(t *testing.T) {
	d := newDrawing(t)
	one := d.shelf.publish(t, build{"a": {content: "version 1"}, "b": {content: "the same"}})
	two := d.shelf.publish(t, build{"a": {content: "version 2"}, "b": {content: "the same"}})
	if err := d.fill(t.Context(), 0, one); err != nil {
		t.Fatal(err)
	}
	r, err := d.openRelease(d.bufs[0], one.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := d.fill(t.Context(), 0, two); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{"a": false, "b": true} {
		f, _ := one.Manifest.Lookup(name)
		file, err := r.open(f)
		if err == nil {
			err = file.Close()
		}
		if stays && err != nil || !stays && !errors.Is(err, errNotAsVerified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServe_tooManyOpen: that the process can open no more files says nothing
// about the release.
func TestServe_tooManyOpen(t *testing.T) {
	s, f, rel := testServer(t)
	f.broken(rel, &fileError{"index.html", &os.PathError{Op: "open", Path: "index.html", Err: syscall.EMFILE}}, s.log)
	if rel.suspect.Load() {
		t.Error("suspect")
	}
}

// TestNode_brokenFile: a visitor who finds a file broken has it repaired for
// the next one.
func TestNode_brokenFile(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	n.unaudited(func() {
		if err := os.Remove(filepath.Join(n.link("current"), "d0/e0/f0")); err != nil {
			t.Fatal(err)
		}
		if r := ask(n.agent.Handler(), "GET", "/d0/e0/f0"); r.Code != 500 {
			t.Errorf("%d %q", r.Code, r.Body)
		}
		n.until("repaired", func() error {
			if r := ask(n.agent.Handler(), "GET", "/d0/e0/f0"); r.Code != 200 {
				return fmt.Errorf("%d %q", r.Code, r.Body)
			}
			return nil
		})
		n.whole(r1)
	})
	n.serves(r1)
}
