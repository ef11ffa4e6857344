package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// compare compares every file of a build, byte for byte, with what is in
// directories and with what nodes answer, and returns how many files these
// are. A directory must not hold more than the build.
func compare(build, host string, targets []string) (int, error) {
	files, err := listFiles(build)
	if err != nil {
		return 0, err
	}
	for _, target := range targets {
		if isURL(target) {
			continue
		}
		there, err := listFiles(target)
		if err != nil {
			return 0, err
		}
		if len(there) != len(files) {
			return 0, fmt.Errorf("%s holds %d files, the build has %d", target, len(there), len(files))
		}
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, f := range files {
		g.Go(func() error { return compareFile(filepath.Join(build, f), f, host, targets) })
	}
	return len(files), g.Wait()
}

func compareFile(path, name, host string, targets []string) error {
	want, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, target := range targets {
		read := onDisk
		if isURL(target) {
			read = overHTTP
		}
		got, err := read(target, name, host)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s of %s differs from the build", name, target)
		}
	}
	return nil
}

func isURL(target string) bool { return strings.HasPrefix(target, "http://") }

func onDisk(dir, name, _ string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }

var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 8, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func overHTTP(node, name, host string) ([]byte, error) {
	u := node + (&url.URL{Path: "/" + name}).EscapedPath()
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	if host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", u, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s (%s): %s", u, req.Host, resp.Status)
	}
	return body, nil
}

// listFiles lists what is no folder below a directory, or below the one that a
// symlink leads to.
func listFiles(dir string) ([]string, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		files = append(files, rel)
		return err
	})
	return files, err
}
