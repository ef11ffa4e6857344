package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nginxLook is what a look at nginx' configuration found.
type nginxLook struct {
	files  int
	caches []nginxCache
	errs   []error
}

// nginxCache is a place where nginx is told to keep files open.
type nginxCache struct {
	file string
	line int
	text string
}

// lookAtNginx looks through the files of nginx' configuration below dir, where
// there is one, and those that were named.
func lookAtNginx(dir string, named []string) (l nginxLook) {
	files := slices.Clone(named)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // no nginx here
		case err != nil:
			l.errs = append(l.errs, err)
		case !d.IsDir() && (strings.HasSuffix(path, ".conf") || filepath.Base(filepath.Dir(path)) == "sites-enabled"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		l.errs = append(l.errs, err)
	}
	for _, name := range files {
		found, err := openFileCaches(name)
		if err != nil {
			l.errs = append(l.errs, err)
			continue
		}
		l.files++
		l.caches = append(l.caches, found...)
	}
	return l
}

// openFileCaches finds where a file says open_file_cache and not off.
func openFileCaches(name string) (all []nginxCache, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		for _, directive := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '{' || r == '}' }) {
			if words := strings.Fields(directive); len(words) > 1 && words[0] == "open_file_cache" && words[1] != "off" {
				all = append(all, nginxCache{name, n, strings.Join(words, " ")})
			}
		}
	}
	if err := lines.Err(); err != nil {
		return all, fmt.Errorf("read %s: %w", name, err)
	}
	return all, nil
}

// diagnoseNginx says where nginx would go on showing what was.
func diagnoseNginx(l nginxLook) (all []finding) {
	for _, n := range l.caches {
		all = append(all, warn("nginx", "%s:%d says `%s`, so it goes on showing files of the release before while it keeps them open", n.file, n.line, n.text).
			todo("say `open_file_cache off;` where it serves what relman keeps"))
	}
	for _, err := range l.errs {
		all = append(all, warn("nginx", "its configuration cannot be read: %v", err).todo("run this as a user who may"))
	}
	if len(all) == 0 && l.files > 0 {
		all = append(all, fine("nginx", "it keeps no files open, by %s", plural(l.files, "file")))
	}
	return all
}
