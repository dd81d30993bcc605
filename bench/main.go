// Command bench measures package durable against whole engines that answer
// after fsync, in turn and in the same run, and prints ratios with the goal
// beside each. README.md says what each number means.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	dir     string // where databases are made
	only    string // engines
	rounds  int
	seconds time.Duration // of one measurement
	keys    int
	value   int
	kills   int
	budget  time.Duration
	calm    time.Duration // that a writer is watched without a checkpoint
	warm    bool
	profile string
}

// modes are what can be measured.
var modes = map[string]func(config) error{
	"commits":    runCommits,
	"recovery":   runRecovery,
	"checkpoint": runCheckpoint,
	"budget":     runBudget,
	"sessions":   runSessions,
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childName {
		exit(runChild(os.Args[2:]))
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	c := config{calm: 2 * time.Second}
	flags.StringVar(&c.dir, "dir", os.TempDir(), "make databases below this `directory`, on a real disk")
	flags.StringVar(&c.only, "only", "", "measure only these `engines`, with commas between them")
	flags.IntVar(&c.rounds, "rounds", 5, "take the median of so many `rounds`")
	flags.DurationVar(&c.seconds, "time", 2*time.Second, "`duration` of one measurement of commits")
	flags.IntVar(&c.keys, "keys", 5_000_000, "`number` of keys of a state")
	flags.IntVar(&c.value, "value", 200, "size of a value of a state, in `bytes`")
	flags.IntVar(&c.kills, "kills", 100, "`number` of kills of budget")
	flags.DurationVar(&c.budget, "budget", 2*time.Second, "RecoveryBudget of durable, a `duration`")
	flags.BoolVar(&c.warm, "warm", false, "leave the page cache as it is")
	flags.StringVar(&c.profile, "profile", "", "write CPU profiles of durable into this `directory`")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench commits|recovery|checkpoint|budget|sessions [flags]")
		flags.PrintDefaults()
	}
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		flags.Usage()
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:]) // exits
	exit(run(os.Args[1], c))
}

// run measures in a directory that is gone afterwards, also when it is
// interrupted.
func run(mode string, c config) (err error) {
	if c.dir, err = os.MkdirTemp(c.dir, "wakepoint-bench-"); err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- modes[mode](c) }()
	select {
	case err = <-ended:
	case s := <-interrupted:
		err = fmt.Errorf("ended by a signal: %v", s)
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// scratch makes a directory for one database, and remove takes it away.
func (c config) scratch(name string) (dir string, remove func(), err error) {
	dir = filepath.Join(c.dir, name)
	return dir, func() { _ = os.RemoveAll(dir) }, os.MkdirAll(dir, 0o755)
}
