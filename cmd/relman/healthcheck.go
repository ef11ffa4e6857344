package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newHealthcheckCommand is `relman healthcheck`, for containers that hold
// nothing but this program.
func newHealthcheckCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck URL",
		Short: "Ask a health address, and succeed when it answers well",
		Long: `Ask a health address, and succeed when it answers well.

  relman healthcheck http://127.0.0.1:9180/readyz     an agent that may take traffic
  relman healthcheck http://127.0.0.1:7070/readyz     a manager that reaches etcd
  relman healthcheck http://127.0.0.1:9000/healthz    a store`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return healthcheck(ctx, args[0])
		},
	}
	cmd.Flags().DurationVar(&timeout, "within", 3*time.Second, "how long the answer may take")
	return cmd
}

// healthcheck is nil when url answers with a status of 2xx.
func healthcheck(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	why, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only says more
	return fmt.Errorf("health check: %s: %s: %s", url, resp.Status, strings.TrimSpace(string(why)))
}
