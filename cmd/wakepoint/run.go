package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/api"
	"github.com/wakepoint/wakepoint/internal/keeper"
)

// runFlags are the flags of `run`.
type runFlags struct {
	policyFlags
	name     string
	detach   bool
	terminal bool
	stdin    string
	ipc      string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := a.command(&cobra.Command{
		Use:   "run [flags] -- CMD [ARG]...",
		Short: "Run a program under protection",
		Long: `Run a program under protection: it is checkpointed at short intervals and
brought back after a crash or, by "wakepoint recover", after a boot.

In front (without -d) its output is shown and SIGINT, SIGTERM, SIGQUIT, SIGUSR1
and SIGUSR2 are passed on; run ends with the program's exit code. A hang-up or
the death of the front end leaves the program running. With -d the name is
printed as soon as the first generation is committed or refused; a program that
has ended before that ends run with its exit code.

The program inherits the directory, environment, limits and network; its
standard input is /dev/null unless --stdin or -t is given. It has its own
process numbers: "wakepoint signal" reaches it.`,
		Example: `  wakepoint run --name web --every 1s -d -- python3 -m http.server 8080
  wakepoint run -t -- vim notes.txt`,
		Args: takes(1, -1),
	}, []int{6, 7, codeProgramsOwn, codeOwn, codeNotRunnable, codeNotFound, codeSignalledOwn},
		func(ctx context.Context, args []string) error {
			err := a.run(ctx, f, args)
			if err != nil && !f.detach {
				return a.ownFailure(args[0], err)
			}
			return err
		})
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.Var((*workloadName)(&f.name), "name", "`NAME` of the workload (default: the command's, with -2 when taken)")
	flags.BoolVarP(&f.detach, "detach", "d", false, "return when the first generation is committed")
	flags.BoolVarP(&f.terminal, "terminal", "t", false, "give the program a terminal, and attach to it")
	flags.StringVar(&f.stdin, "stdin", "", "`FILE` that the program reads as its standard input")
	flags.Var(&choice{&f.ipc, []string{"own", "host"}}, "ipc", "`WHOSE` System V IPC and message queues it uses: own, or the host's (host)")
	f.policyFlags.add(cmd)
	return cmd
}

// ownFailure gives a failure of `run` in front the code by which it can be
// told from the program's own.
func (a *app) ownFailure(command string, err error) error {
	var code exitCode
	if errors.As(err, &code) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		a.complain("run: interrupted; the program may run already", "`wakepoint ps` lists the workloads")
		return exitCode(codeSignal + int(syscall.SIGINT))
	}
	if e := asError(err); e.Code != codeNotFound && e.Code != codeNotRunnable {
		a.report(about("run", err))
		return exitCode(codeOwn)
	}
	return err
}

// run launches the workload and, in front, stays with it.
func (a *app) run(ctx context.Context, f runFlags, argv []string) error {
	if f.terminal && f.stdin != "" {
		return misuse("", "-t and --stdin exclude each other")
	}
	if err := a.findCommand(argv[0]); err != nil {
		return err
	}
	if err := needRights(); err != nil {
		return err
	}
	site, err := a.site()
	if err != nil {
		return err
	}
	spec, err := a.spec(f, argv)
	if err != nil {
		return err
	}
	policy, err := f.policy()
	if err != nil {
		return err
	}
	front := newFront(a, site)
	defer front.close()
	if !f.detach {
		patient, stop := front.patient()
		defer stop()
		ctx = patient
	}
	out, err := keeper.Launch(ctx, site, spec, policy, a.progress())
	if err = a.launched(out, err, f.detach); err != nil || f.detach {
		return err
	}
	if f.terminal {
		return front.terminal(out.Name)
	}
	return front.follow(out.Name)
}

