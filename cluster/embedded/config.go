package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
)

// DefaultName names a member that is given no name.
const DefaultName = "relman"

// Config says where a member keeps its data and where it listens. Name and
// URLs of peers are constants of the data directory: etcd writes them down at
// the first start, and a later start with others is refused.
type Config struct {
	Dir  string // made with mode 0700
	Name string // DefaultName when empty

	// ClientURL is where clients are answered, http://127.0.0.1:2379 when
	// empty. A port of 0 picks a free one.
	ClientURL string

	// PeerURL is where the other members reach this one. It may be empty for a
	// member that is alone.
	PeerURL string

	// InitialCluster lists all members, this one too: "a=http://10.0.0.1:2380,b=…".
	// Empty: the member is alone.
	InitialCluster string

	Log *slog.Logger

	// Fast is for tests: short elections, and no fsync.
	Fast bool
}

// defaultClientURL is where etcd's own tools look first.
const defaultClientURL = "http://127.0.0.1:2379"

// lonePeerURL is what a member that is alone calls itself. Nobody dials it; it
// is constant, so that the data directory can move between ports.
const lonePeerURL = "http://127.0.0.1:2380"

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("embedded etcd: no data directory")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("embedded etcd: %w", err)
	}
	c.Dir = dir
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.ClientURL == "" {
		c.ClientURL = defaultClientURL
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.InitialCluster == "" {
		peer := c.PeerURL
		if peer == "" {
			peer = lonePeerURL
		}
		c.InitialCluster = c.Name + "=" + peer
	} else if c.PeerURL == "" {
		return c, errors.New("embedded etcd: a member of a cluster needs a peer URL")
	}
	for _, u := range []string{c.ClientURL, c.PeerURL} {
		if u == "" {
			continue
		}
		if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "http" {
			return c, fmt.Errorf("embedded etcd: %q is no URL of the form http://127.0.0.1:2379", u)
		}
	}
	return c, nil
}

// alone reports whether the member is its whole cluster.
func (c Config) alone() bool { return !strings.Contains(c.InitialCluster, ",") }
