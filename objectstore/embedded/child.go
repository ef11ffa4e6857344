//go:build !noembed

package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Between parent and child: the child is `exe store DIR --addr A --bucket B
// --child`, with the credentials in its environment. It writes its address as
// one line to stdout when it answers, its log as JSON lines to stderr, and ends
// when its stdin does.
const (
	childFlag    = "--child"
	accessKeyEnv = "AWS_ACCESS_KEY_ID"
	secretKeyEnv = "AWS_SECRET_ACCESS_KEY"
)

// ServeChild is Serve on the child's side of Start: the command line that
// Start uses calls it. Credentials and log of c are replaced by those of the
// protocol between the two.
func ServeChild(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// Ends with the process at the latest: the parent holds the other end.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := os.Stdout
	c.AccessKey, c.SecretKey = os.Getenv(accessKeyEnv), os.Getenv(secretKeyEnv)
	c.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return Serve(ctx, c, func(addr string) {
		if _, err := fmt.Fprintln(out, addr); err != nil {
			cancel() // nobody is there to hear it
		}
	})
}
