package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"relman/cluster"
	"relman/release"
)

// probeEvery is how often a node looks at a release that bakes.
const probeEvery = time.Second

const mostBakeText = 300 // bytes of what a node says of it

// baker looks at what a node shows, while it bakes: it asks the node's own server,
// as a visitor would, and counts what visitors got. Nothing waits for it.
type baker struct {
	site   release.Site
	front  *Front
	self   string // URL of the node's own server; "": it cannot be asked
	every  time.Duration
	client *http.Client
	log    *slog.Logger
	say    func(context.Context, cluster.BakeReport)

	mu   sync.Mutex // held for moments: a swap waits for it
	now  baking     // what is shown
	mark counts     // when it was shown first
	own  counts     // answers to the baker itself since
	stop context.CancelFunc
	news chan baking // the newest only
}

// baking is an epoch that is looked at, or not.
type baking struct {
	epoch   release.Epoch
	release release.ID
	rules   *cluster.Bake // nil: it does not bake
	before  counts        // while the epoch before it was shown here
}

// counts are answers, and those among them that are bad: 404, and 5xx but for 503. By
// that a node says that it cannot answer, as when it is cut off, whatever it shows.
type counts struct{ all, missing, failed uint64 }

// minus is never below none: an answer may be here before it is counted.
func (c counts) minus(o counts) counts {
	return counts{c.all - min(c.all, o.all), c.missing - min(c.missing, o.missing), c.failed - min(c.failed, o.failed)}
}

// of counts an answer.
func (c counts) of(status int) counts {
	c.all++
	if status == http.StatusNotFound {
		c.missing++
	}
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		c.failed++
	}
	return c
}

// counts are the answers that were given since the start.
func (t *traffic) counts() (c counts) {
	for class := range t.requests {
		c.all += t.requests[class].Load()
	}
	failed := t.requests[http.StatusInternalServerError/100].Load()
	away := t.away.Load() // behind that: one that comes meanwhile is rather too much here
	c.missing, c.failed = t.missing.Load(), failed-min(failed, away)
	return c
}

func newBaker(s *site) *baker {
	return &baker{
		site: s.name, front: s.front, self: s.cfg.Self, every: cmp.Or(s.cfg.probe, probeEvery), log: s.log, say: s.tasted,
		news: make(chan baking, 1), stop: func() {},
		client: &http.Client{
			Timeout:       probeTimeout,
			Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// shows says what the node shows now: what bakes is looked at from then on, and what
// did before is not any more. It is called with every swap, in order, and does not wait.
func (b *baker) shows(a cluster.Active) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.Epoch == b.now.epoch {
		return
	}
	mark := b.front.traffic.counts()
	b.now = baking{epoch: a.Epoch, release: a.Release, rules: a.Bake, before: mark.minus(b.mark).minus(b.own)}
	b.mark, b.own = mark, counts{}
	b.stop()
	select {
	case <-b.news:
	default:
	}
	b.news <- b.now // has room: only this puts anything there
}

// epoch is that of what is shown.
func (b *baker) epoch() release.Epoch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now.epoch
}

// run looks until ctx ends.
func (b *baker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case x := <-b.news:
			if x.rules != nil {
				b.bake(ctx, x)
			}
		}
	}
}

// bake looks at one epoch until its time is over and something could be said of it,
// another one is shown, or it has turned out to be bad: that is never taken back.
func (b *baker) bake(ctx context.Context, x baking) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ends, said := time.Now().Add(x.rules.Time()), false
	b.mu.Lock()
	b.stop = stop
	over := b.now.epoch != x.epoch
	b.mu.Unlock()
	for !over && ctx.Err() == nil && (!said || time.Now().Before(ends)) {
		before := b.shown(x)
		bad, known := b.look(ctx, x)
		if known && before && b.shown(x) {
			b.say(ctx, cluster.BakeReport{Epoch: x.epoch, Good: bad == "", Bad: bad})
			said = true
			if bad != "" {
				b.log.Warn("the release is bad here", "release", string(x.release), "epoch", uint64(x.epoch), "why", bad)
				return
			}
		}
		sleep(ctx, b.every)
	}
}

// shown reports whether the node shows an epoch, and may: one that is cut off may
// answer that it is, which says nothing of the release.
func (b *baker) shown(x baking) bool {
	_, epoch := b.front.Shown()
	return epoch == x.epoch && (b.front.gate == nil || !b.front.gate.fenced())
}

// look is what is bad about an epoch, "" for nothing; not known where the node could
// not be asked.
func (b *baker) look(ctx context.Context, x baking) (bad string, known bool) {
	for _, p := range x.rules.Probes {
		if bad, known = b.insist(ctx, x, p); bad != "" || !known {
			return bad, known
		}
	}
	b.mu.Lock()
	since := b.front.traffic.counts().minus(b.mark).minus(b.own)
	b.mu.Unlock()
	return excess(*x.rules, x.before, since), true
}

// excess is what the answers since the flip say against a release, "" for nothing.
func excess(rules cluster.Bake, before, since counts) string {
	least := uint64(rules.LeastAnswers) //nolint:gosec // validated: from 1
	if before.all < least || since.all < least {
		return ""
	}
	for _, r := range []struct {
		what        string
		was, is     uint64
		mostPercent float64
	}{
		{"5xx", before.failed, since.failed, rules.Most5xx},
		{"404", before.missing, since.missing, rules.Most404},
	} {
		was, is := percent(r.was, before.all), percent(r.is, since.all)
		if r.mostPercent > 0 && is-was > r.mostPercent {
			return fmt.Sprintf("%s: %.2f%% of %d answers, of the release before %.2f%% of %d: more than %v points above",
				r.what, is, since.all, was, before.all, r.mostPercent)
		}
	}
	return ""
}

func percent(n, of uint64) float64 { return 100 * float64(n) / float64(of) }

// tasted takes what the baker says into the status, at once: the worker may be busy
// for long.
func (s *site) tasted(ctx context.Context, r cluster.BakeReport) {
	r.Bad = brief(r.Bad, mostBakeText)
	s.sayMu.Lock()
	defer s.sayMu.Unlock()
	s.taste = &r
	if s.said != nil {
		s.saying(ctx, *s.said)
	}
}

// saying reports a status, with what is to be said of a release that bakes. sayMu is
// held, so that the newest is reported last.
func (s *site) saying(ctx context.Context, st cluster.Status) {
	if s.taste != nil && s.taste.Epoch != s.baker.epoch() {
		s.taste = nil // also where epochs were allowed to go back
	}
	st.Bake = s.taste
	s.said = &st
	if err := s.reg.Report(ctx, s.name, st); err != nil && ctx.Err() == nil {
		s.log.Debug("status not reported", "error", err)
	}
}

// brief cuts a text to one short line.
func brief(s string, most int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
