//go:build noembed

package embedded

import "context"

// Serve is ErrNotBuilt in this build.
func Serve(context.Context, Config, func(addr string)) error { return ErrNotBuilt }

// ServeChild is ErrNotBuilt in this build.
func ServeChild(context.Context, Config) error { return ErrNotBuilt }

// Start is ErrNotBuilt in this build.
func Start(context.Context, string, Config) (*Server, error) { return nil, ErrNotBuilt }

// Server is never handed out in this build.
type Server struct{}

// Addr is empty.
func (*Server) Addr() string { return "" }

// URL is empty.
func (*Server) URL() string { return "" }

// Done is closed.
func (*Server) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// Wait is ErrNotBuilt.
func (*Server) Wait() error { return ErrNotBuilt }

// Stop has nothing to stop.
func (*Server) Stop(context.Context) error { return nil }
