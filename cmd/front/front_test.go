package front

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// frontOf puts a front before handlers; a nil one is a node that is down.
func frontOf(t *testing.T, ready func(i int) bool, nodes ...http.Handler) http.Handler {
	t.Helper()
	var list []Node
	for i, h := range nodes {
		s := httptest.NewServer(h)
		if h == nil {
			s.Close()
		} else {
			t.Cleanup(s.Close)
		}
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Node{URL: u, Ready: func() bool { return ready(i) }})
	}
	return New(list, slog.New(slog.DiscardHandler))
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s", text, r.Host)
	})
}

func status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) })
}

func askFront(t *testing.T, h http.Handler) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://mkt.localhost/", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, strings.TrimSpace(string(b))
}

func TestFront_inTurn(t *testing.T) {
	all := func(int) bool { return true }
	h := frontOf(t, all, says("a"), says("b"), says("c"))
	count := map[string]int{}
	for range 9 {
		_, text := askFront(t, h)
		count[text]++
	}
	for _, n := range []string{"a", "b", "c"} {
		if count[n+" mkt.localhost"] != 3 {
			t.Errorf("answers %v, want three of each, with the host that was asked for", count)
		}
	}
}

func TestFront_leavesOutWhoCannotAnswer(t *testing.T) {
	h := frontOf(t, func(i int) bool { return i != 3 }, nil, status(503), says("c"), says("not ready"))
	for range 8 {
		if code, text := askFront(t, h); code != 200 || text != "c mkt.localhost" {
			t.Errorf("%d %q", code, text)
		}
	}
}

func TestFront_lastResort(t *testing.T) {
	nobody := func(int) bool { return false }
	for _, c := range []struct {
		nodes []http.Handler
		code  int
	}{
		{[]http.Handler{says("a"), says("a")}, 200}, // not ready, but it answers
		{[]http.Handler{status(503), status(503)}, 503},
		{[]http.Handler{status(404), status(404)}, 404}, // an answer like any other
		{[]http.Handler{nil, nil}, 502},
	} {
		if code, text := askFront(t, frontOf(t, nobody, c.nodes...)); code != c.code {
			t.Errorf("%d %q, want %d", code, text, c.code)
		}
	}
}
