package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"relman/cluster"
)

const (
	probeTimeout = 2 * time.Second // of one request
	probeTries   = 3               // wrong answers in a row that make a release bad
	mostProbed   = 1 << 20         // bytes of a body in which a text is looked for
	mostExcerpt  = 120             // bytes of a body that was wrong
)

// insist asks several times, each at its time, before it says that an answer is wrong:
// a file that is found damaged is repaired within moments, and a hiccup is no bad release. It is not
// known to be right or wrong while the node's server does not listen: it stops.
func (b *baker) insist(ctx context.Context, x baking, p cluster.Probe) (bad string, known bool) {
	for try := 1; ; try++ {
		bad, known = b.ask(ctx, x, p)
		switch {
		case !known || ctx.Err() != nil:
			return "", false
		case bad == "" || try == probeTries:
			return bad, true
		}
		sleep(ctx, b.every)
	}
}

// ask asks the node's own server once, by the way of its visitors, and says what is
// wrong with the answer, "" for nothing.
func (b *baker) ask(ctx context.Context, x baking, p cluster.Probe) (bad string, known bool) {
	if b.self == "" {
		return "", false
	}
	says := "GET " + strings.TrimSuffix(cluster.Probe{Path: p.Path, Host: p.Host}.String(), " ")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.self+p.Path, nil)
	if err != nil {
		return says + ": " + err.Error(), true
	}
	req.Host = p.Host
	if req.Host == "" {
		req.Host = string(b.site) + ".localhost"
	}
	resp, err := b.client.Do(req)
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return "", false
	}
	if err != nil {
		return fmt.Sprintf("%s: %v", says, errors.Unwrap(err)), true // without the URL
	}
	defer resp.Body.Close()
	b.mu.Lock()
	b.own = b.own.of(resp.StatusCode)
	b.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostProbed))
	if bad := wrong(x, p, resp, body, err); bad != "" {
		return says + ": " + bad, true
	}
	return "", true
}

// wrong says what is wrong with an answer, "" for nothing.
func wrong(x baking, p cluster.Probe, resp *http.Response, body []byte, err error) string {
	excerpt := ""
	if text := brief(string(body[:min(len(body), mostExcerpt)]), mostExcerpt); text != "" {
		excerpt = fmt.Sprintf(" (%q)", text)
	}
	from, epoch := resp.Header.Get("Relman-Release"), resp.Header.Get("Relman-Epoch")
	switch {
	case resp.StatusCode != p.Wants():
		return fmt.Sprintf("status %d, want %d%s", resp.StatusCode, p.Wants(), excerpt)
	case err != nil:
		return fmt.Sprintf("the body of status %d ends early: %v", resp.StatusCode, err)
	case !strings.Contains(string(body), p.Text):
		return fmt.Sprintf("status %d without the text %q%s", resp.StatusCode, p.Text, excerpt)
	case from != string(x.release) || epoch != strconv.FormatUint(uint64(x.epoch), 10):
		return fmt.Sprintf("status %d out of release %q in epoch %q, want %q in %d%s", resp.StatusCode, from, epoch, x.release, x.epoch, excerpt)
	}
	return ""
}
