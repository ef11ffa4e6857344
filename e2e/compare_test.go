package e2e

import (
	"io/fs"
	"net/http"
	"path/filepath"
	"testing"
)

// expectSite compares every file of every node with a build, byte for byte:
// what the node's own server answers, and what its current/ holds.
func (d *dev) expectSite(t testing.TB, site, build string) {
	t.Helper()
	targets := d.Ready.Nodes
	for i := range d.Ready.Nodes {
		targets = append(targets, filepath.Join(d.siteDir(i, site), "current"))
	}
	compare(t, site+".localhost", build, targets)
}

func compare(t testing.TB, host, build string, targets []string) {
	t.Helper()
	r := must(t, nil, programs(t).sitecheck, append([]string{"compare", "-host", host, build}, targets...)...)
	t.Logf("%s", r.stdout)
}

var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// listFiles lists the files below a directory.
func listFiles(t testing.TB, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		files = append(files, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
