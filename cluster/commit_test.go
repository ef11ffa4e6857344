package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
)

// through is a second client of the world's etcd, behind a proxy, with short
// calls.
func through(t testing.TB) (*Client, *proxy) {
	t.Helper()
	p := newProxy(t, clustertest.Start(t))
	return dialAt(t, p.endpoint(), func(c *Config) { c.Timeout = 700 * time.Millisecond }), p
}

// commits sends a transaction in the background.
func commits(ctx context.Context, c *Client, t Txn) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Commit(ctx, t)
		done <- err
	}()
	return done
}

// await is what a channel yields soon.
func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(15 * time.Second):
		t.Fatal("waited 15 s for " + what)
	}
	return v
}

// flipped waits until epoch 8 is in the history.
func (w *world) flipped() {
	w.t.Helper()
	clustertest.Until(w.t, 10*time.Second, func() error {
		if w.get(HistoryKey(w.site, 8)).Create == 0 {
			return errors.New("no flip")
		}
		return nil
	})
}

func TestCommit_answerLost(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("another flip meanwhile is %v", later), func(t *testing.T) {
			w := newWorld(t, dial(t))
			far, p := through(t)
			v := w.view()
			p.set(func() { p.deaf = true })
			done := commits(within(t, 20*time.Second), far, Flip(w.fence, v, w.next(v)))
			w.flipped()
			want := 1
			if later {
				w.again(ActiveKey(w.site))
				w.put(ActiveKey(w.site), encode(Active{Release: w.r1, Epoch: 9}))
				want = 3
			}
			p.set(func() { p.deaf = false })
			p.cut()
			if err := await(t, "the commit", done); err != nil {
				t.Fatalf("the earlier copy was not recognised: %v", err)
			}
			r, err := w.c.kv.Get(t.Context(), ActiveKey(w.site))
			if err != nil || int(r.Kvs[0].Version) != 1+want {
				t.Errorf("active was written %d times: %v", r.Kvs[0].Version-1, err)
			}
		})
	}
}

func TestCommit_delayedPastAnAbort(t *testing.T) {
	w := newWorld(t, dial(t))
	far, p := through(t)
	v := w.view()
	p.set(func() { p.holding = true })
	done := commits(within(t, 20*time.Second), far, Flip(w.fence, v, w.next(v)))
	p.holds()
	abort := Request(w.view(), Desired{Request: "01ABORT", Mode: Abort, By: "op", At: day})
	w.commit(abort)
	w.commit(End(w.fence, w.view(), Result{State: StateAborted, At: day}))
	p.set(func() { p.holding = false })
	err := await(t, "the commit", done)
	if RefusedBy(err) != ClassRolloutChanged {
		t.Errorf("error %v", err)
	}
	if a := w.view().Active.Value; a.Epoch != 7 {
		t.Errorf("flipped to epoch %d after the abort", a.Epoch)
	}
}

func TestCommit_unknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	far, p := through(t)
	v := w.view()
	txn := Flip(w.fence, v, w.next(v))
	p.set(func() { p.deaf = true })
	_, err := far.Commit(within(t, 1500*time.Millisecond), txn)
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrConflict) {
		t.Errorf("error %v", err)
	}
	w.flipped()
	// Whoever sends the same transaction again learns that it committed.
	if _, err := w.c.Commit(t.Context(), txn); err != nil {
		t.Error(err)
	}
}

func TestCommit_unavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dial(t))
	far, p := through(t)
	v := w.view()
	p.set(func() { p.closed = true })
	p.cut()
	// The client has to notice first that its connection is gone.
	clustertest.Until(t, 5*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := far.Sites(ctx); err == nil {
			return errors.New("still connected")
		}
		return nil
	})
	_, err := far.Commit(within(t, 20*time.Second), Flip(w.fence, v, w.next(v)))
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), p.endpoint()) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = far.Commit(ctx, Flip(w.fence, v, w.next(v))); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Errorf("of a cancelled context: error %v", err)
	}
	p.set(func() { p.closed = false })
	if _, err := far.Commit(within(t, 20*time.Second), Flip(w.fence, v, w.next(v))); err != nil {
		t.Errorf("after the connection came back: %v", err)
	}
}

// TestCommit_connectionCutAllTheTime: whatever happens to the connection, a
// flip is committed once and known to be.
func TestCommit_connectionCutAllTheTime(t *testing.T) {
	t.Parallel()
	c := dial(t)
	far, p := through(t)
	for range 8 {
		w := newWorld(t, c)
		v := w.view()
		done := commits(within(t, 20*time.Second), far, Flip(w.fence, v, w.next(v)))
		for range 5 {
			p.cut()
			time.Sleep(2 * time.Millisecond)
		}
		if err := await(t, "the commit", done); err != nil {
			t.Fatal(err)
		}
		if a := w.view().Active.Value; a.Epoch != 8 || w.get(HistoryKey(w.site, 9)).Create != 0 {
			t.Errorf("epoch %d", a.Epoch)
		}
	}
}

