package nodeagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stamped is a site that has its version on every page.
func stamped(version string) build {
	b := build{}
	for i := range 40 {
		b[fmt.Sprintf("p/%d.html", i)] = page{content: fmt.Sprintf("<p>page %d</p>%s%s", i, strings.Repeat("<p>the same everywhere</p>", 100), version)}
	}
	return b
}

// TestFill_deltas: a node that holds the release before draws the next one out
// of it; where a file of it is damaged, it draws that one from the store.
func TestFill_deltas(t *testing.T) {
	d := newDrawing(t)
	one := d.shelf.publish(t, stamped("1.0"))
	if err := d.fill(t.Context(), 0, one); err != nil {
		t.Fatal(err)
	}
	two := d.shelf.publish(t, stamped("2.0"))
	if err := d.fill(t.Context(), 1, two); err != nil {
		t.Fatal(err)
	}
	expectPages(t, d.tree(1), stamped("2.0"))
	if d.useless != 0 {
		t.Errorf("%d deltas were of no use", d.useless)
	}

	name := filepath.Join(d.tree(1), "p", "7.html")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[200] ^= 1
	if err := os.WriteFile(name, raw, 0o644); err != nil { // root writes to what is 0444
		t.Fatal(err)
	}
	three := d.shelf.publish(t, stamped("3.0"))
	if err := d.fill(t.Context(), 2, three); err != nil {
		t.Fatal(err)
	}
	expectPages(t, d.tree(2), stamped("3.0"))
	if d.useless != 1 {
		t.Errorf("%d deltas were of no use, one file was damaged", d.useless)
	}
	if !d.suspects["1"] || len(d.suspects) != 1 {
		t.Errorf("suspect: %v", d.suspects)
	}
}

// TestFill_deltaOfPipe: a pipe has come to stand where a file was that others
// are made of. Nothing waits for who would write to it.
func TestFill_deltaOfPipe(t *testing.T) {
	d := newDrawing(t)
	one, two := d.shelf.publish(t, stamped("1.0")), d.shelf.publish(t, stamped("2.0"))
	if err := d.fill(t.Context(), 0, one); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(d.tree(0), "p", "7.html")
	if err := errors.Join(os.Remove(pipe), syscall.Mkfifo(pipe, 0o444)); err != nil {
		t.Fatal(err)
	}
	filled := make(chan error, 1)
	go func() { filled <- d.fill(t.Context(), 1, two) }()
	select {
	case err := <-filled:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
	expectPages(t, d.tree(1), stamped("2.0"))
	if d.useless != 1 || !d.suspects["0"] {
		t.Errorf("%d deltas were of no use, suspect: %v", d.useless, d.suspects)
	}
}

func expectPages(t testing.TB, dir string, want build) {
	t.Helper()
	for path, p := range want {
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || string(got) != p.content {
			t.Errorf("%s is not as published: %v", path, err)
		}
	}
}
