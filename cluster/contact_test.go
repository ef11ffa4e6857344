package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"relman/cluster/clustertest"
	"relman/release"
)

var errNotYet = errors.New("not yet")

// grows waits until a time is a newer one than it was.
func grows(t *testing.T, what string, now func() time.Duration) {
	t.Helper()
	was := now()
	clustertest.Until(t, 15*time.Second, func() error {
		if now() <= was {
			return fmt.Errorf("%w: %s", errNotYet, what)
		}
		return nil
	})
}

// TestNode_contactOfAllSites: a node is not in contact before it has acted on what
// it was told of each of its sites.
func TestNode_contactOfAllSites(t *testing.T) {
	w := newWorld(t, dial(t))
	other := newWorld(t, w.c)
	n := w.newNode("contact", "")
	n.Vouch(40 * time.Millisecond)
	var held sync.Mutex // by whoever keeps one of the sites from what it is told
	seen := make(chan struct{}, 1)
	w.runs(func(ctx context.Context) error {
		return n.Follow(ctx, w.site, func(NodeView) {
			held.Lock()
			defer held.Unlock()
			select {
			case seen <- struct{}{}:
			default:
			}
		})
	})
	w.runs(func(ctx context.Context) error { return n.Follow(ctx, other.site, func(NodeView) {}) })
	<-seen
	grows(t, "contact", n.Contact)

	held.Lock()
	w.put(MemberKey(w.site, n.self.Node), "out")
	var was time.Duration
	clustertest.Until(t, 15*time.Second, func() error { // until what was under way is over
		now := n.Contact()
		stands := now == was
		was = now
		time.Sleep(100 * time.Millisecond) // more than two rounds of questions
		if !stands {
			return errNotYet
		}
		return nil
	})
	asked := Boottime()
	if c := n.Contact(); c >= asked-100*time.Millisecond {
		t.Errorf("in contact %s ago, though a site is behind", asked-c)
	}
	held.Unlock()
	clustertest.Until(t, 15*time.Second, func() error {
		if n.Contact() < asked {
			return errNotYet
		}
		return nil
	})
}

// TestNode_lived: that etcd answers does not tell that the session lives, only the
// own live key does.
func TestNode_lived(t *testing.T) {
	w := newWorld(t, dial(t))
	n := w.newNode("lived", "")
	n.Vouch(40 * time.Millisecond)
	w.runs(func(ctx context.Context) error {
		return n.FollowSites(ctx, func([]release.Site) {})
	})
	lived := func() time.Duration {
		since, _ := n.Lived()
		return since
	}
	key := LiveKey(n.self.Node)
	grows(t, "contact", n.Contact)
	w.put(key, `{"boot":"another"}`)
	grows(t, "contact", n.Contact)
	grows(t, "contact", n.Contact) // one that was asked after the put
	if lived() != 0 {
		t.Error("the session of another process is taken for the own")
	}
	w.put(key, encode(n.live))
	grows(t, "lived", lived)
	if _, err := w.c.kv.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	deleted := Boottime()
	grows(t, "contact", n.Contact)
	grows(t, "contact", n.Contact)
	if _, still := n.Lived(); still || lived() > deleted {
		t.Error("a session that is gone is taken for one that lives")
	}
}
