package nodeagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"relman/objectstore"
)

// verify asks the node as an operator does.
func (n *node) verify(site string) (VerifyAnswer, int) {
	n.t.Helper()
	w := httptest.NewRecorder()
	n.agent.AdminHandler().ServeHTTP(w, httptest.NewRequestWithContext(n.t.Context(), "POST", "/v1/verify?site="+site, nil))
	var last VerifyAnswer
	if w.Code != http.StatusOK {
		return last, w.Code
	}
	for dec := json.NewDecoder(w.Body); ; {
		var a VerifyAnswer
		if err := dec.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			n.t.Fatal(err)
		}
		last = a
	}
	if !last.Done || last.Error != "" || len(last.Sites) != 1 {
		n.t.Fatalf("%+v", last)
	}
	return last, w.Code
}

// expectClean: all of these were read, and nothing was wrong.
func (n *node) expectClean(want ...*objectstore.Stored) {
	n.t.Helper()
	a, code := n.verify(string(www))
	if code != http.StatusOK || len(a.Sites[0].Damaged) != 0 || len(a.Sites[0].Releases) != len(want) {
		n.t.Fatalf("%d %+v", code, a)
	}
	var bytes int64
	files := 0
	for _, s := range want {
		bytes, files = bytes+s.Manifest.Bytes, files+s.Manifest.Count
		if !slices.ContainsFunc(a.Sites[0].Releases, func(r VerifiedRelease) bool {
			return r.Release == s.Manifest.ID() && r.Files == s.Manifest.Count && r.Bytes == s.Manifest.Bytes && r.Damaged == 0
		}) {
			n.t.Errorf("%s: %+v", s.Manifest.ID(), a.Sites[0].Releases)
		}
	}
	if a.Bytes != bytes || a.AllBytes != bytes || a.Files != int64(files) {
		n.t.Errorf("read %d files, %d of %d bytes, they have %d and %d", a.Files, a.Bytes, a.AllBytes, files, bytes)
	}
}

// TestNode_verify: what is damaged on the disk is named and repaired, while the
// site is served on, and nothing else changes.
func TestNode_verify(t *testing.T) {
	all := map[string]func(string) error{
		"other bytes": func(name string) error {
			raw, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return replace(name, strings.Repeat("x", len(raw)))
		},
	}
	for name, damage := range damages {
		all[name] = damage
	}
	for name, damage := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.start()
			b := firstBuild()
			r1 := n.rollOut(b)
			r2 := n.rollOut(b.with("index.html", "two"))
			n.until("settled", func() error { return expectTree(n.link("previous"), r1.Manifest) })
			n.expectClean(r1, r2)
			const file = "d0/e0/f0"
			n.guest.avoids.Store(file) // or it is repaired before it is looked for
			n.unaudited(func() {
				// A name of its own, so that one release alone is damaged.
				current := filepath.Join(n.link("current"), file)
				f, _ := r2.Manifest.Lookup(file)
				raw, err := os.ReadFile(current)
				if err := errors.Join(err, replace(current, string(raw)), damage(current)); err != nil {
					t.Fatal(err)
				}
				a, code := n.verify("")
				if code != http.StatusOK {
					t.Fatal(code)
				}
				i := slices.IndexFunc(a.Sites[0].Damaged, func(d DamagedFile) bool { return d.Path == file })
				if i < 0 || a.Sites[0].Damaged[i].Release != r2.Manifest.ID() || !a.Sites[0].Damaged[i].Repaired || a.Sites[0].Damaged[i].What == "" {
					t.Fatalf("%+v, want %s of %s repaired", a.Sites[0].Damaged, f.Path, r2.Manifest.ID())
				}
				for _, d := range a.Sites[0].Damaged {
					if d.Release != r2.Manifest.ID() || name != "no tree at all" && d.Path != file {
						t.Errorf("%+v is not damaged", d)
					}
				}
				if err := expectTree(n.link("current"), r2.Manifest); err != nil {
					t.Errorf("said to be repaired: %v", err)
				}
				n.whole(r1, r2)
			})
			n.serves(r2)
			n.expectClean(r1, r2)
		})
	}
}

// TestNode_verifyUnrepaired: what cannot be repaired now is said, with why.
func TestNode_verifyUnrepaired(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	faulty := &faultyStore{Store: n.shelf.store}
	n.store = faulty
	n.start()
	r1 := n.rollOut(firstBuild())
	n.unaudited(func() {
		faulty.set(func(_ context.Context, key string) error {
			return fmt.Errorf("get %s: %w", key, objectstore.ErrUnavailable)
		}, false)
		if err := os.Remove(filepath.Join(n.link("current"), "d0/e0/f0")); err != nil {
			t.Fatal(err)
		}
		a, _ := n.verify(string(www))
		r := a.Sites[0].Releases[0]
		if r.Damaged != 1 || r.Repaired || !strings.Contains(r.Why, objectstore.ErrUnavailable.Error()) || a.Sites[0].Damaged[0].Repaired {
			t.Errorf("%+v", a)
		}
		faulty.set(nil, false)
		n.whole(r1)
	})
	n.expectClean(r1)
}

// TestNode_verifyOnce: there is one at a time, of sites that there are.
func TestNode_verifyOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	r1 := n.rollOut(firstBuild())
	if _, code := n.verify("shop"); code != http.StatusNotFound {
		t.Errorf("another site: %d", code)
	}
	n.agent.verifying.Lock()
	if _, code := n.verify(string(www)); code != http.StatusConflict {
		t.Errorf("while one is under way: %d", code)
	}
	n.agent.verifying.Unlock()
	n.expectClean(r1)
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/verify", nil)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if n.agent.AdminHandler().ServeHTTP(w, req); w.Code != http.StatusForbidden {
		t.Errorf("from a page elsewhere: %d", w.Code)
	}
	agent := n.agent
	n.halt()
	if _, err := agent.Verify(t.Context(), www, &VerifyProgress{}); !errors.Is(err, errStopped) {
		t.Errorf("after the end: %v", err)
	}
}
