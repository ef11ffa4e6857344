package e2e

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
)

// expectSite compares every file of every node with a build, byte for byte:
// what the node's own server answers, and what its current/ holds.
func (d *dev) expectSite(t testing.TB, site, build string) {
	t.Helper()
	files := listFiles(t, build)
	for i := range d.Ready.Nodes {
		dir := filepath.Join(d.siteDir(i, site), "current")
		if onDisk := listFiles(t, dir); len(onDisk) != len(files) {
			t.Fatalf("%s holds %d files, the build has %d", dir, len(onDisk), len(files))
		}
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, f := range files {
		g.Go(func() error {
			want, err := os.ReadFile(filepath.Join(build, f))
			if err != nil {
				return err
			}
			for i, node := range d.Ready.Nodes {
				err := firstError(
					sameOnDisk(filepath.Join(d.siteDir(i, site), "current", f), want),
					sameOverHTTP(node, site, f, want))
				if err != nil {
					return fmt.Errorf("node %d: %w", i+1, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files of %s are equal on %d nodes, over HTTP and on disk", len(files), build, len(d.Ready.Nodes))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func sameOnDisk(path string, want []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s differs from the build", path)
	}
	return nil
}

var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func sameOverHTTP(node, site, path string, want []byte) error {
	u := node + (&url.URL{Path: "/" + path}).EscapedPath()
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	req.Host = site + ".localhost"
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("GET %s: %w", u, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s (%s): %s", u, req.Host, resp.Status)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("GET %s (%s) differs from the build", u, req.Host)
	}
	return nil
}

// listFiles lists the regular files below a directory.
func listFiles(t testing.TB, dir string) []string {
	t.Helper()
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
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
	if err != nil {
		t.Fatal(err)
	}
	return files
}
