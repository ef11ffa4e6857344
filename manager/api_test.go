package manager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"relman/cluster"
)

// get asks the API of a world for a path and reads the answer into v.
func get(t *testing.T, h http.Handler, path string, status int, v any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	if w.Code != status {
		t.Fatalf("GET %s: %d, want %d: %s", path, w.Code, status, w.Body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("GET %s: %s is %q, want %q", path, name, got, want)
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Errorf("GET %s: %v: %s", path, err, w.Body)
	}
}

type apiError struct{ Error cluster.ErrorInfo }

// TestAPI reads a cluster in the middle of a rollout, with one node late.
func TestAPI(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, _ := w.manager("m1")
		h := NewAPI(w.fake, m)
		w.nodes(2, time.Second)
		w.node("web-3", 5*time.Minute)
		w.until("web-3 has entered", func(v *cluster.View) bool { return v.Entered() == 3 })
		w.ended(w.publish(1), cluster.StateActive, 1, 1)
		w.put(cluster.LiveKey("web-3"), cluster.Live{Boot: "b3", Addr: "http://127.0.0.1:8083", Version: "0.1"})
		w.put(cluster.StatusKey("web-3", www), cluster.Status{State: cluster.NodeServing, Release: rel(1), Epoch: 1, Swapped: now, ClockErrorMS: -900})
		w.put(cluster.StatusKey("web-2", www), cluster.Status{State: cluster.NodeSyncing})
		w.node("web-4", time.Hour)
		w.publish(2)
		time.Sleep(time.Minute)
		synctest.Wait()

		apiSites(t, h)
		apiSite(t, h)
		apiParts(t, h)
		apiNodes(t, h)
		apiErrors(t, h)
		apiHealth(t, h, w)
	})
}

func apiSites(t *testing.T, h http.Handler) {
	var sites []SiteSummary
	get(t, h, "/v1/sites", http.StatusOK, &sites)
	if len(sites) != 1 || sites[0].Site != www || sites[0].Active.Release != rel(1) || sites[0].Frozen {
		t.Fatalf("sites: %+v", sites)
	}
	if want := (NodeCounts{Members: 4, Entered: 3, Live: 4, Converged: 1}); sites[0].Nodes != want {
		t.Errorf("nodes: %+v, want %+v", sites[0].Nodes, want)
	}
}

func apiSite(t *testing.T, h http.Handler) {
	var d SiteDetail
	get(t, h, "/v1/sites/www", http.StatusOK, &d)
	if d.Revision == 0 || d.Rollout.Release != rel(2) || d.Desired.Release != rel(2) || d.Result != nil || d.Freeze != nil || !reflect.DeepEqual(d.Policy, cluster.DefaultPolicy()) {
		t.Errorf("site: %+v", d)
	}
	if len(d.States) != 4 {
		t.Fatalf("states: %+v", d.States)
	}
	third := d.States[2]
	if third.Node != "web-3" || third.Member != cluster.MemberIn || !third.Live || third.State != cluster.NodeServing || third.Epoch != 1 || third.Swapped == nil || third.ClockErrorMS != -900 {
		t.Errorf("web-3: %+v", third)
	}
	if want := []string{string(rel(1)), "-", "-"}; !slices.Equal(third.Claims, want) {
		t.Errorf("claims of web-3: %v, want %v", third.Claims, want)
	}
	if first := d.States[0]; first.Claims[1] != string(rel(2)) {
		t.Errorf("claims of web-1: %v", first.Claims)
	}
	if fourth := d.States[3]; fourth.Claims != nil {
		t.Errorf("claims of web-4, which has not entered: %v", fourth.Claims)
	}
}

func apiParts(t *testing.T, h http.Handler) {
	var r RolloutDetail
	get(t, h, "/v1/sites/www/rollout", http.StatusOK, &r)
	if len(r.Ready) != 2 || !slices.Equal(r.Late, []Laggard{{"web-3", "serving, has not begun"}}) || r.Need != 2 {
		t.Errorf("rollout: %+v", r)
	}
	var releases []ReleaseDetail
	get(t, h, "/v1/sites/www/releases", http.StatusOK, &releases)
	if len(releases) != 2 || releases[0].Release != rel(2) || releases[0].Active || releases[0].Held != 2 || !releases[1].Active || releases[1].Held != 3 {
		t.Errorf("releases: %+v", releases)
	}
	var history []cluster.Active
	get(t, h, "/v1/sites/www/history?limit=5", http.StatusOK, &history)
	if len(history) != 1 || history[0].Epoch != 1 || history[0].Quorum.Claims != 3 {
		t.Errorf("history: %+v", history)
	}
}

