package cluster

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// verdict is what an error of etcd's client means.
type verdict int

const (
	// lost: no answer, or one that does not say whether the request was
	// carried out.
	lost verdict = iota
	// refused: etcd did not carry the request out, and will not the next time.
	refused
	// busy: etcd did not carry the request out, but may the next time.
	busy
	denied
	full
	leaseGone
)

// judge sorts an error of etcd's client.
func judge(err error) verdict {
	switch e := rpctypes.Error(err); {
	case errors.Is(e, rpctypes.ErrNoSpace):
		return full
	case errors.Is(e, rpctypes.ErrLeaseNotFound):
		return leaseGone
	case errors.Is(e, rpctypes.ErrTooManyRequests):
		return busy
	case errors.Is(e, rpctypes.ErrUserEmpty), errors.Is(e, rpctypes.ErrAuthFailed), errors.Is(e, rpctypes.ErrAuthNotEnabled), errors.Is(e, rpctypes.ErrInvalidAuthToken), errors.Is(e, rpctypes.ErrAuthOldRevision):
		return denied
	}
	switch code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return denied
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.OutOfRange, codes.Unimplemented, codes.ResourceExhausted:
		return refused
	default:
		return lost
	}
}

// code is the gRPC code of an error, which etcd's client hides in its own type.
func code(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](rpctypes.Error(err)); ok {
		return e.Code()
	}
	return status.Code(err)
}

// text is what an error says, without gRPC's wrapping.
func text(err error) string {
	if s, ok := status.FromError(err); ok && s.Message() != "" {
		return s.Message()
	}
	return err.Error()
}

// translate turns an error of etcd's client into one of this package. ctx is
// the caller's, which is not the context of the single call.
func (c *Client) translate(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", what, context.Canceled)
	}
	switch judge(err) {
	case full:
		return fmt.Errorf("%s: %w", what, ErrNoSpace)
	case denied:
		return fmt.Errorf("%s: %w at %s: %s; check the user, its role and its certificate", what, ErrDenied, c.endpoints(), text(err))
	case leaseGone:
		return fmt.Errorf("%s: %w", what, errLeaseGone)
	case refused:
		return fmt.Errorf("%s: etcd at %s does not take the request: %s", what, c.endpoints(), text(err))
	case busy:
		return fmt.Errorf("%s: %w: %s is overloaded: %s", what, ErrUnavailable, c.endpoints(), text(err))
	}
	if err := ctx.Err(); err != nil {
		// The caller's deadline passed: that is true beside the rest.
		return fmt.Errorf("%s: %w: no answer from %s in time (%w); is it running, and is the address right?", what, ErrUnavailable, c.endpoints(), err)
	}
	return fmt.Errorf("%s: %w: no answer from %s: %s; is it running, and is the address right?", what, ErrUnavailable, c.endpoints(), text(err))
}

// errLeaseGone ends a session: its lease has run out or was revoked.
var errLeaseGone = errors.New("the lease is gone")