func TestAsk_acceptedAndReplaced(t *testing.T) {
	w := newWorld(t, dial(t))
	far, p := through(t)
	v := w.view()
	p.set(func() { p.deaf = true })
	done := make(chan error, 1)
	go func() {
		_, err := far.Ask(within(t, 20*time.Second), v, Desired{Request: "01MINE", Mode: FlipTo, Release: w.r1, At: day})
		done <- err
	}()
	clustertest.Until(t, 10*time.Second, func() error {
		if w.view().Desired.Value.Request != "01MINE" {
			return errors.New("not asked yet")
		}
		return nil
	})
	if _, err := w.c.Ask(t.Context(), w.view(), Desired{Request: "01OTHER", Mode: FlipTo, Release: w.r1, At: day}); err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.deaf = false })
	p.cut()
	if err := await(t, "the request", done); err != nil {
		t.Errorf("a request that was taken and then replaced: %v", err)
	}
	if _, err := w.c.Ask(t.Context(), v, Desired{Request: "01LATE", Mode: FlipTo, Release: w.r1, At: day}); RefusedBy(err) != ClassConflict {
		t.Errorf("a request on old ground: %v", err)
	}
}

func TestDial_nobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "http://" + l.Addr().String()
	silent := l // accepts and says nothing
	defer silent.Close()
	for _, endpoint := range []string{addr, "http://127.0.0.1:1"} {
		began := time.Now()
		_, err := Dial(t.Context(), Config{Endpoints: []string{endpoint}, Timeout: 500 * time.Millisecond})
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("answered after %v", d)
		}
	}
	if _, err := Dial(t.Context(), Config{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no endpoints: %v", err)
	}
}

func TestDial_password(t *testing.T) {
	t.Parallel()
	m := clustertest.Own(t)
	c, ctx := dialAt(t, m.ClientURL(), nil), t.Context()
	for _, err := range []error{
		second(c.kv.UserAdd(ctx, "root", "secret")),
		second(c.kv.UserGrantRole(ctx, "root", "root")),
		second(c.kv.UserAdd(ctx, "reader", "read")),
		second(c.kv.RoleAdd(ctx, "reader")),
		second(c.kv.RoleGrantPermission(ctx, "reader", Prefix, clientv3.GetPrefixRangeEnd(Prefix), clientv3.PermissionType(clientv3.PermRead))),
		second(c.kv.UserGrantRole(ctx, "reader", "reader")),
		second(c.kv.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, cfg := range map[string]Config{
		"no user":        {},
		"wrong password": {Username: "root", Password: "guess"},
		"no such user":   {Username: "nobody", Password: "secret"},
	} {
		cfg.Endpoints = []string{m.ClientURL()}
		if _, err := Dial(ctx, cfg); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	dialAt(t, m.ClientURL(), func(c *Config) { c.Username, c.Password = "root", "secret" })
	reader := dialAt(t, m.ClientURL(), func(c *Config) { c.Username, c.Password = "reader", "read" })
	if _, err := reader.Sites(ctx); err != nil {
		t.Error(err)
	}
	_, err := reader.Commit(within(t, 10*time.Second), TrimHistory(Fence{}, "www", []string{HistoryKey("www", 1)}))
	if err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("an empty key: error %v", err)
	}
	if err := reader.CreateSite(within(t, 10*time.Second), "www", DefaultPolicy()); !errors.Is(err, ErrDenied) {
		t.Errorf("a write without the right to: error %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCommit_databaseFull(t *testing.T) {
	t.Parallel()
	c := dialAt(t, clustertest.Own(t).ClientURL(), nil)
	if err := c.CreateSite(t.Context(), "www", DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	fill(t, c)
	err := c.CreateSite(within(t, 10*time.Second), "docs", DefaultPolicy())
	if !errors.Is(err, ErrNoSpace) || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "alarm disarm") {
		t.Errorf("error %v", err)
	}
}

// fill makes etcd's database full.
func fill(t *testing.T, c *Client) {
	t.Helper()
	s, err := c.kv.Status(t.Context(), c.cfg.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = etcdserverpb.NewMaintenanceClient(c.kv.ActiveConnection()).Alarm(t.Context(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: s.Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCommit_databaseFullAfterAnAnswerLost: that etcd takes nothing any more
// says nothing about an earlier copy.
func TestCommit_databaseFullAfterAnAnswerLost(t *testing.T) {
	t.Parallel()
	url := clustertest.Own(t).ClientURL()
	c := dialAt(t, url, nil)
	p := newProxy(t, url)
	far := dialAt(t, p.endpoint(), func(c *Config) { c.Timeout = 700 * time.Millisecond })
	p.set(func() { p.deaf = true })
	txn := CreateSite("www", DefaultPolicy(), Entry[Catalog]{})
	done := commits(within(t, 20*time.Second), far, txn)
	clustertest.Until(t, 10*time.Second, func() error {
		_, err := c.Observe(t.Context(), "www")
		return err
	})
	fill(t, c)
	p.set(func() { p.deaf = false })
	p.cut()
	if err := await(t, "the commit", done); !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v", err)
	}
}
