package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevState_oneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := openDevState(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDevState(dir)
	if want := fmt.Sprintf("another relman dev runs on it (process %d)", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second: %v, want %q", err, want)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDevState(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
}

func TestDevState_temporary(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := openDevState("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials(); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.json")
	first, err := loadCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadCredentials(path)
	if err != nil || again != first {
		t.Errorf("second time: %v, the same: %t", err, again == first)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	other, err := loadCredentials(filepath.Join(t.TempDir(), "credentials.json"))
	if err != nil || other.SecretKey == first.SecretKey || len(other.SecretKey) < 20 {
		t.Errorf("not random: %v", err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCredentials(path); err == nil {
		t.Error("empty credentials were taken")
	}
}

func TestDevPointer(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	expect := func(want string) {
		t.Helper()
		if got, ok := devEndpoint(); got != want || ok != (want != "") {
			t.Errorf("found %q %t, want %q", got, ok, want)
		}
	}
	expect("")
	remove, err := leaveDevPointer(devPointer{Etcd: "http://127.0.0.1:4711"})
	if err != nil {
		t.Fatal(err)
	}
	expect("http://127.0.0.1:4711")
	if _, err := leaveDevPointer(devPointer{Etcd: "http://127.0.0.1:4712"}); err == nil {
		t.Error("a second one took its place")
	}
	expect("http://127.0.0.1:4711")
	path, err := devPointerPath()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	expect("")
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the folder is left behind")
	}
	// What a killed process leaves behind: a file that nobody holds.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("")
	if remove, err = leaveDevPointer(devPointer{Etcd: "http://127.0.0.1:4713"}); err != nil {
		t.Fatal(err)
	}
	expect("http://127.0.0.1:4713")
	if err := remove(); err != nil {
		t.Fatal(err)
	}
}
