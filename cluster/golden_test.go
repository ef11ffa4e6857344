package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// TestGolden_keysAndValues: what etcdctl shows is an interface.
func TestGolden_keysAndValues(t *testing.T) {
	w := newWorld(t, dial(t))
	v := w.view()
	w.commit(Flip(w.fence, v, w.next(v)))
	s := w.site
	r1, r2, m2 := string(w.r1), string(w.r2), record(2).Manifest.String()
	active := `{"release":"` + r2 + `","epoch":8,"buffer":1,"previous":{"release":"` + r1 + `","buffer":0},"kind":"publish","flip":"01FLIP2","manifest":"` + m2 +
		`","at":"2026-11-22T19:58:00Z","by":"ci@example","request":"01REQ2","quorum":{"members":2,"claims":2},"leader":` + fmt.Sprint(w.fence.Create) + `}`
	for key, want := range map[string]string{
		"/relman/v1/sites/www/active":             active,
		"/relman/v1/sites/www/history/0000000008": active,
		"/relman/v1/sites/www/results/01REQ2":     `{"state":"active","release":"` + r2 + `","epoch":8,"changed":true,"at":"2026-11-22T19:58:00Z"}`,
		"/relman/v1/sites/www/ready/1/main/N1":    r2,
		"/relman/v1/sites/www/ready/2/main/N1":    "-",
		"/relman/v1/sites/www/members/N1":         "in",
		"/relman/v1/sites/www/seq":                "2",
		"/relman/v1/sites/www/config":             `{"min":"50%","require_live":false,"prepare_deadline_s":600,"grace_s":60,"stragglers":"out","max_out":"20%","admission":"auto","fence_s":10,"buffers":3,"bake":{"bake_s":0,"max_bad_nodes":"0","max_5xx":1,"max_404":0,"min_answers":100}}`,
		"/relman/v1/sites/www/roster":             `{"v":1,"why":"site created"}`,
		"/relman/v1/sites/www/desired":            `{"request":"01REQ2","mode":"publish","release":"` + r2 + `","by":"ci@example","at":"2026-11-22T19:58:00Z"}`,
		"/relman/v1/sites/www/releases/" + r2:     `{"manifest":"` + m2 + `","files":3,"bytes":12,"created":"2026-11-22T19:58:00Z","by":"ci@example","request":"01REQ"}`,
		"/relman/v1/nodes/N1/live":                `{"boot":"01BOOT","addr":"http://127.0.0.1:1","version":"v0"}`,
		"/relman/v1/nodes/N1/join":                `{"sites":["www"],"group":"main"}`,
	} {
		real := strings.NewReplacer("/www/", "/"+string(s)+"/", "N1", string(w.nodes[0].Node)).Replace(key)
		want = strings.ReplaceAll(want, `"www"`, `"`+string(s)+`"`)
		if got := w.get(real).Value; got != want {
			t.Errorf("%s is\n%s\nwant\n%s", key, got, want)
		}
	}
	for _, p := range w.all(ActiveKey(s)) {
		if !strings.HasPrefix(p.Value, `{"release":"`) || strings.ContainsAny(p.Value, "\n\r") {
			t.Errorf("active reads %q", p.Value)
		}
	}
}

func TestGolden_keys(t *testing.T) {
	for got, want := range map[string]string{
		InfoKey:                            "/relman/v1/cluster",
		CatalogKey:                         "/relman/v1/catalog",
		GCKey:                              "/relman/v1/gc",
		ElectionPrefix:                     "/relman/v1/election",
		FreezeKey("www"):                   "/relman/v1/sites/www/freeze",
		RolloutKey("www"):                  "/relman/v1/sites/www/rollout",
		VerdictKey("www", "000001-abc"):    "/relman/v1/sites/www/verdicts/000001-abc",
		ClockKey:                           "/relman/v1/clock",
		SkewKey("www", 7):                  "/relman/v1/sites/www/skew/0000000007",
		StatusKey("n1", "www"):             "/relman/v1/nodes/n1/status/www",
		TurnKey("n1", "www"):               "/relman/v1/nodes/n1/turn/www",
		LoweredKey("n1", "www"):            "/relman/v1/nodes/n1/lowered/www",
		UploadKey("www", "01R"):            "/relman/v1/uploads/www/01R",
		PinKey("www", "000001-abc"):        "/relman/v1/sites/www/pins/000001-abc",
		CordonKey("www", "n1"):             "/relman/v1/sites/www/cordons/n1",
		ApprovalKey("www", "n1"):           "/relman/v1/sites/www/approvals/n1",
		LastKey("n1"):                      "/relman/v1/nodes/n1/last",
		ClaimKey("www", 2, "canary", "n1"): "/relman/v1/sites/www/ready/2/canary/n1",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestClaimKeyParts(t *testing.T) {
	k, g, n, ok := claimKeyParts("7/canary/n-1")
	if k != 7 || g != "canary" || n != "n-1" || !ok {
		t.Errorf("%d %s %s %v", k, g, n, ok)
	}
	for _, bad := range []string{"", "0", "0/main", "0/main/", "0//n", "8/main/n", "-1/main/n", "00/main/n", "+1/main/n", "0/main/n/x", "0/Main/n", "x/main/n"} {
		if _, _, _, ok := claimKeyParts(bad); ok {
			t.Errorf("%q is taken for a claim's key", bad)
		}
	}
}

// TestEncode_plain: no value is escaped for HTML or broken into lines.
func TestEncode_plain(t *testing.T) {
	if got := encode(Freeze{By: "a<b>&c", Reason: "x"}); !strings.Contains(got, `"a<b>&c"`) || strings.Contains(got, "\n") {
		t.Error(got)
	}
}
