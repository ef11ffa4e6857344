package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verification is what `relman verify -o json` says.
type verification struct {
	State  string
	Exit   int
	Verify struct {
		Store struct {
			Releases, Packs, Files int
			Faults                 []struct {
				Key     string
				Missing bool
			}
		}
		Nodes []struct {
			Node     string
			Releases []struct{ Files, Damaged int }
			Damaged  []struct {
				Path     string
				Repaired bool
			}
		}
	}
}

func (d *dev) verify(t *testing.T, code int, args ...string) (v verification, said string) {
	t.Helper()
	args = append([]string{"verify"}, args...)
	r := d.try(t, args...)
	j := d.try(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(j.stdout), &v); err != nil {
		t.Fatalf("%v\n%s%s", err, j.stdout, j.stderr)
	}
	if r.code != code {
		t.Fatalf("relman %s: exit %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return v, r.stdout + r.stderr
}

// flipByte changes one byte of a file in place: size, time and mode stay.
func flipByte(t *testing.T, name string) (whole []byte) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if whole, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrPermission) { // only root may write to what nobody may write to
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err = os.OpenFile(name, os.O_WRONLY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	at := len(whole) / 2
	_, err = f.WriteAt([]byte{whole[at] ^ 0x20}, int64(at))
	if err := errors.Join(err, f.Close(), os.Chmod(name, info.Mode()), os.Chtimes(name, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	return whole
}

// TestVerify: a byte that changed in the store, and one on a node, are found
// and named; the node repairs its own; a pack that is lost for good is made
// good by a publish.
func TestVerify(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), filepath.Join("sample", "v1"))
	v2 := filepath.Join("sample", "v2")
	d.relman(t, "publish", v2)
	clean, said := d.verify(t, 0)
	if s := clean.Verify.Store; s.Releases != 2 || s.Packs == 0 || s.Files == 0 || !strings.Contains(said, "2 releases, ") || !strings.Contains(said, "all as published") {
		t.Fatalf("%+v\n%s", clean, said)
	}
	nodes, said := d.verify(t, 0, "--node", "all")
	if len(nodes.Verify.Nodes) != 4 || len(nodes.Verify.Nodes[3].Releases) != 2 || !strings.Contains(said, "4 nodes, 8 releases held") {
		t.Fatalf("%+v\n%s", nodes, said)
	}

	page := filepath.Join(d.siteDir(1, "www"), "current", "index.html")
	flipByte(t, page)
	var pack string
	for pack = range d.packs(t) {
		break
	}
	whole := flipByte(t, pack)
	name := filepath.Base(pack)
	found, said := d.verify(t, 10)
	if f := found.Verify.Store.Faults; len(f) != 1 || !strings.HasSuffix(f[0].Key, name) || f[0].Missing || found.Exit != 10 || found.State != "failed" {
		t.Errorf("%+v", found)
	}
	if !strings.Contains(said, "DAMAGED") || !strings.Contains(said, name) || !strings.Contains(said, "1 object not as published") {
		t.Error(said)
	}
	if err := os.WriteFile(pack, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	d.verify(t, 0)

	r := d.try(t, "verify", "--node", "node-2")
	if r.code != 10 || !strings.Contains(r.stdout, "REPAIRED") || !strings.Contains(r.stdout, "node-2: index.html of ") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	d.verify(t, 0, "--node", "node-2")
	d.expectSite(t, "www", v2)

	for pack := range d.packs(t) {
		if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
	}
	lost, said := d.verify(t, 10)
	for _, f := range lost.Verify.Store.Faults {
		if !f.Missing || !strings.Contains(said, filepath.Base(f.Key)) {
			t.Errorf("%+v\n%s", f, said)
		}
	}
	if len(lost.Verify.Store.Faults) != clean.Verify.Store.Packs || !strings.Contains(said, "relman publish DIR --full") {
		t.Errorf("%+v\n%s", lost, said)
	}
	d.relman(t, "publish", v2, "--full")
	d.verify(t, 0, "latest")
	d.expectSite(t, "www", v2)
}
