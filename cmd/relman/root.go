package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"relman/cluster"
	"relman/release"
)

// app is one run of the program: where it writes, and its configuration.
type app struct {
	out, err io.Writer
	settings *settings
	cfg      config // read before the verb begins
	began    bool   // the command line was understood and the verb has begun
	root     *cobra.Command
}

func newApp(stdout, stderr io.Writer) *app {
	a := &app{out: stdout, err: stderr, settings: newSettings(), cfg: defaultConfig()}
	a.root = a.newRootCommand()
	a.root.SetOut(stdout)
	a.root.SetErr(stderr)
	return a
}

// execute runs one command line and says how it ended: data on stdout, in the
// chosen format also for a failure, and in words on stderr.
func (a *app) execute(ctx context.Context, args []string) exitCode {
	a.root.SetArgs(args)
	err := a.root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.began {
		err = usageError(err) // cobra's own errors are about the command line
		a.cfg.Output, _ = a.root.PersistentFlags().GetString("output")
	}
	f := failureOf(err)
	a.printFailure(f)
	return f.code
}

// usageError marks an error as a mistake of the one who gave the command.
func usageError(err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	return &failure{code: exitUsage, class: classUsage, err: err}
}

func (a *app) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "relman",
		Short: "Keep a web site on a cluster of nodes identical and never half-updated",
		Long: `relman keeps a web site on a cluster of nodes identical and never half-updated.

Every node fills a back buffer with a release and claims that it holds it,
verified; one etcd transaction on one key then flips the site everywhere.

The exit code alone says whether the live release changed: 0 as asked; 1 error,
2 usage, 3 etcd or store unreachable, 4 conflict, 5 frozen, 6 nodes not ready,
10 verification failed: it did not; 7 flipped but not converged in time: it did;
8 it did, and went back; 9 not known; 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
	}
	a.addGlobalFlags(root)
	agent, manager := newAgentCommand(a), newManagerCommand(a)
	dev := newDevCommand(a, a.publishFromDev)
	a.settings.adopt("agent", agent.Flags())
	a.settings.adopt("manager", manager.Flags())
	a.settings.adopt("dev", dev.Flags())
	root.AddGroup(
		&cobra.Group{ID: "release", Title: "Releases:"},
		&cobra.Group{ID: "look", Title: "Looking:"},
		&cobra.Group{ID: "run", Title: "Running a cluster:"},
	)
	group(root, "release", newPublishCommand(a), newFlipCommand(a), newRollbackCommand(a), newPromoteCommand(a), newAbortCommand(a), newConfirmCommand(a),
		newFreezeCommand(a), newUnfreezeCommand(a), newWaitCommand(a))
	group(root, "look", newStatusCommand(a), newReleasesCommand(a), newHistoryCommand(a), newNodesCommand(a), newVerifyCommand(a), newDoctorCommand(a), newPreviewCommand(a))
	group(root, "run", dev, manager, agent, newStoreCommand(a.logger), newAdminCommand(a), newSweepCommand(a), newHealthcheckCommand(), newConfigCommand(a))
	root.AddCommand(newVersionCommand(a))
	return root
}

func group(root *cobra.Command, id string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = id
		root.AddCommand(c)
	}
}

func (a *app) addGlobalFlags(root *cobra.Command) {
	f, d := root.PersistentFlags(), defaultConfig()
	f.StringP("site", "s", "", "the site (default: the only one)")
	f.StringSlice("endpoints", nil, "etcd's endpoints (default: those of a relman dev that runs here, else "+devEtcdURL+")")
	f.String("cacert", "", "PEM file with the CA of etcd's certificates")
	f.String("cert", "", "PEM file with the client certificate for etcd")
	f.String("key", "", "PEM file with its key")
	f.String("user", "", "etcd user; the password comes from RELMAN_PASSWORD or --password-file")
	f.String("password-file", "", "file, mode 0600, with the etcd password")
	f.String("store", "", "where the objects are: s3://bucket/prefix?endpoint=https://… (default: where the cluster says)")
	f.StringP("output", "o", d.Output, "table, wide, json, yaml or name")
	f.BoolP("quiet", "q", false, "no progress, no more than the last line, and only warnings logged")
	f.BoolP("verbose", "v", false, "log what is of use to a developer")
	f.Bool("no-color", false, "no colours (also NO_COLOR)")
	f.BoolP("yes", "y", false, "answer every question with yes")
	f.Duration("timeout", 0, "how long to wait: for the nodes to be ready, and then to show the release (default: what the site's policy says)")
	f.Bool("wait", d.Wait, "wait for the end of what was asked for")
	f.Bool("no-wait", false, "ask, and end at once")
	root.MarkFlagsMutuallyExclusive("wait", "no-wait")
	a.settings.bind(f)
}

// begin reads the configuration when the command line was understood.
func (a *app) begin(cmd *cobra.Command) (err error) {
	if a.cfg, err = a.settings.load(); err != nil {
		return err
	}
	// cobra would say these later, when the verb has begun.
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return usageError(err)
	}
	if why := cmd.Flags().Lookup("message"); why != nil && len(why.Value.String()) > maxReasonBytes {
		return usagef("-m: %d bytes are too many, give %d at most", len(why.Value.String()), maxReasonBytes)
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return usagef("%s", excluded(err.Error()))
	}
	top := cmd
	for top.HasParent() && top.Parent().HasParent() {
		top = top.Parent()
	}
	if err := a.settings.apply(top.Name()); err != nil {
		return err
	}
	if no, err := cmd.Flags().GetBool("no-wait"); err == nil && no {
		a.cfg.Wait = false
	}
	a.began = true
	return nil
}

// excluded says of flags which exclude each other what cobra says, in other words:
// "if any flags in the group […] are set none of the others can be; [a b] were all set".
func excluded(text string) string {
	from, to := strings.LastIndexByte(text, '['), strings.LastIndexByte(text, ']')
	if from < 0 || to < from || !strings.Contains(text, "none of the others can be") {
		return text
	}
	return "--" + strings.Join(strings.Fields(text[from+1:to]), " and --") + " exclude each other: give one of them"
}

// unknownCommand names those that are called almost like it.
func unknownCommand(cmd *cobra.Command, name string) error {
	f := usagef("there is no command %q", name)
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return f.withHint("did you mean `relman %s`?", strings.Join(like, "` or `relman "))
	}
	return f.withHint("`relman help` lists the commands")
}

// logger logs to stderr: with -v also what is of use to a developer only, with
// -q only what is wrong.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	switch {
	case a.cfg.Verbose:
		level = slog.LevelDebug
	case a.cfg.Quiet:
		level = slog.LevelWarn
	}
	return newLogger(a.err, level, !a.cfg.NoColor)
}

// storeURL is what was configured, "" for the cluster's own.
func (a *app) storeURL() string { return a.cfg.Store }

// publishFromDev is what `relman dev DIR` does with DIR.
func (a *app) publishFromDev(ctx context.Context, c *cluster.Client, site release.Site, dir string) error {
	s := newSession(c, site, a.cfg.Store, nil)
	_, err := publish(ctx, s, publishOptions{askOptions: askOptions{wait: true, ifEpoch: anyEpoch}, dir: dir}, a.newUI())
	return err
}
