package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain lets the test be the program that it runs for single objects.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == putVerb || os.Args[1] == getVerb) {
		main()
		return
	}
	os.Exit(m.Run())
}

func goBuild(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// long is for whole runs: `make test` has no time for them.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RELMAN_LONG") != "1" {
		t.Skip("SKIPPED: `make e2e-faults` runs it")
	}
}

// TestRun measures a small site in all cells. Every prefetch is compared with
// the build, so that it also shows that there is something to measure.
func TestRun(t *testing.T) {
	long(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	goBuild(t, "-o", in("relman"), "relman/cmd/relman")
	goBuild(t, "-C", "../../tools", "-o", in("etcd"), "go.etcd.io/etcd/server/v3")
	s := site{v1: in("v1"), v2: in("v2")}
	if err := makeMany(s, 300, 3); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]int{relmanName: len(allCells)}
	tools := relmanName
	if find("zstd") != "" && find("tar") != "" {
		wanted["tar.zst"], wanted[floorName] = 5, len(allFloors)
		tools += ",tar.zst"
	}
	if err := os.Mkdir(in("work"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{
		"-relman", in("relman"), "-etcd", in("etcd"), "-dir", in("work"), "-json", in("json"), "-svg", in("svg"),
		"-tree", fmt.Sprintf("small=%s,%s", s.v1, s.v2), "-on", "small", "-tools", tools, "-runs", "1", "-rate", "1Gbit",
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(in("json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Measured []measured }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	bytes := map[key]int64{}
	for _, m := range got.Measured {
		if m.Median.good() && m.Median.Wall > 0 {
			wanted[m.Tool]--
		} else if m.Tool != floorName || len(wanted) > 1 {
			t.Errorf("%+v: %+v", m.key, m.Median)
		}
		bytes[m.key] = m.Median.bytes()
	}
	for tool, n := range wanted {
		if n != 0 {
			t.Errorf("%s: %d cells were not measured", tool, n)
		}
	}
	if full, update := bytes[key{"small", relmanName, firstPrefetch}], bytes[key{"small", relmanName, updatePrefetch}]; full <= update || update == 0 {
		t.Errorf("%d bytes crossed for a site, %d for an update of it", full, update)
	}
	left, err := os.ReadDir(in("work"))
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}
