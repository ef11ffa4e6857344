package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// configReport is one key in `relman config show -o json`.
type configReport struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"` // flag, environment, file or default
	Name   string `json:"name,omitempty"`
}

func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configuration", Args: cobra.NoArgs, RunE: help}
	var origin bool
	show := &cobra.Command{
		Use:   "show",
		Short: "Show every key with its value, and with --origin where that comes from",
		Long: `Show every key of the configuration with its value.

A flag goes before the environment (RELMAN_ENDPOINTS, …; ETCDCTL_ENDPOINTS and
its like are understood, too), that before relman.yaml (` + strings.Join(configPaths(), ", then ") + `),
that before the default.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.showConfig(origin) },
	}
	show.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	cmd.AddCommand(show)
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func (a *app) showConfig(origin bool) error {
	var all []configReport
	for _, key := range a.settings.known {
		r := configReport{Key: key, Value: a.settings.v.Get(key)}
		r.Origin, r.Name = a.settings.origin(key)
		if key == "user" { // etcdctl's form has the password in it
			name, _, _ := strings.Cut(a.cfg.User, ":")
			r.Value = name
		}
		if key == "endpoints" {
			r.Value = a.endpoints()
			if found, ok := devEndpoint(); r.Origin == originDefault && ok {
				r.Name = "relman dev at " + found
			}
		}
		all = append(all, r)
	}
	return a.print(all, func(t *tables) {
		var rows [][]string
		for _, r := range all {
			row := []string{r.Key, configText(r.Value)}
			if origin {
				row = append(row, strings.TrimSpace(r.Origin+" "+r.Name))
			}
			rows = append(rows, row)
		}
		head := []string{"KEY", "VALUE", "ORIGIN"}
		t.table(head[:len(rows[0])], rows)
	})
}

func configText(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ",")
	case []any:
		return strings.Trim(fmt.Sprint(v), "[]")
	}
	return fmt.Sprint(v)
}
