//go:build !noembed

package embedded

import (
	"fmt"
	"net/url"

	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"
)

// etcdConfig is the server's configuration: its defaults but for what is said
// here.
func etcdConfig(c Config, client *url.URL, log *bridge) (*embed.Config, error) {
	e := embed.NewConfig()
	e.Dir = c.Dir
	e.Name = c.Name
	e.ListenClientUrls = []url.URL{*client}
	e.AdvertiseClientUrls = []url.URL{*client}
	listen, advertise, err := peerURLs(c)
	if err != nil {
		return nil, err
	}
	e.ListenPeerUrls = []url.URL{*listen}
	e.AdvertisePeerUrls = []url.URL{*advertise}
	e.InitialCluster = c.InitialCluster
	e.InitialClusterToken = "relman"

	// etcd keeps every revision for ever unless it is told otherwise.
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = "1h"

	// Members compare what they hold at the start and after compactions: one
	// that differs stops rather than answer.
	gate, ok := e.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return nil, fmt.Errorf("feature gates are a %T", e.ServerFeatureGate)
	}
	if err := gate.SetFromMap(map[string]bool{
		string(features.InitialCorruptCheck): true,
		string(features.CompactHashCheck):    true,
	}); err != nil {
		return nil, err
	}

	// One page of JSON over HTTP beside gRPC is of no use here.
	e.EnableGRPCGateway = false
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.logger())
	if c.Fast {
		e.UnsafeNoFsync = true
		e.BcryptCost = 4 // the least there is
		e.TickMs, e.ElectionMs = 50, 500
		if c.alone() {
			e.TickMs, e.ElectionMs = 10, 100
		}
	}
	return e, nil
}

// peerURLs says where to listen for other members and what they are told. A
// member that is alone listens where nobody looks, since etcd insists on it.
func peerURLs(c Config) (listen, advertise *url.URL, err error) {
	if c.PeerURL != "" {
		u, err := url.Parse(c.PeerURL)
		return u, u, err
	}
	listen = &url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	advertise, err = url.Parse(lonePeerURL)
	return listen, advertise, err
}
