package nodeagent

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"relman/cluster"
	"relman/release"
)

// TestAcceptReset: a node that refuses an epoch that went back obeys it once it is
// told to, shows on what it shows until it holds the other release, and remembers it.
func TestAcceptReset(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	b := firstBuild()
	n.rollOut(b)
	second := n.rollOut(b.with("index.html", "two"))
	accept := func(query string) (int, string) {
		w := httptest.NewRecorder()
		n.agent.AdminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/accept-reset"+query, nil))
		return w.Code, w.Body.String()
	}
	if code, why := accept("?site=www"); code != http.StatusConflict || !strings.Contains(why, ErrNotRefusing.Error()) {
		t.Errorf("without need: %d %s", code, why)
	}
	if code, _ := accept("?site=shop"); code != http.StatusNotFound {
		t.Errorf("another site: %d", code)
	}
	// etcd was restored to a time at which something else was active, that the
	// node does not hold, and its claims were others.
	other := n.publish(b.with("index.html", "restored"))
	n.etcd.change(func(rev int64) {
		n.etcd.claims = map[int]release.ID{}
		n.etcd.view.Active = cluster.Entry[cluster.Active]{Mod: rev, Create: 1, Value: cluster.Active{
			Release: other.Manifest.ID(), Epoch: 1, Buffer: 0, Manifest: other.Manifest.Digest(),
		}}
	})
	n.until("refuses", func() error {
		if st := n.status(); st.State != cluster.NodeRefusing || !strings.Contains(st.Error.Text, "it says epoch 1") {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
	n.answers(second, "unconfirmed")
	if err := n.guest.leave(); err != nil { // one that comes now sees the epoch go back, as it is to
		t.Error(err)
	}
	if code, why := accept("?site=www"); code != http.StatusOK {
		t.Errorf("%d %s", code, why)
	}
	n.serves(other)
	n.guest = newVisitor(n.agent.Handler(), n.shelf)
	n.halt()
	n.start()
	n.serves(other)
	if got := n.status().Epoch; got != 1 {
		t.Errorf("epoch %d", got)
	}
}

// TestOtherCluster: a node that remembers its cluster does not obey another one,
// also after a restart, and says so.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	name := func(id string) { n.etcd.change(func(int64) { n.etcd.view.Cluster = id }) }
	name("01OURS")
	n.start()
	b := firstBuild()
	r := n.rollOut(b)
	n.until("it remembers the cluster", func() error {
		id, err := ClusterOf(n.dir)
		if id != "01OURS" {
			return fmt.Errorf("%q, %w", id, err)
		}
		return nil
	})
	foreign := func() error {
		ok, why := n.agent.Ready()
		if st := n.status(); ok || !strings.Contains(why, "belongs to 01OURS, it is 01OTHER") || st.Error == nil || st.Error.Class != ClassForeign {
			return fmt.Errorf("%v %s %+v", ok, why, st)
		}
		return nil
	}
	name("01OTHER")
	n.until("refuses", foreign)
	s := n.publish(b.with("index.html", "theirs"))
	n.etcd.flipElsewhere(s.Manifest.ID(), 1)
	n.halt()
	n.start()
	n.until("refuses after a restart", foreign)
	n.answers(r, "unconfirmed")
	if err := n.agent.AcceptReset(www); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), "state.json") {
		t.Errorf("accepted: %v", err)
	}
	name("01OURS")
	n.serves(s)
	if id, err := ClusterOf(t.TempDir()); id != "" || err != nil {
		t.Errorf("an empty directory: %q, %v", id, err)
	}
}