func apiNodes(t *testing.T, h http.Handler) {
	var nodes []Node
	get(t, h, "/v1/nodes", http.StatusOK, &nodes)
	if len(nodes) != 4 || nodes[0].Node != "web-1" || nodes[3].Node != "web-4" {
		t.Fatalf("nodes: %+v", nodes)
	}
	var n Node
	get(t, h, "/v1/nodes/web-3", http.StatusOK, &n)
	if !n.Live || n.Addr != "http://127.0.0.1:8083" || n.Version != "0.1" || n.Group != "main" || n.Sites[www].Epoch != 1 {
		t.Errorf("web-3: %+v", n)
	}
}

func apiErrors(t *testing.T, h http.Handler) {
	for path, want := range map[string]struct {
		status int
		class  cluster.Class
	}{
		"/v1/sites/mkt":                    {http.StatusNotFound, classNotFound},
		"/v1/sites/mkt/history":            {http.StatusNotFound, classNotFound},
		"/v1/sites/mkt/rollout":            {http.StatusNotFound, classNotFound},
		"/v1/sites/WWW":                    {http.StatusBadRequest, classInvalid},
		"/v1/sites/www/history?limit=0":    {http.StatusBadRequest, classInvalid},
		"/v1/sites/www/history?limit=1001": {http.StatusBadRequest, classInvalid},
		"/v1/nodes/web-9":                  {http.StatusNotFound, classNotFound},
		"/v1/nodes/..%2f":                  {http.StatusBadRequest, classInvalid},
		"/v1/sites/www/nonsense":           {http.StatusNotFound, classNotFound},
		"/":                                {http.StatusNotFound, classNotFound},
	} {
		var e apiError
		get(t, h, path, want.status, &e)
		if e.Error.Class != want.class || e.Error.Text == "" {
			t.Errorf("GET %s: %+v", path, e)
		}
	}
}

func apiHealth(t *testing.T, h http.Handler, w *world) {
	var health struct {
		Status  string
		Leading bool
	}
	get(t, h, "/healthz", http.StatusOK, &health)
	if health.Status != "ok" || !health.Leading {
		t.Errorf("healthz: %+v", health)
	}
	get(t, h, "/readyz", http.StatusOK, &health)
	w.setOutage(cluster.ErrUnavailable)
	var e apiError
	get(t, h, "/readyz", http.StatusServiceUnavailable, &e)
	if e.Error.Class != classUnavailable {
		t.Errorf("readyz: %+v", e)
	}
	get(t, h, "/v1/sites/www", http.StatusServiceUnavailable, &e)
	get(t, h, "/healthz", http.StatusOK, &health)
}

// TestAPI_readsOnly: nothing but GET and HEAD, and an answer to HEAD has no body.
func TestAPI_readsOnly(t *testing.T) {
	f := newFake(t)
	h := NewAPI(f, New(f, Config{ID: "m1"}))
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/v1/sites", strings.NewReader("{}")))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %v %s", method, w.Code, w.Header(), w.Body)
		}
	}
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := server.Client().Head(server.URL + "/v1/sites")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK || r.ContentLength != 3 { // []\n
		t.Errorf("HEAD: %d, %d bytes", r.StatusCode, r.ContentLength)
	}
}

// TestAPI_empty: lists are [] and never null.
func TestAPI_empty(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		h := NewAPI(w.fake, New(w.fake, Config{ID: "m1"}))
		for _, path := range []string{"/v1/nodes", "/v1/sites/www/history", "/v1/sites/www/releases"} {
			var list []json.RawMessage
			get(t, h, path, http.StatusOK, &list)
			if list == nil || len(list) != 0 {
				t.Errorf("GET %s: %v", path, list)
			}
		}
	})
}
