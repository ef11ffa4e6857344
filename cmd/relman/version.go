package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// version is set when relman is built: -ldflags "-X main.version=…".
var version = "unknown"

// versionReport is `relman version -o json`.
type versionReport struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r := versionReport{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(r, func(w *tables) {
				w.line("relman %s (%s, %s)", r.Version, r.Go, r.Platform)
			}, version)
		},
	}
}
