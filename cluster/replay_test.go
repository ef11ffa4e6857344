package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
)

// inShort is a revision in short: "base@4 a=1 b=2", "5 a=3", "6 -a". A revision
// of a key that cannot be is marked.
func inShort(r Revision) string {
	text := fmt.Sprint(r.Number)
	if r.Base {
		text = "base@" + text
	}
	var keys []string
	for _, ch := range r.Changes {
		key := strings.TrimPrefix(ch.Key, Prefix)
		switch {
		case ch.Deleted:
			key = "-" + key
		case !r.Base && ch.Mod != r.Number || ch.Create == 0 || ch.Create > ch.Mod:
			key += "?"
		default:
			key += "=" + ch.Value
		}
		keys = append(keys, key)
	}
	slices.Sort(keys) // those of one revision have no order
	return strings.Join(append([]string{text}, keys...), " ")
}

// replayed is what a replay tells.
func replayed(t *testing.T, c *Client) (all []string, err error) {
	t.Helper()
	err = c.Replay(within(t, 20*time.Second), func(r Revision) error {
		all = append(all, inShort(r))
		return nil
	})
	return all, err
}

// pastOf makes a history of revisions 2 to 8, in a member of its own.
func pastOf(t *testing.T) *Client {
	t.Helper()
	c := dialAt(t, clustertest.Own(t).ClientURL(), nil)
	ctx := t.Context()
	lease, err := c.kv.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, ops := range [][]clientv3.Op{
		{clientv3.OpPut(Prefix+"a", "1")},
		{clientv3.OpPut("/other", "x")},
		{clientv3.OpPut(Prefix+"a", "2")},
		{clientv3.OpPut(Prefix+"b", "1"), clientv3.OpDelete(Prefix + "a")},
		{clientv3.OpPut(Prefix+"c", "1", clientv3.WithLease(lease.ID)), clientv3.OpPut(Prefix+"d", "1", clientv3.WithLease(lease.ID))},
	} {
		if _, err := c.kv.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.kv.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.kv.Put(ctx, "/other", "y"); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReplay: all of it, or all that was not compacted and the state before it.
func TestReplay(t *testing.T) {
	c := pastOf(t)
	for _, at := range []struct {
		compacted int64
		want      []string
	}{
		{0, []string{"base@0", "2 a=1", "4 a=2", "5 -a b=1", "6 c=1 d=1", "7 -c -d"}},
		{4, []string{"base@4 a=2", "5 -a b=1", "6 c=1 d=1", "7 -c -d"}},
		{6, []string{"base@6 b=1 c=1 d=1", "7 -c -d"}},
		{8, []string{"base@8 b=1"}},
	} {
		if at.compacted > 0 {
			if _, err := c.kv.Compact(t.Context(), at.compacted); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := replayed(t, c); err != nil || !slices.Equal(got, at.want) {
			t.Errorf("compacted at %d: %q %v\nwant %q", at.compacted, got, err, at.want)
		}
	}
	enough := errors.New("enough")
	if err := c.Replay(within(t, 20*time.Second), func(Revision) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want that of the callback", err)
	}
}

// TestReplay_nothing: an etcd that has never been written to has a history, too.
func TestReplay_nothing(t *testing.T) {
	c := dialAt(t, clustertest.Own(t).ClientURL(), nil)
	if got, err := replayed(t, c); err != nil || !slices.Equal(got, []string{"base@0"}) {
		t.Errorf("%q %v", got, err)
	}
}

// tampered is a watcher in which tests put themselves between what the real one
// says and who hears it.
type tampered struct {
	clientv3.Watcher
	begun  int
	tamper func(begun int, r clientv3.WatchResponse) (_ clientv3.WatchResponse, goOn bool)
}

func (w *tampered) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	w.begun++
	begun := w.begun
	in, out := w.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			r, goOn := w.tamper(begun, r)
			select {
			case out <- r:
			case <-ctx.Done():
			}
			if !goOn {
				return
			}
		}
	}()
	return out
}

// upTo keeps the events up to a revision.
func upTo(rev int64, r clientv3.WatchResponse) clientv3.WatchResponse {
	r.Events = slices.DeleteFunc(r.Events, func(e *clientv3.Event) bool { return e.Kv.ModRevision > rev })
	return r
}

// TestReplay_breaks: a watch that breaks is gone on with, without a revision
// twice; what was compacted meanwhile is another base; and what a watch keeps to
// itself is found in the end.
func TestReplay_breaks(t *testing.T) {
	want := []string{"base@0", "2 a=1", "4 a=2", "5 -a b=1", "6 c=1 d=1", "7 -c -d"}
	for _, c := range []struct {
		name   string
		tamper func(c *Client, begun int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool)
		want   []string
		says   string
	}{
		{"the watch breaks", func(_ *Client, begun int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			return upTo(3+int64(begun), r), begun > 4
		}, want, ""},
		{"the watch says an error", func(_ *Client, begun int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			if begun == 1 {
				return clientv3.WatchResponse{Canceled: true}, false
			}
			return r, true
		}, want, ""},
		{"compacted meanwhile", func(c *Client, begun int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			if begun > 1 {
				return r, true
			}
			if _, err := c.kv.Compact(t.Context(), 6); err != nil {
				t.Error(err)
			}
			return upTo(4, r), false
		}, []string{"base@0", "2 a=1", "4 a=2", "base@6 b=1 c=1 d=1", "7 -c -d"}, ""},
		{"a change is lost", func(_ *Client, _ int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			r.Events = slices.DeleteFunc(r.Events, func(e *clientv3.Event) bool { return e.Kv.ModRevision == 5 })
			return r, true
		}, append(slices.Clone(want[:3]), want[4:]...), "has lost changes"},
		{"a deletion is lost", func(_ *Client, _ int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			return upTo(6, r), true
		}, want[:5], "has lost changes"},
		{"the watch goes back", func(_ *Client, _ int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
			if len(r.Events) > 0 {
				r.Events = append(r.Events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(Prefix + "a"), ModRevision: 3}})
			}
			return r, true
		}, want, "went back from revision 7 to 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := pastOf(t)
			client.watcher = &tampered{Watcher: client.watcher, tamper: func(begun int, r clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
				return c.tamper(client, begun, r)
			}}
			got, err := replayed(t, client)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

// TestReplay_away: an etcd that is gone is said to be.
func TestReplay_away(t *testing.T) {
	m := clustertest.Own(t)
	c := dialAt(t, m.ClientURL(), func(c *Config) { c.Timeout = 300 * time.Millisecond })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := replayed(t, c); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}
