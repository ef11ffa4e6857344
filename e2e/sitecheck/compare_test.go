package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestCompare_notices: what every whole-cluster test relies on.
func TestCompare_notices(t *testing.T) {
	build := tree(t, map[string]string{"index.html": "one", "a b/ü.txt": "two"})
	tests := []struct {
		name   string
		target map[string]string
		ok     bool
	}{
		{"the same", map[string]string{"index.html": "one", "a b/ü.txt": "two"}, true},
		{"another byte", map[string]string{"index.html": "one", "a b/ü.txt": "twO"}, false},
		{"a longer file", map[string]string{"index.html": "one", "a b/ü.txt": "two "}, false},
		{"a missing file", map[string]string{"index.html": "one"}, false},
		{"another name", map[string]string{"index.html": "one", "a b/u.txt": "two"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.target)
			if _, err := compare(build, "", []string{dir}); (err == nil) != tt.ok {
				t.Errorf("on disk: %v", err)
			}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(r.URL.Path)))
				if err != nil || r.Host != "www.localhost" {
					http.NotFound(w, r)
					return
				}
				_, _ = w.Write(body)
			}))
			defer s.Close()
			if _, err := compare(build, "www.localhost", []string{s.URL}); (err == nil) != tt.ok {
				t.Errorf("over HTTP: %v", err)
			}
		})
	}
	more := tree(t, map[string]string{"index.html": "one", "a b/ü.txt": "two", "left-over": ""})
	if _, err := compare(build, "", []string{more}); err == nil {
		t.Error("a file too many on disk is not noticed")
	}
}

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
