package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/cluster/clustertest"
)

// Elections have one prefix: each of these tests has a member of its own.
func electors(t *testing.T) (a, b *Client) {
	t.Helper()
	m := clustertest.Own(t)
	return dialAt(t, m.ClientURL(), nil), dialAt(t, m.ClientURL(), nil)
}

func win(t *testing.T, c *Client, id string) *Leadership {
	t.Helper()
	l, err := c.Campaign(within(t, 20*time.Second), id, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func leads(t *testing.T, c *Client, want string) {
	t.Helper()
	if got, err := c.Leader(t.Context()); err != nil || got != want {
		t.Fatalf("%q leads, want %q, error %v", got, want, err)
	}
}

// fenced tries a write of a leader.
func fenced(t *testing.T, c *Client, l *Leadership) error {
	t.Helper()
	_, err := c.Commit(within(t, 10*time.Second), TrimHistory(l.Fence(), "www", []string{HistoryKey("www", 1)}))
	return err
}

func TestCampaign_twoManagers(t *testing.T) {
	t.Parallel()
	a, b := electors(t)
	leads(t, a, "")
	la := win(t, a, "a")
	leads(t, b, "a")
	if err := fenced(t, a, la); err != nil {
		t.Errorf("the leader is refused: %v", err)
	}
	won := make(chan *Leadership, 1)
	go func() { won <- win(t, b, "b") }()
	clustertest.Until(t, 5*time.Second, func() error {
		r, err := a.kv.Get(t.Context(), ElectionPrefix, clientv3.WithPrefix())
		if err != nil || len(r.Kvs) != 2 {
			return fmt.Errorf("%d campaign: %w", len(r.Kvs), err)
		}
		return nil
	})
	select {
	case <-won:
		t.Fatal("two lead")
	case <-la.Done():
		t.Fatal("leadership ended by itself")
	case <-time.After(50 * time.Millisecond):
	}
	began := time.Now()
	if err := la.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	lb := await(t, "b to win", won)
	if d := time.Since(began); d > time.Second {
		t.Errorf("took over after %v", d)
	}
	select {
	case <-la.Done():
	default:
		t.Error("resigned, but not done")
	}
	leads(t, a, "b")
	if err := fenced(t, a, la); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrConflict) {
		t.Errorf("the old leader's write: %v", err)
	}
	if err := fenced(t, b, lb); err != nil {
		t.Errorf("the new leader's write: %v", err)
	}
	if err := lb.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	if err := lb.Resign(t.Context()); err != nil {
		t.Error(err)
	}
	leads(t, a, "")
}

func revokeKeys(t *testing.T, c *Client, value string) {
	t.Helper()
	r, err := c.kv.Get(t.Context(), ElectionPrefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if string(kv.Value) != value {
			continue
		}
		if _, err := c.kv.Revoke(t.Context(), clientv3.LeaseID(kv.Lease)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCampaign_leaseOfTheLeaderRevoked(t *testing.T) {
	t.Parallel()
	a, b := electors(t)
	l := win(t, a, "a")
	revokeKeys(t, b, "a")
	await(t, "the loss", l.Done())
	if err := fenced(t, a, l); !errors.Is(err, ErrNotLeader) {
		t.Errorf("error %v", err)
	}
	if err := l.Resign(t.Context()); err != nil {
		t.Errorf("resign after the loss: %v", err)
	}
}

// TestCampaign_phantomLeader is etcd#19597: the lease of one that waits is
// revoked, then the leader resigns. The one that waited must not win without a
// key, nor wait for ever.
func TestCampaign_phantomLeader(t *testing.T) {
	t.Parallel()
	a, b := electors(t)
	la := win(t, a, "a")
	won := make(chan *Leadership, 1)
	go func() { won <- win(t, b, "b") }()
	for range 3 {
		clustertest.Until(t, 10*time.Second, func() error {
			r, err := a.kv.Get(t.Context(), ElectionPrefix, clientv3.WithPrefix())
			if err != nil || len(r.Kvs) != 2 {
				return fmt.Errorf("%d campaign: %w", len(r.Kvs), err)
			}
			return nil
		})
		revokeKeys(t, a, "b")
	}
	if err := la.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	lb := await(t, "b to win", won)
	if err := fenced(t, b, lb); err != nil {
		t.Errorf("won, and is refused: %v", err)
	}
	leads(t, a, "b")
	if err := lb.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCampaign_givenUp(t *testing.T) {
	t.Parallel()
	a, b := electors(t)
	l := win(t, a, "a")
	_, err := b.Campaign(within(t, 300*time.Millisecond), "b", 2*time.Second)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	clustertest.Until(t, 5*time.Second, func() error {
		r, err := a.kv.Get(t.Context(), ElectionPrefix, clientv3.WithPrefix())
		if err != nil || len(r.Kvs) != 1 {
			return fmt.Errorf("%d keys are left: %w", len(r.Kvs), err)
		}
		return nil
	})
	if err := l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCampaign_outlivesItsContext: the time to win is not the time to lead.
func TestCampaign_outlivesItsContext(t *testing.T) {
	t.Parallel()
	a, _ := electors(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := a.Campaign(ctx, "a", time.Second)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Done():
		t.Error("lost with the context of its campaign")
	case <-time.After(1500 * time.Millisecond): // longer than the lease
	}
	if err := l.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCampaign_givenUpWithoutEtcd: a manager that waits to lead ends when it is
// told to, also while etcd is away.
func TestCampaign_givenUpWithoutEtcd(t *testing.T) {
	t.Parallel()
	m := clustertest.Own(t)
	a := dialAt(t, m.ClientURL(), nil)
	win(t, a, "a")
	p := newProxy(t, m.ClientURL())
	b := dialAt(t, p.endpoint(), func(c *Config) { c.Timeout = time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := b.Campaign(ctx, "b", 2*time.Second)
		ended <- err
	}()
	clustertest.Until(t, 5*time.Second, func() error {
		r, err := a.kv.Get(t.Context(), ElectionPrefix, clientv3.WithPrefix())
		if err != nil || len(r.Kvs) != 2 {
			return fmt.Errorf("%d campaign: %w", len(r.Kvs), err)
		}
		return nil
	})
	p.set(func() { p.deaf = true })
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it still waits")
	}
}
