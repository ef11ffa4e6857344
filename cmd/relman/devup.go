package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"relman/cluster"
	"relman/release"
)

// devReady is what the ready file holds.
type devReady struct {
	Etcd    string       `json:"etcd"`
	Store   string       `json:"store"`
	Front   string       `json:"front"`
	Nodes   []string     `json:"nodes"`
	Manager string       `json:"manager"`
	Site    release.Site `json:"site"`
	State   string       `json:"state"`
	PID     int          `json:"pid"`
}

// upWithin is how long all may take to be up.
const upWithin = time.Minute

// awaitUp waits until every node has entered every site and shows what is
// active there.
func (d *dev) awaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		missing, err := d.missing(ctx)
		if err == nil && missing == "" {
			tick.Stop()
			return nil
		}
		if err != nil {
			missing = err.Error()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("not up after %v: %s: %w", upWithin, missing, ctx.Err())
		}
	}
}

// missing says what is not up yet, "" for nothing.
func (d *dev) missing(ctx context.Context) (string, error) {
	sites, err := d.client.Sites(ctx)
	if err != nil {
		return "", err
	}
	for _, site := range sites {
		v, err := d.client.Observe(ctx, site)
		if err != nil {
			return "", err
		}
		for _, n := range d.nodes {
			if why := notUp(v, n); why != "" {
				return fmt.Sprintf("site %s: %s %s", site, n.id, why), nil
			}
		}
	}
	return "", nil
}

// notUp says what a node lacks for one site. What an earlier boot of it left
// behind does not count.
func notUp(v *cluster.View, n *node) string {
	if v.Live[n.id].Boot != n.boot.id {
		return "has no session"
	}
	ready, why := n.agent.Ready()
	entered := false
	for _, c := range v.Claims {
		entered = entered || c.Node == n.id
	}
	switch s := v.Status[n.id]; {
	case !entered:
		return "has not entered"
	case v.Active.Exists() && s.Epoch != v.Active.Value.Epoch:
		return fmt.Sprintf("is at epoch %d, active is %d", s.Epoch, v.Active.Value.Epoch)
	case !ready:
		return "is not ready: " + why
	}
	return ""
}

// announce tells the others: the ready file, and where etcd is when it is not
// where clients look.
func (d *dev) announce(context.Context) error {
	d.up.State, d.up.PID = d.state.dir, os.Getpid()
	if len(d.options.sites) > 0 {
		d.up.Site = d.options.sites[0]
	}
	if d.up.Etcd != devEtcdURL && !d.options.freePorts {
		remove, err := leaveDevPointer(devPointer{Etcd: d.up.Etcd, State: d.state.dir})
		switch {
		case err == nil:
			d.parts.onStop(remove)
		case errors.Is(err, syscall.EWOULDBLOCK):
			d.log.Warn("another relman dev is the one that commands find without flags", "endpoints", d.up.Etcd)
		default:
			d.log.Warn("commands in other terminals need --endpoints", "endpoints", d.up.Etcd, "error", err)
		}
	}
	if d.options.readyFile == "" {
		return nil
	}
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // the store's URL has an "&"
	if err := enc.Encode(d.up); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := renameio.WriteFile(d.options.readyFile, raw.Bytes(), 0o644); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	d.parts.onStop(func() error {
		if err := os.Remove(d.options.readyFile); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	return nil
}

// banner tells where everything is: people in words, programs in their log.
func (d *dev) banner() {
	if !isTerminal(d.out) {
		d.log.Info("all is up", "front", d.up.Front, "nodes", d.up.Nodes, "manager", d.up.Manager,
			"etcd", d.up.Etcd, "store", d.up.Store, "state", d.up.State, "temporary", d.state.temporary)
		return
	}
	kept := ""
	if d.state.temporary {
		kept = "  (removed at the end; --state DIR keeps it)"
	}
	endpoints := ""
	if found, ok := devEndpoint(); d.up.Etcd != devEtcdURL && (!ok || found != d.up.Etcd) {
		endpoints = " --endpoints " + d.up.Etcd
	}
	site := ""
	if len(d.options.sites) > 1 {
		site = " -s " + string(d.options.sites[0])
	}
	_, _ = fmt.Fprintf(d.out, `
  site      %s   (%d nodes in turn)
  nodes     %s
  manager   %s
  etcd      %s
  store     %s
  state     %s%s

  In another terminal:  relman publish DIR%s%s
  Ctrl-C ends it all.

`, d.up.Front, len(d.nodes), strings.Join(d.up.Nodes, " "), d.up.Manager, d.up.Etcd, d.up.Store, d.state.dir, kept, site, endpoints)
}
