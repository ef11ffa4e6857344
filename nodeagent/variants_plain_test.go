package nodeagent

import "testing"

// TestNode_plain: a node that is told to do without variants has none.
func TestNode_plain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.plain = true
	n.start()
	r := n.rollOut(firstBuild())
	s := n.agent.sites[0]
	s.mu.Lock()
	held := s.holding(r.Manifest.ID(), r.Manifest.Digest())
	s.mu.Unlock()
	if held == nil || held.variants != nil {
		t.Errorf("%+v", held)
	}
	if r := ask(n.agent.Handler(), "GET", "/index.html", "Accept-Encoding", "gzip, zstd"); r.Header().Get("Content-Encoding") != "" || r.Header().Get("Vary") != "" {
		t.Errorf("%v", r.Header())
	}
}
