package cluster

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// sentKey is where a context carries the flag that withSent puts there.
type sentKey struct{}

// withSent returns a context whose calls raise the flag when any of a request
// may have left this process. Only so can a failed call be told from one that
// may have been carried out.
func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	var sent atomic.Bool
	return context.WithValue(ctx, sentKey{}, &sent), &sent
}

// sentHandler raises the flag of withSent.
type sentHandler struct{}

var _ stats.Handler = sentHandler{}

func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC is told of a request's header before anything of it is written.
func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s.(type) {
	case *stats.OutHeader, *stats.OutPayload:
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
	}
}

func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentHandler) HandleConn(context.Context, stats.ConnStats)                       {}