// launched says what a person should know of a new workload. A program whose
// first generation failed runs on without protection: in front that is only
// said. One that has ended already ends `run -d` as it ends `run`.
func (a *app) launched(out keeper.Outcome, err error, detach bool) error {
	unprotected := err != nil && out.Name != "" && out.Status.State == api.Running
	if err != nil && !unprotected {
		return err
	}
	for _, n := range out.Status.Notes {
		a.say("%s: %s", out.Name, n)
	}
	if detach {
		fmt.Fprintln(a.out, out.Name)
	}
	if unprotected {
		e := asError(err)
		a.complain(out.Name+" runs without protection: "+e.Message, e.Hint)
		if detach {
			return exitCode(e.Code)
		}
	}
	if detach && over(out.Status.State) && out.Status.Generation == "" {
		return a.endedSoon(out.Status)
	}
	return nil
}

// endedSoon says how a program ended that was over before its first
// generation. Its exit code is that of `run -d`.
func (a *app) endedSoon(s api.Status) error {
	how := "an end that nobody saw"
	switch {
	case s.ExitSignal != "":
		how = s.ExitSignal
	case s.Ended:
		how = fmt.Sprintf("code %d", s.ExitCode)
	}
	a.say("%s ended with %s before its first generation", s.Name, how)
	if s.ExitCode != 0 {
		return exitCode(s.ExitCode)
	}
	return nil
}

// spec is what the workload runs: this process's surroundings and argv.
func (a *app) spec(f runFlags, argv []string) (api.Spec, error) {
	dir, err := os.Getwd()
	if err != nil {
		return api.Spec{}, err
	}
	spec := api.Spec{Name: f.name, Argv: argv, Env: a.env, Dir: dir, Terminal: f.terminal, HostIPC: f.ipc == "host"}
	if spec.Umask, err = umask(); err != nil {
		return api.Spec{}, err
	}
	if f.stdin != "" {
		if spec.Stdin, err = filepath.Abs(f.stdin); err != nil {
			return api.Spec{}, err
		}
		file, err := os.Open(spec.Stdin)
		if err != nil {
			return api.Spec{}, err
		}
		file.Close()
	}
	if f.terminal {
		spec.Rows, spec.Cols = 24, 80
		if w, err := unix.IoctlGetWinsize(int(a.out.Fd()), unix.TIOCGWINSZ); err == nil && w.Row > 0 && w.Col > 0 {
			spec.Rows, spec.Cols = w.Row, w.Col
		}
	}
	return spec, nil
}

// umask reads the umask without changing it, see proc_pid_status(5).
func umask() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	mask, err := strconv.ParseUint(statusField(string(status), "Umask"), 8, 16)
	return int(mask), err
}

// findCommand looks for a command as execvp(3) does, so that a wrong name is
// an error before anything is made.
func (a *app) findCommand(name string) error {
	missing := func() error {
		hint := "it is in no directory of PATH; give its path"
		if strings.Contains(name, "/") {
			hint = "there is no such file; a relative path begins at the current directory"
		}
		return api.Errorf(codeNotFound, hint, "%s: command not found", name)
	}
	if name == "" {
		return missing()
	}
	if strings.Contains(name, "/") {
		return executable(name, missing)
	}
	denied := false
	for _, dir := range filepath.SplitList(a.getenv("PATH")) {
		if dir == "" {
			dir = "."
		}
		err := executable(filepath.Join(dir, name), missing)
		if err == nil {
			return nil
		}
		denied = denied || asError(err).Code == codeNotRunnable
	}
	if denied {
		return api.Errorf(codeNotRunnable, "a file of that name in PATH is not executable: give the path of the one that is meant", "%s: permission denied", name)
	}
	return missing()
}

// executable says why a path cannot be executed.
func executable(path string, missing func() error) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return missing()
	case err != nil:
		return api.Errorf(codeNotRunnable, "look at the rights of the directories above it", "%w", err)
	case info.IsDir():
		return api.Errorf(codeNotRunnable, "name a program in it", "%s: is a directory", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return api.Errorf(codeNotRunnable, "make it executable, or name its interpreter", "%s: %w", path, err)
	}
	return nil
}
