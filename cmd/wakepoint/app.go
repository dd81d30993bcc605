package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
	"github.com/wakepoint/wakepoint/internal/service"
)

// app is what all commands share: the streams, the environment and the
// global flags.
type app struct {
	in, out, err *os.File
	env          []string

	storeDir string
	keyFile  string
	strict   bool
	format   string // of -o: "text" or "json"
}

func newApp(in, out, err *os.File, env []string) *app {
	return &app{in: in, out: out, err: err, env: env}
}

// getenv returns the last value of a variable.
func (a *app) getenv(name string) string {
	for _, e := range slices.Backward(a.env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// Where root's store and key are: what units look at.
const (
	systemStore = "/var/lib/wakepoint"
	systemKey   = "/etc/wakepoint/key"
)

// defaultPaths returns where the store and the key are when nobody says.
func (a *app) defaultPaths(uid int) (store, key string) {
	if uid == 0 {
		store, key = systemStore, systemKey
	} else {
		home := a.getenv("HOME")
		state, config := a.getenv("XDG_STATE_HOME"), a.getenv("XDG_CONFIG_HOME")
		if state == "" {
			state = filepath.Join(home, ".local", "state")
		}
		if config == "" {
			config = filepath.Join(home, ".config")
		}
		store, key = filepath.Join(state, "wakepoint"), filepath.Join(config, "wakepoint", "key")
	}
	if v := a.getenv("WAKEPOINT_STORE"); v != "" {
		store = v
	}
	return store, key
}

// credentialName is what the key is called where systemd hands it to a service
// (LoadCredential= in systemd.exec(5)).
const credentialName = "wakepoint.key"

// keyPath returns where the key is when no --key is given; usual is where it
// is when nobody says anything.
func (a *app) keyPath(usual string) string {
	if v := a.getenv("WAKEPOINT_KEY"); v != "" {
		return v
	}
	if dir := a.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		file := filepath.Join(dir, credentialName)
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			return file
		}
	}
	if _, err := os.Lstat(usual); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(recoveryKey); err == nil {
			return recoveryKey
		}
	}
	return usual
}

// recoveryKey is where the key lies that systemd has handed to recovery, as
// long as that is active: for all who may read it.
const recoveryKey = "/run/credentials/" + service.Recovery + "/" + credentialName

// lent says whether a key lies among the credentials of a service: nothing is
// written beside it, and it is gone when the service is.
func (a *app) lent(key string) bool {
	dir := filepath.Dir(key)
	return dir == filepath.Clean(a.getenv("CREDENTIALS_DIRECTORY")) || strings.HasPrefix(dir, "/run/credentials/")
}

// strictFlag adds --strict to a command that brings something back.
func (a *app) strictFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.strict, "strict", false, "refuse a workload that is older than it was: its store was put back from a copy")
	return cmd
}

