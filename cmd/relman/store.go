package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"relman/objectstore/embedded"
)

// storeOptions are the flags of `relman store`.
type storeOptions struct {
	dir, addr, bucket string
	exact, child      bool
}

// newStoreCommand is `relman store`: an S3 server on a directory.
func newStoreCommand(log func() *slog.Logger) *cobra.Command {
	var o storeOptions
	cmd := &cobra.Command{
		Use:   "store DIR",
		Short: "Run a small S3 server that keeps its objects in a directory",
		Long: `Run an S3 server that keeps its objects in DIR, on this machine's disk.

It accepts one pair of credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
of its environment.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.dir = args[0]
			return runStore(cmd.Context(), o, log())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", "127.0.0.1:9000", "where to listen")
	f.StringVar(&o.bucket, "bucket", "relman", "the bucket, made if it is not there")
	// How relman starts itself as a store: see the package embedded.
	f.BoolVar(&o.exact, "exact", false, "a taken port is an error, also with --child")
	f.BoolVar(&o.child, "child", false, "report to a parent process and end with it")
	_, _ = f.MarkHidden("exact"), f.MarkHidden("child") // the flags are there
	return cmd
}

// runStore serves until ctx ends.
func runStore(ctx context.Context, o storeOptions, log *slog.Logger) error {
	c := embedded.Config{Dir: o.dir, Addr: o.addr, Bucket: o.bucket, Exact: o.exact}
	if o.child {
		return embedded.ServeChild(ctx, c)
	}
	c.Exact = true // whoever named an address will look for it there
	c.AccessKey, c.SecretKey, c.Log = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), log
	if c.AccessKey == "" || c.SecretKey == "" {
		return errors.New("store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the credentials that it shall accept")
	}
	return embedded.Serve(ctx, c, func(addr string) { log.Info("store answers", "addr", addr, "bucket", o.bucket, "dir", o.dir) })
}
