package main

import (
	"strings"
	"testing"
)

func TestTakeBoot(t *testing.T) {
	dir := t.TempDir()
	first, err := takeBoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.id == "" || first.before != "" {
		t.Errorf("first: %q after %q", first.id, first.before)
	}
	if _, err := takeBoot(dir); err == nil || !strings.Contains(err.Error(), "another one works in "+dir) {
		t.Errorf("while the first one runs: %v", err)
	}
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	second, err := takeBoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second.id == first.id || second.before != first.id {
		t.Errorf("second: %q after %q, want after %q", second.id, second.before, first.id)
	}
	if err := second.end(); err != nil {
		t.Fatal(err)
	}
}
