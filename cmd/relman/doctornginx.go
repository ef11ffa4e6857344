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
	seen := map[string]bool{}
	for i, name := range files {
		from := dir
		if i < len(named) {
			from = filepath.Dir(name)
		}
		l.read(name, from, seen)
	}
	return l
}

// read looks through a file and those that it includes; their names count from where
// the first of them is, as nginx has it.
func (l *nginxLook) read(name, from string, seen map[string]bool) {
	if name = filepath.Clean(name); seen[name] {
		return
	}
	seen[name] = true
	found, includes, err := openFileCaches(name)
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	l.files++
	l.caches = append(l.caches, found...)
	for _, pattern := range includes {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(from, pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			l.errs = append(l.errs, fmt.Errorf("%s includes %q: %w", name, pattern, err))
		}
		for _, n := range names {
			l.read(n, from, seen)
		}
	}
}

// openFileCaches finds where a file says open_file_cache and not off, and what else it
// includes.
func openFileCaches(name string) (all []nginxCache, includes []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		for _, directive := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '{' || r == '}' }) {
			words := strings.Fields(directive)
			switch {
			case len(words) < 2:
			case words[0] == "open_file_cache" && words[1] != "off":
				all = append(all, nginxCache{name, n, strings.Join(words, " ")})
			case words[0] == "include":
				includes = append(includes, strings.Trim(words[1], `"'`))
			}
		}
	}
	if err := lines.Err(); err != nil {
		return all, includes, fmt.Errorf("read %s: %w", name, err)
	}
	return all, includes, nil
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
