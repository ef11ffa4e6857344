package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"relman/nodeagent"
	"relman/release"
)

// An agent that works says so every second.
const (
	adminDialTimeout = 5 * time.Second
	adminSilence     = time.Minute
)

var errSilent = fmt.Errorf("it has said nothing for %v", adminSilence)

// askNodes has nodes verify a site, all at once, and waits for all of them.
func askNodes(ctx context.Context, nodes []nodeReport, site release.Site, p *progress) []verifiedNode {
	out := make([]verifiedNode, len(nodes))
	var mu sync.Mutex // guards read and all
	read, all := make([]int64, len(nodes)), make([]int64, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			out[i] = askNode(ctx, n, site, func(a nodeagent.VerifyAnswer) {
				mu.Lock()
				defer mu.Unlock()
				read[i], all[i] = a.Bytes, a.AllBytes
				var done, of int64
				for k := range read {
					done, of = done+read[k], of+all[k]
				}
				p.set(done, of, "on "+plural(len(nodes), "node"))
			})
		})
	}
	wg.Wait()
	return out
}

// askNode has one node verify a site.
func askNode(ctx context.Context, n nodeReport, site release.Site, each func(nodeagent.VerifyAnswer)) verifiedNode {
	out := verifiedNode{Node: n.Node}
	switch {
	case !n.Live:
		out.Error, out.hint = "it is not live", "start its agent, or remove the node from the site if it is lost"
		return out
	case n.Admin == "":
		out.Error, out.hint = "it does not say where its admin listener is", "its agent is of an older version: bring it to this one"
		return out
	}
	v, err := postVerify(ctx, n.Admin, site, each)
	if err != nil {
		out.Error = err.Error()
		if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, errSilent) {
			out.hint = fmt.Sprintf("%s has to be reachable from here: run this on a host that reaches it, or give the agent another --advertise-admin", n.Admin)
		}
		return out
	}
	out.Verified = v
	return out
}

// postVerify asks an agent, and reads its answer line by line.
func postVerify(ctx context.Context, admin string, site release.Site, each func(nodeagent.VerifyAnswer)) (*nodeagent.Verified, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(adminSilence, func() { cancel(errSilent) })
	defer silent.Stop()
	resp, err := postAdmin(ctx, admin, "/v1/verify", site)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var a nodeagent.VerifyAnswer
		if err := dec.Decode(&a); err != nil {
			return nil, fmt.Errorf("the answer of %s broke off: %w", admin, errorOr(context.Cause(ctx), err))
		}
		silent.Reset(adminSilence)
		each(a)
		switch {
		case a.Error != "":
			return nil, fmt.Errorf("%s: %s", admin, a.Error)
		case a.Done && len(a.Sites) == 1:
			return &a.Sites[0], nil
		case a.Done:
			return nil, fmt.Errorf("%s answered about %d sites", admin, len(a.Sites))
		}
	}
}

// postAdmin asks an agent for something about a site, and returns its answer if
// that is a yes.
func postAdmin(ctx context.Context, admin, path string, site release.Site) (*http.Response, error) {
	address := strings.TrimSuffix(admin, "/") + path + "?site=" + url.QueryEscape(string(site))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: adminDialTimeout}).DialContext,
		DisableKeepAlives: true, // one question for each
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", admin, errorOr(context.Cause(ctx), err))
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // only says more
		return nil, fmt.Errorf("%s answers %s: %s", admin, resp.Status, strings.TrimSpace(string(why)))
	}
	return resp, nil
}

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
