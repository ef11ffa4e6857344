package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"relman/nodeagent"
	"relman/objectstore"
	"relman/release"
)

// TestVerifyStore: what is damaged is said with its remedy and exit code 10; a
// store that does not answer is another thing.
func TestVerifyStore(t *testing.T) {
	l := newLab(t).withManager(t).withNodes(t, 1)
	first, _, f := l.publish(t.Context(), t, publishOptions{askOptions: patient(), dir: site(t, "a", "b")})
	if f != nil {
		t.Fatal(f)
	}
	s := l.session()
	verify := func(rels ...string) (*objectstore.Audited, string, *failure) {
		t.Helper()
		var said strings.Builder
		u := &ui{report: &said, progress: newProgress(nil, false)}
		out, err := s.verifyStore(t.Context(), l.view(t), rels, u)
		if err != nil {
			f := failureOf(err)
			if out.Verify == nil {
				return nil, said.String(), f
			}
			return out.Verify.Store, said.String(), f
		}
		return out.Verify.Store, said.String(), nil
	}
	r, said, f := verify()
	if f != nil || len(r.Faults) != 0 || r.Releases != 1 || r.Files != 2 || !strings.Contains(said, "1 release, 1 pack, ") || !strings.Contains(said, "2 files: all as published") {
		t.Fatalf("%+v %v\n%s", r, f, said)
	}
	if _, _, f := verify("77"); f == nil || f.code != exitUsage {
		t.Errorf("%v, want exit 2", f)
	}
	var packs []string
	if err := s.store.List(t.Context(), "", func(i objectstore.Info) error {
		if strings.HasSuffix(i.Key, ".pack") {
			packs = append(packs, i.Key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Delete(t.Context(), packs[0]); err != nil {
		t.Fatal(err)
	}
	layout := fmt.Sprintf("sites/www/releases/%s/layout.zst", first.Release)
	r, said, f = verify(string(first.Release))
	if f == nil || f.code != exitCorrupt || len(r.Faults) != 1 || r.Faults[0].Key != packs[0] || !r.Faults[0].Missing {
		t.Errorf("%+v %v", r, f)
	}
	for _, want := range []string{"MISSING", packs[0], "lacks 2 files (p0.html, p1.html)", "relman publish DIR --full"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if err := s.store.Delete(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	if r, said, f = verify(); f == nil || f.code != exitCorrupt || len(r.Faults) != 1 || r.Faults[0].Key != layout || !strings.Contains(said, "publish the build again") {
		t.Errorf("%+v %v\n%s", r, f, said)
	}
	if err := s.store.Delete(t.Context(), path.Dir(layout)+"/manifest.zst"); err != nil {
		t.Fatal(err)
	}
	if _, _, f = verify(); f == nil || f.code != exitUnreachable || f.class != classStoreNotFound {
		t.Errorf("%+v, want exit 3: it is another store", f)
	}
	s.store = gone{s.store}
	if _, _, f = verify(); f == nil || f.code != exitUnreachable || f.class != classStoreUnavailable {
		t.Errorf("%+v, want exit 3", f)
	}
	code, _, errs := l.relman(t, "verify", "--node", "n1")
	if code != exitUnreachable || !strings.Contains(errs, "n1: it does not say where its admin listener is") {
		t.Errorf("exit %d: %s", code, errs)
	}
	for _, args := range [][]string{{"verify", "--node", "n9"}, {"verify", "1", "--node", "n1"}} {
		if code, _, errs := l.relman(t, args...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
}

// TestAskNode: what an agent answers, and what it means that it does not.
func TestAskNode(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	answers := func(code int, lines ...any) nodeReport {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/v1/verify" || r.URL.Query().Get("site") != "www" {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			w.WriteHeader(code)
			for _, line := range lines {
				if err := json.NewEncoder(w).Encode(line); err != nil {
					t.Error(err)
				}
			}
		}))
		t.Cleanup(h.Close)
		return nodeReport{Node: "n1", Live: true, Admin: h.URL}
	}
	found := nodeagent.Verified{Site: "www", Releases: []nodeagent.VerifiedRelease{{Release: "000001-aaaaaaaaaaaa", Files: 3}}}
	more := nodeagent.VerifyAnswer{Files: 1, Bytes: 10, AllBytes: 30}
	for name, c := range map[string]struct {
		node       nodeReport
		says, todo string
	}{
		"well":        {answers(200, more, nodeagent.VerifyAnswer{Sites: []nodeagent.Verified{found}, Done: true}), "", ""},
		"not live":    {nodeReport{Node: "n1"}, "not live", "start its agent"},
		"refused":     {nodeReport{Node: "n1", Live: true, Admin: "http://" + closed.Addr().String()}, "refused", "--advertise-admin"},
		"busy":        {answers(409, "a verification is under way on this node"), "under way", ""},
		"fails":       {answers(200, more, nodeagent.VerifyAnswer{Error: "disk gone", Done: true}), "disk gone", ""},
		"breaks off":  {answers(200, more), "broke off", ""},
		"older agent": {answers(404, "404 page not found"), "404", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := askNode(t.Context(), c.node, "www", func(nodeagent.VerifyAnswer) {})
			if (got.Verified != nil) != (c.says == "") || !strings.Contains(got.Error, c.says) || !strings.Contains(got.hint, c.todo) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestNodesFailure: what was damaged decides about the exit code, then who was
// not asked.
func TestNodesFailure(t *testing.T) {
	away := []verifiedNode{{Node: "n2", Error: "it is not live"}}
	for _, c := range []struct {
		damaged, unrepaired int
		away                []verifiedNode
		code                exitCode
		says                string
	}{
		{1, 0, nil, exitCorrupt, "1 file damaged, all repaired"},
		{3, 2, away, exitCorrupt, "3 files damaged, 2 not repaired"},
		{0, 0, away, exitUnreachable, "n2: it is not live"},
		{0, 0, append(away, verifiedNode{Node: "n3"}), exitUnreachable, "2 nodes not verified: n2, n3"},
	} {
		out := &outcome{Nodes: []release.NodeID{"n2", "n3"}[:len(c.away)]}
		f, ok := errors.AsType[*failure](nodesFailure(out, c.damaged, c.unrepaired, c.away))
		if !ok || f.code != c.code || f.Error() != c.says {
			t.Errorf("%+v, want %d %s", f, c.code, c.says)
		}
	}
}

// gone is a store that does not answer.
type gone struct{ objectstore.Store }

func (gone) Get(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("get %s: %w", key, objectstore.ErrUnavailable)
}
