package main

import (
	"context"
	"testing"

	"relman/cluster"
)

// TestOwnCredentials: what stands in etcd is used for this machine's store only.
func TestOwnCredentials(t *testing.T) {
	for store, own := range map[string]bool{
		"s3://relman?endpoint=http://127.0.0.1:9000&path-style=true": true,
		"s3://relman?endpoint=http://[::1]:9000":                     true,
		"s3://relman?endpoint=http://10.0.0.1:9000":                  false,
		"s3://relman?endpoint=https://127.0.0.1.example.com:443":     false,
		"s3://relman?endpoint=https://s3.example.com":                false,
		"s3://relman?region=eu-west-1":                               false,
		"%":                                                          false,
		"":                                                           false,
	} {
		got := ownCredentials(cluster.Info{Store: store, AccessKey: "a", SecretKey: "s"})
		if (got.AccessKey == "a") != own || (got.SecretKey == "s") != own || got.Store != store {
			t.Errorf("%s: %+v", store, got)
		}
	}
}

// TestUncut: what must not be cut off half-way goes on after Ctrl-C, but not
// for ever.
func TestUncut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	on, end := uncut(ctx)
	defer end()
	if on.Err() != nil {
		t.Error(on.Err())
	}
	if _, ok := on.Deadline(); !ok {
		t.Error("it never ends")
	}
}