// site says where the workloads are.
func (a *app) site() (keeper.Site, error) {
	store, err := filepath.Abs(a.storeDir)
	if err != nil {
		return keeper.Site{}, err
	}
	key, err := filepath.Abs(a.keyFile)
	if err != nil {
		return keeper.Site{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return keeper.Site{}, fmt.Errorf("find our own program: %w", err)
	}
	s := keeper.Site{StoreDir: store, KeyFile: key, Program: program, Strict: a.strict}
	if os.Getuid() == 0 && store == systemStore && (key == systemKey || a.lent(key)) &&
		service.Booted() && service.Installed(service.Template) != "" {
		s.Units = &service.Units{}
	}
	if a.lent(key) {
		_, usual := a.defaultPaths(os.Getuid())
		if s.Beside = a.getenv("CONFIGURATION_DIRECTORY"); s.Beside == "" { // the service's own: /etc/wakepoint, too
			s.Beside = filepath.Dir(usual)
		}
	}
	return s, nil
}

// progress shows words while something takes time, only to a person.
func (a *app) progress() keeper.Progress {
	if !isTerminal(a.err) {
		return nil
	}
	return func(words string) { a.say("%s", words) }
}

// say prints words; data goes to a.out.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.err, "wakepoint: "+format+"\n", args...)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "wakepoint",
		Short: "Checkpoint running programs and bring them back after a crash or a power cut",
		Long: `Pull the plug, boot, and every protected program goes on from its last good state.

Wakepoint checkpoints running Linux programs at short intervals, keeps several
generations, and after a crash, a power cut or a planned stop brings them back.
The programs need no change.

    wakepoint run --name web -d -- ./server     protect a new program
    wakepoint ps                                what is protected
    wakepoint recover                           after a boot: bring everything back`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%s", err) })
	store, key := a.defaultPaths(os.Getuid())
	flags := root.PersistentFlags()
	flags.StringVar(&a.storeDir, "store", store, "`DIR` that holds the workloads (env WAKEPOINT_STORE; default /var/lib/wakepoint for root, else $XDG_STATE_HOME/wakepoint)")
	flags.StringVar(&a.keyFile, "key", a.keyPath(key), "key `FILE` (env WAKEPOINT_KEY; default the credential wakepoint.key of a systemd service, else /etc/wakepoint/key for root, $XDG_CONFIG_HOME/wakepoint/key)")
	for _, name := range []string{"store", "key"} {
		flags.Lookup(name).DefValue = "" // the same help and man pages for everybody
	}
	root.AddCommand(
		a.runCommand(), a.adoptCommand(), a.psCommand(), a.statusCommand(), a.logCommand(), a.setCommand(),
		a.checkpointCommand(), a.stopCommand(), a.startCommand(), a.restoreCommand(), a.signalCommand(),
		a.attachCommand(), a.logsCommand(), a.recoverCommand(), a.rehearseCommand(), a.verifyCommand(),
		a.gcCommand(), a.pinCommand(), a.forgetCommand(), a.rmCommand(), a.exportCommand(), a.importCommand(),
		a.dumpCommand(), a.checkCommand(), a.doctorCommand(), a.demoCommand(), a.completionCommand(), a.versionCommand(), a.storeCommand(), a.durableCommand(),
		a.manCommand(), a.keeperCommand(), a.guardCommand(), a.rehearsalCommand(), a.unitCommand(), a.haltCommand(), a.demoProgramCommand(),
	)
	root.SetHelpCommand(a.helpCommand())
	return root
}

// command finishes a command: its context ends with SIGINT or SIGTERM, its
// errors begin with the command's name, its help ends with its exit codes.
func (a *app) command(c *cobra.Command, codes []int, run func(ctx context.Context, args []string) error) *cobra.Command {
	c.Long = strings.TrimSpace(c.Long)
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	c.Long += "\n\n" + exitCodeHelp(codes)
	c.DisableFlagsInUseLine = true
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err := run(ctx, args)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			a.say("%s: interrupted", cmd.Name())
			return exitCode(130)
		}
		return about(cmd.Name(), err)
	}
	return c
}

// formatFlag adds -o to a command that prints a table.
func (a *app) formatFlag(c *cobra.Command) *cobra.Command {
	c.Flags().VarP(&choice{&a.format, []string{"text", "json"}}, "output", "o", "print as `FORMAT` text or json")
	a.format = "text"
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// choice is a flag that takes one of a few words.
type choice struct {
	value *string
	words []string
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choice) Type() string { return "string" }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(c.words, ", "))
	}
	*c.value = s
	return nil
}

// takes checks the number of arguments; max < 0 means any number.
func takes(minimum, maximum int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < minimum:
			return usage(cmd, "an argument is missing: %s", cmd.UseLine())
		case maximum >= 0 && len(args) > maximum:
			return usage(cmd, "%q is one argument too many", args[maximum])
		}
		return nil
	}
}

// completeNames offers the names of workloads.
func (a *app) completeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.names(context.Background()), cobra.ShellCompDirectiveNoFileComp
}

// names returns the names of the workloads, as far as they can be known.
func (a *app) names(ctx context.Context) []string {
	list, _ := a.list(ctx)
	var names []string
	for _, w := range list {
		names = append(names, w.Name)
	}
	return names
}

// list lists the workloads. Looking makes no store.
func (a *app) list(ctx context.Context) ([]api.Status, error) {
	s, err := a.site()
	if err != nil || a.noStore(s) {
		return nil, err
	}
	return keeper.List(ctx, s)
}

// noStore says that there is no store yet, and so no workload.
func (a *app) noStore(s keeper.Site) bool {
	_, err := os.Lstat(s.StoreDir)
	return errors.Is(err, os.ErrNotExist)
}
