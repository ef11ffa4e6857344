package main

import (
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"relman/release/hook"
)

// hookFlags say how a daemon runs the operator's programs.
type hookFlags struct {
	limit    time.Duration
	retries  int
	insecure bool
}

func (o *hookFlags) add(f *pflag.FlagSet) {
	f.DurationVar(&o.limit, "hook-timeout", hook.DefaultLimit, "how long a hook may run; then it is killed with all that it started")
	f.IntVar(&o.retries, "hook-retries", hook.DefaultRetries, "how often a post-… hook that failed is run again")
	f.BoolVar(&o.insecure, "hooks-insecure", false, "run hooks also when others than root and the own user can change them")
}

// hook makes a hook of a program; none is nil.
func (o hookFlags) hook(kind hook.Kind, path string) (*hook.Hook, error) {
	if path == "" {
		return nil, nil
	}
	h, err := hook.New(hook.Hook{Kind: kind, Path: path, Limit: o.limit, Retries: o.retries, Insecure: o.insecure})
	if err != nil {
		return nil, usageError(err)
	}
	return h, nil
}

// checkHooks warns of programs that cannot be run as they are. The daemon runs
// all the same: a node serves what it holds, and the program is looked at again
// before each run.
func checkHooks(log *slog.Logger, hooks ...*hook.Hook) {
	for _, h := range hooks {
		if h == nil {
			continue
		}
		if _, err := h.Check(); err != nil {
			log.Warn("hook cannot be run", "hook", string(h.Kind), "error", err)
		}
	}
}
