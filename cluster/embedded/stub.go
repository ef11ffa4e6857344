//go:build noembed

package embedded

import (
	"context"
	"errors"
)

// ErrLeftOut says that this binary was built without the etcd server.
var ErrLeftOut = errors.New("this relman was built without an embedded etcd (tag noembed): give it the endpoints of one")

// Member does not exist in this build.
type Member struct{}

// Start returns ErrLeftOut.
func Start(_ context.Context, c Config) (*Member, error) {
	if _, err := c.withDefaults(); err != nil {
		return nil, err
	}
	return nil, ErrLeftOut
}

// ClientURL is empty.
func (*Member) ClientURL() string { return "" }

// Done is nil.
func (*Member) Done() <-chan struct{} { return nil }

// Err returns ErrLeftOut.
func (*Member) Err() error { return ErrLeftOut }

// Close does nothing.
func (*Member) Close() error { return nil }
